/** What a session holds to send, where some hundreds of its streams stall. */
import { MemoryBudget } from "../../../src/bytes/memory_budget.ts";
import assert from "node:assert/strict";
import { test } from "node:test";
import { BlockPool } from "../../../src/bytes/block_pool.ts";
import { ChunkQueue } from "../../../src/bytes/chunk_queue.ts";
import { SendBudget, type SendingStream } from "../../../src/protocol/mux/send_budget.ts";
import { DEFAULT_QUEUE_LIMITS, SESSION_SEND_BUDGET_BYTES } from "../../../src/protocol/mux/queue_limits.ts";

const blocks = new BlockPool();
const CHUNK = new Uint8Array(64 * 1024);

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
      this.#budget.mayGoOn(this) && !this.overflown
    );
  }
}

test("five hundred streams that stall leave room for one that doesn't, however often they are asked", () => {
  const budget = new SendBudget<Writer>(DEFAULT_QUEUE_LIMITS, {
    held: false,
    passes: () => true,
    ready: () => {},
  }, new MemoryBudget());
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
  const budget = new SendBudget<Writer>(DEFAULT_QUEUE_LIMITS, {
    held: true,
    passes: () => true,
    ready: () => {},
  }, new MemoryBudget());
  const writer = new Writer(budget);
  writer.drain();
  assert.equal(writer.outgoing.byteLength, DEFAULT_QUEUE_LIMITS.outgoingHighBytes);
});
