/** splice(): the joint alone, between two streams that the test plays. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { SallyportError } from "../../src/errors.ts";
import { IDLE_TICK_MS, IDLE_TICKS } from "../../src/protocol/mux/heartbeat.ts";
import type { Bytes, ByteStream, ByteStreamHandler } from "../../src/runtime/port.ts";
import { splice, type SpliceOptions } from "../../src/transport/splice.ts";
import { VirtualTime } from "../../src/runtime/memory/memory_time.ts";
import { pattern } from "../support/seeded.ts";

class Fake implements ByteStream {
  handler!: ByteStreamHandler;
  readonly calls: string[] = [];
  written = 0;
  bufferedBytes = 0;
  goesOn = true;
  peerPaused = false;
  aborted: Error | undefined;

  attach(handler: ByteStreamHandler): void {
    this.handler = handler;
  }
  write(chunk: Bytes): boolean {
    this.written += chunk.length;
    return this.goesOn;
  }
  closeWrite(): void {
    this.calls.push("closeWrite");
  }
  abort(error?: Error): void {
    this.calls.push("abort");
    this.aborted = error;
  }
  release(): void {
    this.calls.push("release");
  }
  pause(): void {
    this.calls.push("pause");
  }
  resume(): void {
    this.calls.push("resume");
  }
}

function joint(over: Partial<SpliceOptions> = {}) {
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
  });
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
    const { agent, meter } = joint({ received: pattern(5) });
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

  it("says once of a visitor that it stays, and nothing of one that leaves before", async () => {
    let stays = 0;
    const { time, visitor, agent } = joint({ stays: () => stays++ });
    await time.advance(IDLE_TICK_MS - 1);
    assert.equal(stays, 0);
    await time.advance(IDLE_TICK_MS);
    assert.equal(stays, 1);
    for (const side of [visitor, agent]) side.handler.close();
    const short = joint({ stays: () => stays++ });
    for (const side of [short.visitor, short.agent]) side.handler.close();
    await short.time.advance(10 * IDLE_TICK_MS);
    assert.equal(stays, 1);
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

  it("the watch ends with the splice", async () => {
    const { time, visitor, agent, done } = joint();
    visitor.handler.close();
    agent.handler.close();
    visitor.calls.length = 0;
    await time.advance(10 * IDLE_TICK_MS);
    assert.deepEqual([visitor.calls, done.length], [[], 1]);
  });
});
