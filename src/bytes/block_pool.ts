/**
 * Blocks of memory that go from queue to queue.
 *
 * @module
 */
import type { Bytes } from "./bytes.ts";
import { MemoryBudget } from "./memory_budget.ts";

/** The size of a pooled block. */
export const BLOCK_BYTES = 64 * 1024;
/** What a pool keeps for reuse: what a session's bulk streams hold while they wait for each other. */
const KEPT_BYTES = 4 * 1024 * 1024;

/**
 * Full-size blocks, kept for the next queue: a runtime wipes each new one, and its collector hears late of those that
 * are let go. What stands in a block is left over from others, so only what has been written to it may be looked at.
 */
export class BlockPool {
  readonly #free: Bytes[] = [];
  /** Counts the blocks that are out. */
  readonly memory: MemoryBudget;

  constructor(memory: MemoryBudget = new MemoryBudget()) {
    this.memory = memory;
  }

  /** A block of {@link BLOCK_BYTES}, or a smaller one of its own where less is wanted. */
  take(wantedBytes: number = BLOCK_BYTES): Bytes {
    const byteLength = Math.min(wantedBytes, BLOCK_BYTES);
    this.memory.hold(byteLength);
    return byteLength < BLOCK_BYTES
      ? new Uint8Array(byteLength)
      : this.#free.pop() ?? new Uint8Array(BLOCK_BYTES);
  }

  /** Takes back a block that isn't used any more, and that somebody may still be reading. */
  drop(block: Bytes): void {
    this.memory.letGo(block.length);
  }

  /** Gives back a block that has no other user; blocks of other sizes are dropped. */
  give(block: Bytes): void {
    this.memory.letGo(block.length);
    if (block.length === BLOCK_BYTES && this.#free.length * BLOCK_BYTES < KEPT_BYTES) this.#free.push(block);
  }
}
