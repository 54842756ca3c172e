/**
 * Bytes on their way out that the socket has not taken yet, and the buffers they wait in.
 *
 * @module
 */

import type { Bytes } from "../bytes/bytes.ts";
import { MemoryBudget } from "../bytes/memory_budget.ts";

const KiB = 1024;
/** Sizes of pooled buffers; each is four times the one before. */
export const BUFFER_SIZES = [4 * KiB, 16 * KiB, 64 * KiB, 256 * KiB] as const;
const LARGEST = BUFFER_SIZES.length - 1;
/** What a pool keeps of each size for reuse. */
const KEPT_PER_SIZE_BYTES = 512 * KiB;

/**
 * Buffers that go from connection to connection: a burst on one costs no allocation, and an idle one holds none.
 * Their contents are left over from earlier users, so only what has been written into one may be looked at.
 */
export class BufferPool {
  #free: Bytes[][] = BUFFER_SIZES.map(() => []);
  /** Counts the buffers that are out. */
  readonly memory: MemoryBudget;

  constructor(memory: MemoryBudget = new MemoryBudget()) {
    this.memory = memory;
  }

  /** A buffer of `BUFFER_SIZES[index]` bytes. */
  take(index: number): Bytes {
    this.memory.hold(BUFFER_SIZES[index]!);
    return this.#free[index]!.pop() ?? new Uint8Array(BUFFER_SIZES[index]!);
  }

  /** Takes back a buffer that the runtime may still read: it isn't used again. */
  drop(buffer: Bytes): void {
    this.memory.letGo(buffer.length);
  }

  /** Gives a buffer back that nobody else holds; other than pooled sizes are let go. */
  give(buffer: Bytes): void {
    const index = BUFFER_SIZES.indexOf(buffer.length as 4096);
    if (index < 0) return;
    this.memory.letGo(buffer.length);
    const free = this.#free[index]!;
    if (free.length * buffer.length < KEPT_PER_SIZE_BYTES) free.push(buffer);
  }
}

interface Block {
  readonly buffer: Bytes;
  start: number;
  end: number;
}

/**
 * First in, first out, in bytes; small chunks are put together so that they leave in one system call. A queue
 * without bytes holds no buffer.
 */
export class OutQueue {
  #pool: BufferPool;
  #blocks: Block[] = [];
  #bytes = 0;

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  /** Bytes waiting. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Copies `chunk` to the end, from `offset` on. */
  push(chunk: Bytes, offset = 0): void {
    this.#bytes += chunk.length - offset;
    while (offset < chunk.length) {
      let tail = this.#blocks[this.#blocks.length - 1];
      if (tail === undefined || tail.end === tail.buffer.length) {
        tail = { buffer: this.#pool.take(this.#sizeFor(chunk.length - offset)), start: 0, end: 0 };
        this.#blocks.push(tail);
      }
      const take = Math.min(chunk.length - offset, tail.buffer.length - tail.end);
      tail.buffer.set(
        offset === 0 && take === chunk.length ? chunk : chunk.subarray(offset, offset + take),
        tail.end,
      );
      tail.end += take;
      offset += take;
    }
  }

  /** A block behind others is the larger, the more waits already: whoever queues that much will queue more. */
  #sizeFor(bytes: number): number {
    const wanted = Math.max(bytes, this.#bytes - bytes);
    let index = 0;
    while (index < LARGEST && BUFFER_SIZES[index]! < wanted) index++;
    return index;
  }

  /**
   * A view of the first bytes waiting; valid until they are consumed, also while more is pushed. Empty if there are
   * none.
   */
  head(): Bytes {
    const head = this.#blocks[0];
    return head === undefined ? new Uint8Array(0) : head.buffer.subarray(head.start, head.end);
  }

  /** Takes `count` bytes off the head; at most the length that {@link head} had. */
  consume(count: number): void {
    const head = this.#blocks[0];
    if (head === undefined) return;
    head.start += count;
    this.#bytes -= count;
    if (head.start < head.end) return;
    if (this.#blocks.length === 1 && head.buffer.length === BUFFER_SIZES[LARGEST]) {
      // Kept while the connection is busy; release() lets it go.
      head.start = head.end = 0;
      return;
    }
    this.#blocks.shift();
    this.#pool.give(head.buffer);
  }

  /** Drops the bytes. `inFlight` says that the runtime may still read the first buffer, which then isn't reused. */
  clear(inFlight = false): void {
    for (const [index, { buffer }] of this.#blocks.entries()) {
      if (inFlight && index === 0) this.#pool.drop(buffer);
      else this.#pool.give(buffer);
    }
    this.#blocks = [];
    this.#bytes = 0;
  }

  /** Lets go of buffers without bytes. */
  release(): void {
    if (this.#bytes === 0 && this.#blocks.length > 0) this.clear();
  }
}
