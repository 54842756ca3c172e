/**
 * A pool of memory blocks shared by queues.
 *
 * @module
 */
import type { Bytes } from "./bytes.ts";
import { MemoryBudget } from "./memory_budget.ts";

/** The size of the largest block, and of the smallest. */
export const BLOCK_BYTES = 64 * 1024;
export const BLOCK_MIN_BYTES = 256;
/**
 * Bytes a block pool always keeps for reuse: what a session's bulk streams hold while they wait for each other. While
 * more is in use it keeps as much again, so that streams dropped with megabytes each don't wait for the collector.
 */
const KEPT_BYTES = 4 * 1024 * 1024;
/** The same for each smaller size: a ClientHello and an answer wait in such blocks. */
const KEPT_SMALL_BYTES = 64 * 1024;

/** Memory with the part of it that is in use, as a link of a queue. */
export class Block {
  /** May contain old data outside the part in use. */
  readonly bytes: Bytes;
  /** Where the part in use begins and ends. */
  readAt = 0;
  writtenTo = 0;
  next: Block | undefined;

  constructor(byteLength: number) {
    this.bytes = new Uint8Array(byteLength);
  }
}

/**
 * Blocks whose sizes are powers of two, kept for the next queue: the runtime zeroes each new block, and the garbage
 * collector frees dropped ones late.
 */
export class BlockPool {
  /** By size, from {@link BLOCK_MIN_BYTES} to {@link BLOCK_BYTES}. */
  readonly #free: Block[][] = Array.from({ length: indexFor(BLOCK_BYTES) + 1 }, () => []);
  /** Counts the blocks in use. */
  readonly memory: MemoryBudget;

  constructor(memory: MemoryBudget = new MemoryBudget()) {
    this.memory = memory;
  }

  /** A block with room for what is wanted, at most {@link BLOCK_BYTES}. */
  take(wantedBytes: number = BLOCK_BYTES): Block {
    const index = indexFor(Math.min(wantedBytes, BLOCK_BYTES));
    const byteLength = BLOCK_MIN_BYTES << index;
    this.memory.hold(byteLength);
    return this.#free[index]!.pop() ?? new Block(byteLength);
  }

  /** Discards a block that is no longer used but may still be read by someone else. */
  drop(block: Block): void {
    this.memory.letGo(block.bytes.length);
  }

  /** Returns a block that has no other user to the pool. */
  give(block: Block): void {
    const byteLength = block.bytes.length;
    this.memory.letGo(byteLength);
    const free = this.#free[indexFor(byteLength)]!;
    const keptBytes = byteLength === BLOCK_BYTES
      ? Math.max(KEPT_BYTES, this.memory.heldBytes)
      : KEPT_SMALL_BYTES;
    const freeBytes = free.length * byteLength;
    if (freeBytes < keptBytes) {
      block.readAt = block.writtenTo = 0;
      block.next = undefined;
      free.push(block);
      return;
    }
    release(block);
    if (freeBytes > keptBytes) release(free.pop()!);
  }
}

/** Frees a block of full size now. The collector would do it late, and small ones cost it less than they would here. */
function release({ bytes }: Block): void {
  if (bytes.length === BLOCK_BYTES) bytes.buffer.transfer(0);
}

/** The place of the smallest size with room for so many bytes. */
function indexFor(byteLength: number): number {
  return byteLength <= BLOCK_MIN_BYTES ? 0 : 24 - Math.clz32(byteLength - 1);
}
