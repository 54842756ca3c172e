/**
 * A pool of memory blocks shared by queues.
 *
 * @module
 */
import type { Bytes } from "./bytes.ts";
import { MemoryBudget } from "./memory_budget.ts";

/** The size of a pooled block. */
export const BLOCK_BYTES = 64 * 1024;
/** Bytes a block pool keeps for reuse: what a session's bulk streams hold while they wait for each other. */
const KEPT_BYTES = 4 * 1024 * 1024;

/**
 * Full-size blocks, kept for the next queue: the runtime zeroes each new block, and the garbage collector frees dropped
 * ones late. A block may contain old data, so read only what has been written to it.
 */
export class BlockPool {
  readonly #free: Bytes[] = [];
  /** Counts the blocks in use. */
  readonly memory: MemoryBudget;

  constructor(memory: MemoryBudget = new MemoryBudget()) {
    this.memory = memory;
  }

  /** A block of {@link BLOCK_BYTES}, or a smaller unpooled one if less is wanted. */
  take(wantedBytes: number = BLOCK_BYTES): Bytes {
    const byteLength = Math.min(wantedBytes, BLOCK_BYTES);
    this.memory.hold(byteLength);
    return byteLength < BLOCK_BYTES
      ? new Uint8Array(byteLength)
      : this.#free.pop() ?? new Uint8Array(BLOCK_BYTES);
  }

  /** Discards a block that is no longer used but may still be read by someone else. */
  drop(block: Bytes): void {
    this.memory.letGo(block.length);
  }

  /** Returns a block that has no other user to the pool; blocks of other sizes are dropped. */
  give(block: Bytes): void {
    this.memory.letGo(block.length);
    if (block.length === BLOCK_BYTES && this.#free.length * BLOCK_BYTES < KEPT_BYTES) this.#free.push(block);
  }
}
