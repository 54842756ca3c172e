/** splice(): the joint alone, between two streams that the test plays. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { SallyportError } from "../../src/errors.ts";
import { IDLE_TICK_MS, IDLE_TICKS } from "../../src/protocol/mux/heartbeat.ts";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { idleTicks, Splice, splice, type SpliceOptions } from "../../src/transport/splice.ts";
import { VirtualTime } from "../../src/runtime/memory/memory_time.ts";
import { RecordedStream } from "../support/recorded_stream.ts";
import { pattern } from "../support/seeded.ts";

class Fake extends RecordedStream {
  written = 0;
  probed = 0;
  goesOn = true;
  peerPaused = false;
  aborted: Error | undefined;

  write(chunk: Bytes): boolean {
    this.written += chunk.length;
    return this.goesOn;
  }
  abort(error?: Error): void {
    this.calls.push("abort");
    this.aborted = error;
  }
  keepAlive(): void {
    this.probed++;
  }
}

function joint(over: Partial<SpliceOptions> = {}, received?: Bytes) {
  const time = new VirtualTime();
  const visitor = new Fake();
  const agent = new Fake();
  const meter = { bytesToAgent: 0, bytesToVisitor: 0 };
  const done: (Error | undefined)[] = [];
  splice({
    visitorSide: visitor,
    agentSide: agent,
    stream: agent,
    clock: time.clock,
    meter,
    done: (error) => void done.push(error),
    ...over,
  }, received);
  return { time, visitor, agent, meter, done };
}

describe("splice(): bytes", () => {
  it("go across, and are counted by direction", () => {
    const { visitor, agent, meter } = joint();
    visitor.handler.data(pattern(10));
    agent.handler.data(pattern(300));
    assert.deepEqual([agent.written, visitor.written], [10, 300]);
    assert.deepEqual(meter, { bytesToAgent: 10, bytesToVisitor: 300 });
  });

  it("that were read before go first, and count", () => {
    const { agent, meter } = joint({}, pattern(5));
    assert.deepEqual([agent.written, meter.bytesToAgent], [5, 5]);
  });

  it("need no meter", () => {
    const { visitor, agent } = joint({ meter: undefined });
    visitor.handler.data(pattern(10));
    assert.equal(agent.written, 10);
  });

  it("stop their source while the other side takes no more, and go on when it drains", () => {
    const { visitor, agent } = joint();
    agent.goesOn = false;
    visitor.handler.data(pattern(10));
    assert.deepEqual([visitor.calls, agent.calls], [["pause"], []]);
    agent.handler.drain();
    assert.deepEqual([visitor.calls, agent.calls], [["pause", "resume"], []]);
  });
});

describe("Splice, whose agent's side comes later", () => {
  /** A splice that waits for 10 s, twice. */
  class Waiting extends Splice {
    waits = 2;
    over = 0;

    start(): this {
      this.awaitAgentSide(10_000);
      return this;
    }
    protected override late(): number {
      return --this.waits > 0 ? 10_000 : 0;
    }
    end(): void {
      this.giveUp();
    }
    protected override done(): void {
      this.over++;
    }
  }
  function waiting() {
    const time = new VirtualTime();
    const [visitor, agent] = [new Fake(), new Fake()];
    const splice = new Waiting(visitor, { clock: time.clock, idleTicks: idleTicks(60_000) }).start();
    return { time, visitor, agent, splice };
  }

  it("asks when the wait is over, as often as it is told to", async () => {
    const { time, splice } = waiting();
    await time.advance(9_999);
    assert.equal(splice.waits, 2);
    await time.advance(1);
    assert.equal(splice.waits, 1);
    await time.advance(10_000);
    assert.equal(splice.waits, 0);
    await time.advance(1_000_000);
    assert.equal(splice.waits, 0);
  });

  it("counts the wait as the beginning of the first idle tick: one timer serves both", async () => {
    const { time, visitor, agent, splice } = waiting();
    await time.advance(4_000);
    splice.join(agent, agent);
    visitor.handler.data(pattern(10));
    await time.advance(IDLE_TICK_MS * 3 - 4_001);
    assert.deepEqual(visitor.calls, []);
    await time.advance(1);
    assert.deepEqual([visitor.calls, (visitor.aborted as SallyportError).code], [["abort"], "session_idle"]);
    visitor.handler.close();
    agent.handler.close();
    assert.deepEqual([splice.over, splice.waits], [1, 2]);
  });

  it("asks no more once it is given up", async () => {
    const { time, splice } = waiting();
    splice.end();
    await time.advance(1_000_000);
    assert.deepEqual([splice.waits, splice.over], [2, 0]);
  });

  it("can be evicted while it waits", () => {
    const { visitor, splice } = waiting();
    assert.equal(splice.heldBytes, 0);
    splice.evict();
    assert.ok(visitor.aborted instanceof SallyportError);
  });
});

describe("splice(): ends", () => {
  it("an end of one direction is passed on, the other goes on", () => {
    const { visitor, agent, done } = joint();
    visitor.handler.end();
    agent.handler.data(pattern(10));
    assert.deepEqual([agent.calls, visitor.calls, visitor.written, done], [["closeWrite"], [], 10, []]);
  });

  it("done() comes once, when both sides are over", () => {
    const { visitor, agent, done } = joint();
    visitor.handler.close();
    assert.deepEqual([agent.calls, done], [["release"], []]);
    agent.handler.close();
    assert.deepEqual([visitor.calls, done], [["release"], [undefined]]);
  });

  it("a visitor that breaks off lets its bytes be delivered; a session's stream that breaks off ends the visitor", () => {
    const broken = new SallyportError("connection_lost", "Gone", { side: "network" });
    const byVisitor = joint();
    byVisitor.visitor.handler.close(broken);
    assert.deepEqual(byVisitor.agent.calls, ["release"]);
    byVisitor.agent.handler.close();
    assert.deepEqual(byVisitor.done, [broken]);
    const byStream = joint();
    byStream.agent.handler.close(broken);
    assert.deepEqual([byStream.visitor.calls, byStream.visitor.aborted], [["abort"], broken]);
  });

  it("done() says the first error of the two", () => {
    const { visitor, agent, done } = joint();
    const first = new Error("first");
    agent.handler.close(first);
    visitor.handler.close(new Error("second"));
    assert.deepEqual(done, [first]);
  });
});

describe("splice(): the idle watch", () => {
  const idleMs = (IDLE_TICKS - 1) * IDLE_TICK_MS;

  it("aborts both sides with session_idle after three ticks without a byte", async () => {
    const { time, visitor, agent } = joint();
    await time.advance(idleMs - 1);
    assert.deepEqual([visitor.calls, agent.calls], [[], []]);
    await time.advance(1);
    assert.deepEqual([visitor.calls, agent.calls], [["abort"], ["abort"]]);
    assert.equal((visitor.aborted as SallyportError).code, "session_idle");
    assert.equal(agent.aborted, visitor.aborted);
    assert.match(visitor.aborted!.message, /90 s/);
  });

  it("a byte either way begins it anew", async () => {
    for (const from of ["visitor", "agent"] as const) {
      const sides = joint();
      await sides.time.advance(idleMs - 1);
      sides[from].handler.data(pattern(1));
      await sides.time.advance(idleMs);
      assert.deepEqual(sides.visitor.calls, []);
      await sides.time.advance(1);
      assert.deepEqual(sides.visitor.calls, ["abort"]);
    }
  });

  it("has the system probe both sides of a visitor that stays, once, and of none that leaves before", async () => {
    const { time, visitor, agent } = joint({ idleTicks: 10 });
    await time.advance(IDLE_TICK_MS - 1);
    assert.deepEqual([visitor.probed, agent.probed], [0, 0]);
    await time.advance(2 * IDLE_TICK_MS);
    assert.deepEqual([visitor.probed, agent.probed], [1, 1]);
    for (const side of [visitor, agent]) side.handler.close();
    const short = joint();
    for (const side of [short.visitor, short.agent]) side.handler.close();
    await short.time.advance(10 * IDLE_TICK_MS);
    assert.deepEqual([short.visitor.probed, short.agent.probed], [0, 0]);
  });

  it("bytes that drain towards a slow reader count", async () => {
    const { time, visitor } = joint();
    visitor.bufferedBytes = 1000;
    for (let i = 0; i < 10; i++) {
      await time.advance(IDLE_TICK_MS);
      visitor.bufferedBytes--;
    }
    assert.deepEqual(visitor.calls, []);
  });

  it("a session's stream whose peer is paused counts: it hands on what it got", async () => {
    const { time, visitor, agent } = joint();
    agent.peerPaused = true;
    await time.advance(10 * IDLE_TICK_MS);
    assert.deepEqual([visitor.calls, agent.calls], [[], []]);
    agent.peerPaused = false;
    await time.advance(idleMs);
    assert.deepEqual(visitor.calls, ["abort"]);
  });

  it("bytes that only pile up in front of the other side don't count", async () => {
    for (const to of ["agent", "visitor"] as const) {
      const sides = joint();
      const from = to === "agent" ? "visitor" : "agent";
      for (let tick = 0; tick < 3; tick++) {
        assert.deepEqual(sides.visitor.calls, []);
        sides[from].handler.data(pattern(10));
        sides[to].bufferedBytes += 10;
        await sides.time.advance(IDLE_TICK_MS);
      }
      assert.deepEqual(sides.visitor.calls, ["abort"], to);
      assert.match(sides.visitor.aborted!.message, /no queued byte was read for 90 s/);
    }
  });

  it("lasts as long as is set where both sides have spoken and nothing waits", async () => {
    const { time, visitor, agent } = joint({ idleTicks: 121, firstByteMs: 5_000 });
    visitor.handler.data(pattern(1));
    agent.handler.data(pattern(1));
    await time.advance(5_000 + 121 * IDLE_TICK_MS - 1);
    assert.deepEqual(visitor.calls, []);
    await time.advance(1);
    assert.deepEqual(visitor.calls, ["abort"]);
    assert.match(visitor.aborted!.message, /no byte in either direction for 3600 s/);
  });

  it("is 90 s where bytes wait, however long quiet may last", async () => {
    for (const side of ["visitor", "agent"] as const) {
      const sides = joint({ idleTicks: 121 });
      sides[side].bufferedBytes = 1;
      // The first look finds that they have come.
      await sides.time.advance(IDLE_TICK_MS + idleMs);
      assert.deepEqual(sides.visitor.calls, ["abort"], side);
    }
  });

  it("is 90 s where one side hasn't spoken and was expected to", async () => {
    for (const [speaks, ticks] of [["agent", 121], ["agent", 3]] as const) {
      const sides = joint({ idleTicks: ticks, firstByteMs: 1_000 });
      sides[speaks].handler.data(pattern(1));
      await sides.time.advance(1_000 + IDLE_TICK_MS + (Math.min(ticks, IDLE_TICKS) - 1) * IDLE_TICK_MS);
      assert.deepEqual(sides.visitor.calls, ["abort"], `${ticks}`);
    }
    // Where nothing was expected, silence is in order.
    const quiet = joint({ idleTicks: 121 });
    await quiet.time.advance(100 * IDLE_TICK_MS);
    assert.deepEqual(quiet.visitor.calls, []);
  });

  it("idleTicks() are whole ticks, and one more", () => {
    for (const [ms, ticks] of [[0, 2], [1, 2], [IDLE_TICK_MS, 2], [IDLE_TICK_MS + 1, 3], [3_600_000, 121]]) {
      assert.equal(idleTicks(ms!), ticks, `${ms}`);
    }
  });

  it("the watch ends with the splice", async () => {
    const { time, visitor, agent, done } = joint();
    visitor.handler.close();
    agent.handler.close();
    visitor.calls.length = 0;
    await time.advance(10 * IDLE_TICK_MS);
    assert.deepEqual([visitor.calls, done.length], [[], 1]);
  });
});

describe("splice(): an endpoint that doesn't answer", () => {
  it("loses its stream at firstByteMs, and the visitor is told", async () => {
    for (const farewell of [pattern(7), undefined]) {
      const { time, visitor, agent, done } = joint({ firstByteMs: 20_000, farewell });
      visitor.handler.data(pattern(100));
      await time.advance(19_999);
      assert.deepEqual([visitor.calls, agent.calls], [[], []]);
      await time.advance(1);
      assert.deepEqual(agent.calls, ["abort"]);
      assert.deepEqual(visitor.calls, [farewell === undefined ? "abort" : "release"]);
      assert.equal(visitor.written, farewell === undefined ? 0 : 7);
      const { code, retryable, message } = agent.aborted as SallyportError;
      assert.deepEqual([code, retryable], ["deadline_exceeded", true]);
      assert.match(message, /hasn't answered in 20 s/);
      visitor.handler.close();
      agent.handler.close();
      assert.deepEqual(done, [agent.aborted], "done() says why");
    }
  });

  it("keeps its stream where it has answered by then, even with a byte", async () => {
    const { time, visitor, agent } = joint({ firstByteMs: 20_000, farewell: pattern(7) });
    agent.handler.data(pattern(1));
    await time.advance(20_000);
    assert.deepEqual([visitor.calls, agent.calls, visitor.written], [[], [], 1]);
  });

  it("the loss of the session before a byte gives the visitor the farewell, after one a reset", () => {
    const broken = new SallyportError("connection_lost", "Gone", { side: "network" });
    for (const answered of [false, true]) {
      const { visitor, agent } = joint({ farewell: pattern(7) });
      if (answered) agent.handler.data(pattern(1));
      agent.handler.close(broken);
      assert.deepEqual(visitor.calls, [answered ? "abort" : "release"]);
      assert.equal(visitor.written, answered ? 1 : 7);
    }
  });

  it("at the agent the session's stream is the visitor's side", () => {
    const broken = new SallyportError("connection_lost", "Gone", { side: "network" });
    const visitor = new Fake();
    const { agent } = joint({ visitorSide: visitor, stream: visitor });
    visitor.handler.close(broken);
    assert.deepEqual([agent.calls, agent.aborted], [["abort"], broken]);
  });
});
