/** What a session holds to send, where some hundreds of its streams stall. */
import assert from "node:assert/strict";
import { test } from "node:test";
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
    budget.sent(working.outgoing.byteLength);
    working.outgoing.clear();
  }
  assert.equal([...stalled, working].some(({ overflown }) => overflown), false);
  const heldBytes = stalled.reduce((sum, { outgoing }) => sum + outgoing.byteLength, 0);
  assert.ok(heldBytes <= SESSION_SEND_BUDGET_BYTES);
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
