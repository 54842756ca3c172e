import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Entrant, type Lane, race } from "../../src/agent/race.ts";
import { type ErrorCode, SallyportError } from "../../src/errors.ts";
import { createMemoryNetwork, type MemoryNetwork } from "../../src/runtime/memory/memory.ts";
import { ATTEMPT_DELAY_MS, TURN_PATIENCE_MS } from "../../src/agent/race.ts";

/** A race among attempts that a test moves along by hand, and what became of each. */
class Track {
  readonly network: MemoryNetwork = createMemoryNetwork();
  readonly events: string[] = [];
  readonly lanes = new Map<string, Lane>();
  readonly ends = new Map<string, { resolve(value: string): void; reject(error: unknown): void }>();
  readonly control = new AbortController();

  run(...names: string[]): Promise<string> {
    const outcome = race(names.map((name) => this.#entrant(name)), {
      clock: this.network.clock,
      signal: this.control.signal,
      failed: (name) => void this.events.push(`${name} failed`),
      lost: (name) => void this.events.push(`${name} lost`),
    });
    outcome.catch(() => {});
    return outcome;
  }

  #entrant(name: string): Entrant<string> {
    return {
      name,
      start: (lane) => {
        this.events.push(`${name} starts at ${this.network.clock.nowMs()}`);
        this.lanes.set(name, lane);
        return new Promise((resolve, reject) => {
          this.ends.set(name, { resolve, reject });
          lane.signal.addEventListener("abort", () => reject(lane.signal.reason));
        });
      },
    };
  }

  ready(name: string): void {
    this.lanes.get(name)!.turn().then(() => this.events.push(`${name} goes`), () => {});
  }

  async settled(): Promise<void> {
    await this.network.advance(0);
  }

  take(): string[] {
    return this.events.splice(0);
  }
}

const failure = (code: ErrorCode, retryable = true) =>
  new SallyportError(code, `it is ${code}`, { side: "network", retryable });

describe("race: the start", () => {
  it("is staggered, and sooner after a failure", async () => {
    const track = new Track();
    const outcome = track.run("a", "b", "c", "d");
    await track.network.advance(ATTEMPT_DELAY_MS - 1);
    assert.deepEqual(track.take(), ["a starts at 0"]);
    await track.network.advance(1);
    assert.deepEqual(track.take(), ["b starts at 250"]);
    await track.network.advance(100);
    track.ends.get("a")!.reject(failure("edge_unreachable"));
    await track.settled();
    assert.deepEqual(track.take(), ["a failed", "c starts at 350"]);
    // The delay counts from the last start.
    await track.network.advance(ATTEMPT_DELAY_MS - 1);
    assert.deepEqual(track.take(), []);
    await track.network.advance(1);
    assert.deepEqual(track.take(), ["d starts at 600"]);
    track.ends.get("c")!.resolve("c's");
    assert.equal(await outcome, "c's");
    assert.deepEqual(track.take(), ["b lost", "d lost"]);
    assert.deepEqual(["b", "d"].map((name) => track.lanes.get(name)!.signal.aborted), [true, true]);
    assert.equal(track.lanes.get("c")!.signal.aborted, false);
    await track.network.runUntilIdle();
    assert.equal(track.network.clock.nowMs(), 600, "no timer is left");
  });

  it("isn't made by anybody else once one has got there", async () => {
    const track = new Track();
    const outcome = track.run("a", "b");
    track.lanes.get("a")!.arrived();
    await track.network.advance(10 * ATTEMPT_DELAY_MS);
    assert.deepEqual(track.take(), ["a starts at 0"]);
    track.ends.get("a")!.resolve("late");
    assert.equal(await outcome, "late");
  });
});

describe("race: turns", () => {
  it("are one at a time, and pass on when one fails", async () => {
    const track = new Track();
    const outcome = track.run("a", "b", "c");
    await track.network.advance(2 * ATTEMPT_DELAY_MS);
    track.take();
    for (const name of ["c", "b", "a"]) {
      track.ready(name);
      await track.settled();
    }
    assert.deepEqual(track.take(), ["c goes"]);
    track.ends.get("c")!.reject(failure("session_refused"));
    await track.settled();
    assert.deepEqual(track.take(), ["c failed", "a goes"]);
    track.lanes.get("a")!.arrived();
    track.ends.get("a")!.resolve("a's");
    assert.equal(await outcome, "a's");
    assert.deepEqual(track.take(), ["b lost"]);
    await assert.rejects(track.lanes.get("b")!.turn(), { code: "aborted" });
  });

  it("end in time where another is ready, and only then", async () => {
    const track = new Track();
    const outcome = track.run("a", "b");
    track.ready("a");
    await track.network.advance(10 * TURN_PATIENCE_MS);
    assert.deepEqual(track.take(), ["a starts at 0", "a goes", "b starts at 250"]);
    track.ready("b");
    await track.settled();
    assert.deepEqual(track.take(), ["a failed", "b goes"]);
    // What was ended doesn't win any more.
    track.lanes.get("a")!.arrived();
    assert.equal(track.lanes.get("b")!.signal.aborted, false);
    track.ends.get("b")!.resolve("b's");
    assert.equal(await outcome, "b's");
  });
});

describe("race: the failure", () => {
  it("names all, with the code of the one that came furthest", async () => {
    const track = new Track();
    const outcome = track.run("a", "b");
    track.ends.get("a")!.reject(failure("edge_unreachable"));
    await track.settled();
    track.ready("b");
    await track.settled();
    track.ends.get("b")!.reject(failure("token_expired", false));
    await assert.rejects(outcome, {
      code: "token_expired",
      retryable: true,
      message: "Cannot open session by any transport: a: it is edge_unreachable; b: it is token_expired",
    });
  });

  it("of a lone attempt is its own", async () => {
    const track = new Track();
    const outcome = track.run("a");
    const error = failure("name_taken");
    track.ends.get("a")!.reject(error);
    await assert.rejects(outcome, (thrown) => thrown === error);
  });

  it("behind the arrival is the race's, and starts nobody", async () => {
    const track = new Track();
    const outcome = track.run("a", "b");
    track.lanes.get("a")!.arrived();
    track.ends.get("a")!.reject(failure("config_invalid"));
    await assert.rejects(outcome, { code: "config_invalid" });
    await track.network.advance(1_000);
    assert.deepEqual(track.take(), ["a starts at 0", "a failed"]);
  });

  it("comes at once when all is called off, before the start too", async () => {
    const track = new Track();
    const outcome = track.run("a", "b");
    track.ready("a");
    track.control.abort(failure("shutdown"));
    await assert.rejects(outcome, { code: "shutdown" });
    assert.equal(track.lanes.get("a")!.signal.aborted, true);
    await assert.rejects(track.run("c"), { code: "shutdown" });
    await track.network.runUntilIdle();
    assert.deepEqual(track.take(), ["a starts at 0", "a goes"]);
  });
});
