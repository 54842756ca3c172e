/** What a session holds to send, where some hundreds of its streams stall. */
import assert from "node:assert/strict";
import { describe, it, test } from "node:test";
import { BlockPool } from "../../../src/bytes/block_pool.ts";
import { ChunkQueue } from "../../../src/bytes/chunk_queue.ts";
import { SendBudget, type SendingStream } from "../../../src/protocol/mux/send_budget.ts";
import { DEFAULT_QUEUE_LIMITS, SESSION_SEND_BUDGET_BYTES } from "../../../src/protocol/mux/queue_limits.ts";

const blocks = new BlockPool();
const CHUNK = new Uint8Array(64 * 1024);

/** A sender that takes everything. */
const OPEN = { held: false, windowBytes: Infinity, roomBytes: Infinity, passes: () => true, ready: () => {} };

class Writer implements SendingStream {
  readonly outgoing = new ChunkQueue(blocks);
  readonly #budget: SendBudget<Writer>;
  overflown = false;

  constructor(budget: SendBudget<Writer>) {
    this.#budget = budget;
  }

  /** Writes as long as it may. */
  drain(): void {
    do this.overflown ||= !this.#budget.queue(this, CHUNK); while (
      this.#budget.mayGoOn(this, CHUNK.length) && !this.overflown
    );
  }
}

test("five hundred streams that stall leave room for one that doesn't, however often they are asked", () => {
  const budget = new SendBudget<Writer>(DEFAULT_QUEUE_LIMITS, OPEN);
  const stalled = Array.from({ length: 500 }, () => new Writer(budget));
  for (const writer of stalled) writer.drain();
  for (let i = 0; i < 3; i++) budget.tellDrained();
  const working = new Writer(budget);
  for (let i = 0; i < 100; i++) {
    working.drain();
    const { byteLength } = working.outgoing;
    working.outgoing.clear();
    budget.sent(working, byteLength);
  }
  assert.equal([...stalled, working].some(({ overflown }) => overflown), false);
  const heldBytes = stalled.reduce((sum, { outgoing }) => sum + outgoing.byteLength, 0);
  assert.ok(heldBytes <= SESSION_SEND_BUDGET_BYTES);
});

test("a stream whose peer reads nothing keeps no other from writing on", () => {
  const budget = new SendBudget<Asked>(DEFAULT_QUEUE_LIMITS, OPEN);
  const stalled = Array.from({ length: 20 }, () => new Asked());
  for (const stream of stalled) {
    while (budget.mayGoOn(stream, CHUNK.length)) budget.queue(stream, CHUNK);
  }
  const working = new Asked();
  for (let turn = 0; turn < 100; turn++) {
    assert.equal(budget.mayGoOn(working, CHUNK.length), true, "it doesn't stand in line behind them");
    assert.equal(budget.tellDrained(), false, "nobody is left to tell");
  }
  assert.equal(told(stalled), 0, "those whose queue is full are asked for nothing");
  const [first] = stalled;
  const byteLength = first!.outgoing.byteLength - DEFAULT_QUEUE_LIMITS.outgoingLowBytes;
  first!.outgoing.drop(byteLength);
  budget.sent(first!, byteLength);
  budget.tellDrained();
  assert.equal(first!.times, 1, "its peer reads again");
});

test("a stream alone may hold as much as its own bound says", () => {
  const budget = new SendBudget<Writer>(DEFAULT_QUEUE_LIMITS, { ...OPEN, held: true });
  const writer = new Writer(budget);
  writer.drain();
  assert.equal(writer.outgoing.byteLength, DEFAULT_QUEUE_LIMITS.outgoingHighBytes);
});

/** A stream whose socket brings a chunk each time it is asked, or nothing. */
class Asked implements SendingStream {
  readonly outgoing = new ChunkQueue(blocks);
  times = 0;
  drain(): void {
    this.times++;
  }
}

const told = (streams: readonly Asked[]): number => streams.filter(({ times }) => times > 0).length;

test("of many streams that wait as many are asked as there is room for what they bring", () => {
  let roomBytes = 0;
  const budget = new SendBudget<Asked>(DEFAULT_QUEUE_LIMITS, {
    ...OPEN,
    windowBytes: 8 * CHUNK.length,
    get roomBytes() {
      return roomBytes;
    },
    passes: () => roomBytes > 0,
  });
  const streams = Array.from({ length: 10 }, () => new Asked());
  for (const stream of streams) assert.equal(budget.mayGoOn(stream, CHUNK.length), false);
  assert.equal(budget.tellDrained(), false);
  assert.equal(told(streams), 0);
  roomBytes = 3 * CHUNK.length;
  assert.equal(budget.tellDrained(), true, "those that were asked may bring nothing");
  assert.equal(told(streams), 3);
  assert.equal(budget.mayGoOn(streams[0]!, CHUNK.length), false, "it gets in line behind the others");
  assert.equal(budget.mayGoOn(streams[1]!, 64), true, "small frames don't");
  for (let i = 0; i < 2; i++) assert.equal(budget.tellDrained(), true);
  assert.equal(told(streams), 9);
  assert.deepEqual([budget.tellDrained(), streams.map(({ times }) => times)], [
    false,
    [2, ...Array(9).fill(1)],
  ]);
});

test("a stream that brings more than may be on its way is asked once half of that has arrived", () => {
  const sender = { ...OPEN, windowBytes: 1000, roomBytes: 499 };
  const budget = new SendBudget<Asked>(DEFAULT_QUEUE_LIMITS, { ...sender, passes: () => false });
  const later = new SendBudget<Asked>(DEFAULT_QUEUE_LIMITS, {
    ...sender,
    roomBytes: 500,
    passes: () => false,
  });
  for (const each of [budget, later]) {
    const stream = new Asked();
    each.mayGoOn(stream, CHUNK.length);
    each.tellDrained();
    assert.equal(stream.times, each === later ? 1 : 0);
  }
});

/** Stands for the other streams of a session. */
const OTHER: SendingStream = { outgoing: new ChunkQueue(blocks), drain: () => {} };

/** A budget with small bounds, a stream, and what the stream has heard. */
function bench(limits: { high?: number; low?: number; max?: number } = {}) {
  const { high = 1_000, low = 400, max = 2_000 } = limits;
  const sender = { ...OPEN, passes: (_queuedBytes: number) => true };
  const budget = new SendBudget<SendingStream>({
    ...DEFAULT_QUEUE_LIMITS,
    outgoingMaxBytes: max,
    outgoingLowBytes: low,
    outgoingHighBytes: high,
  }, sender);
  let drained = 0;
  const stream: SendingStream = { outgoing: new ChunkQueue(blocks), drain: () => void drained++ };
  return {
    budget,
    sender,
    stream,
    drained: () => drained,
    queue: (byteLength: number) => budget.queue(stream, new Uint8Array(byteLength)),
    /** As if other streams held this much. */
    others: (byteLength: number) => budget.sent(OTHER, -byteLength),
    /** Some of the stream's bytes go out. */
    send: (byteLength: number) => {
      stream.outgoing.drop(byteLength);
      budget.sent(stream, byteLength);
    },
  };
}

describe("SendBudget: bounds", () => {
  it("queue() is true up to the stream's bound", () => {
    const { queue } = bench({ max: 2_000 });
    assert.equal(queue(2_000), true);
    assert.equal(queue(1), false);
  });

  it("queue() is true up to the session's budget", () => {
    const { queue, others } = bench();
    others(SESSION_SEND_BUDGET_BYTES - 10);
    assert.equal(queue(10), true);
    assert.equal(queue(1), false);
  });

  it("queue() hands the stream to the sender", () => {
    const { budget, sender, stream } = bench();
    const ready: unknown[] = [];
    Object.assign(sender, { ready: (stream: unknown) => ready.push(stream) });
    budget.queue(stream, new Uint8Array(1));
    assert.deepEqual(ready, [stream]);
  });

  it("mayGoOn() is true below the stream's high mark, where the sender lets it pass", () => {
    const { budget, sender, stream, queue } = bench({ high: 1_000 });
    queue(999);
    assert.equal(budget.mayGoOn(stream, 0), true);
    sender.passes = (queuedBytes) => queuedBytes < 999;
    assert.equal(budget.mayGoOn(stream, 0), false);
    sender.passes = () => true;
    queue(1);
    assert.equal(budget.mayGoOn(stream, 0), false);
  });

  it("a stream has a 512th of what is left once half of the budget is used", () => {
    const half = SESSION_SEND_BUDGET_BYTES / 2;
    for (
      const [others, most] of [
        [half - 1_000_000, 1_000_000],
        [half - 131_072 + 512, 131_071],
        [half + 100_000, (half - 100_000 - 130_816) / 512],
        [SESSION_SEND_BUDGET_BYTES - 5_130, 10],
      ] as const
    ) {
      const { budget, stream, queue, others: hold } = bench({ high: 1_000_000, max: 2_000_000 });
      hold(others);
      const below = Math.ceil(most) - 1;
      queue(below);
      assert.equal(budget.mayGoOn(stream, 0), true, `${others}: ${below}`);
      queue(Math.ceil(most) - below + 2);
      assert.equal(budget.mayGoOn(stream, 0), false, `${others}: ${below} and more`);
    }
  });
});

describe("SendBudget: half of the budget", () => {
  it("a stream has its own bound up to there, and a share from there on", () => {
    const half = SESSION_SEND_BUDGET_BYTES / 2;
    for (const [others, goesOn] of [[half - 131_073, true], [half - 131_072, false]] as const) {
      const { budget, stream, queue, others: hold } = bench({ high: 1_000_000, max: 2_000_000 });
      hold(others);
      queue(131_072);
      assert.equal(budget.mayGoOn(stream, 0), goesOn, `${others}`);
    }
  });
});

describe("SendBudget: drain", () => {
  it("tellDrained() tells a waiting stream at its low mark, once", () => {
    const { budget, stream, queue, send, drained } = bench({ high: 1_000, low: 400 });
    queue(1_000);
    budget.tellDrained();
    assert.equal(budget.mayGoOn(stream, 0), false);
    send(599);
    budget.tellDrained();
    assert.equal(drained(), 0);
    send(1);
    budget.tellDrained();
    budget.tellDrained();
    assert.equal(drained(), 1);
  });

  it("tellDrained() waits for half of the share where that is less", () => {
    const { budget, stream, queue, send, others, drained } = bench({ high: 100_000, low: 50_000 });
    queue(1_000);
    // The share of what is left is 1,000 bytes then.
    others(SESSION_SEND_BUDGET_BYTES - 1_000 - 512_000);
    assert.equal(budget.mayGoOn(stream, 0), false);
    send(498);
    budget.tellDrained();
    assert.equal(drained(), 0);
    send(2);
    budget.tellDrained();
    assert.equal(drained(), 1);
  });

  it("tellDrained() tells nobody while the sender is held", () => {
    const { budget, sender, stream, queue, send, drained } = bench();
    queue(1_000);
    budget.mayGoOn(stream, 0);
    send(1_000);
    sender.held = true;
    budget.tellDrained();
    assert.equal(drained(), 0);
    sender.held = false;
    budget.tellDrained();
    assert.equal(drained(), 1);
  });

  it("tellDrained() stops at the stream that fills the connection, and tells the rest later", () => {
    const { budget, sender } = bench();
    const told: string[] = [];
    for (const name of ["a", "b"]) {
      const stream: SendingStream = {
        outgoing: new ChunkQueue(blocks),
        drain: () => {
          told.push(name);
          sender.held = true;
        },
      };
      budget.queue(stream, new Uint8Array(1_000));
      budget.mayGoOn(stream, 0);
      stream.outgoing.clear();
      budget.sent(stream, 1_000);
    }
    budget.tellDrained();
    assert.deepEqual(told, ["a"]);
    sender.held = false;
    budget.tellDrained();
    assert.deepEqual(told, ["a", "b"]);
  });

  it("tellDrained() tells a stream with nothing queued, though it had to wait when the budget was exceeded", () => {
    const { budget, stream, others, drained } = bench();
    others(SESSION_SEND_BUDGET_BYTES + 1_000);
    assert.equal(budget.mayGoOn(stream, 0), false);
    others(-SESSION_SEND_BUDGET_BYTES);
    budget.tellDrained();
    assert.equal(drained(), 1);
  });

  it("forget() drops the stream's bytes and its wait", () => {
    const { budget, stream, queue, others, drained } = bench({ max: 100_000 });
    others(SESSION_SEND_BUDGET_BYTES - 1_000);
    assert.equal(queue(1_000), true);
    budget.mayGoOn(stream, 0);
    budget.forget(stream);
    assert.equal(stream.outgoing.byteLength, 0);
    budget.tellDrained();
    assert.equal(drained(), 0);
    assert.equal(queue(1_000), true, "its bytes are free again");
    assert.equal(queue(1), false);
  });
});
