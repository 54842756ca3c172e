/**
 * Outgoing bytes that the socket hasn't accepted yet, and their buffers.
 *
 * @module
 */

import { type Bytes, part } from "../bytes/bytes.ts";
import { MemoryBudget } from "../bytes/memory_budget.ts";

const KiB = 1024;
/** Sizes of pooled buffers; each is four times the previous one. */
export const BUFFER_SIZES = [4 * KiB, 16 * KiB, 64 * KiB, 256 * KiB] as const;
const LARGEST = BUFFER_SIZES.length - 1;
/**
 * Read buffer of an idle connection on Deno: 5.6 KB in total per idle connection, versus 20.5 KB with 16 KiB
 * (docs/runtimes.md). An agent's last handshake message plus the first ping don't fill it.
 */
export const IDLE_BUFFER_BYTES = 128;
/** Idle buffers kept for reuse. */
const IDLE_BUFFERS_KEPT = 256;
/**
 * Bytes of each size that a pool lends for reading before it lends the next smaller one, and bytes of each that it keeps
 * for reuse. The read buffers of many connections would fall out of the processor's caches, and a buffer that isn't kept
 * costs a page fault for every 4 KiB when it is allocated again.
 */
const PER_SIZE_BYTES = 2048 * KiB;

/**
 * Buffers shared between connections: a burst on one needs no allocation, and an idle one holds none. They contain data
 * of earlier users, so only bytes written by the current user may be read.
 */
export class BufferPool {
  readonly #free: Bytes[][] = BUFFER_SIZES.map(() => []);
  readonly #idle: Bytes[] = [];
  /** Buffers that connections read into, by size. */
  readonly #lent: number[] = BUFFER_SIZES.map(() => 0);
  /** Accounts for buffers in use. */
  readonly memory: MemoryBudget;

  constructor(memory: MemoryBudget = new MemoryBudget()) {
    this.memory = memory;
  }

  /** A buffer of `BUFFER_SIZES[index]` bytes. */
  take(index: number): Bytes {
    const size = BUFFER_SIZES[index]!;
    this.memory.hold(size);
    return this.#free[index]!.pop() ?? new Uint8Array(size);
  }

  /**
   * A buffer of `BUFFER_SIZES[wanted]` bytes to read into; a smaller one if many of that size are lent. Buffers with
   * queued bytes don't count: they wait for stalled peers, and those who read would be left with the smallest.
   */
  lend(wanted: number): Bytes {
    let index = wanted;
    while (index > 0 && this.#lent[index]! * BUFFER_SIZES[index]! >= PER_SIZE_BYTES) index--;
    this.#lent[index]!++;
    return this.take(index);
  }

  /** Accepts a buffer back that was lent, or taken idle. */
  takeBack(buffer: Bytes): void {
    const index = indexOf(buffer);
    if (index >= 0) this.#lent[index]!--;
    this.give(buffer);
  }

  /** A buffer of {@link IDLE_BUFFER_BYTES}. */
  takeIdle(): Bytes {
    return this.#idle.pop() ?? new Uint8Array(IDLE_BUFFER_BYTES);
  }

  /** Drops a buffer that the runtime may still read: it isn't reused. */
  drop(buffer: Bytes): void {
    if (indexOf(buffer) >= 0) this.memory.letGo(buffer.length);
  }

  /** Returns a buffer with no other users; buffers of other than pooled sizes are dropped. */
  give(buffer: Bytes): void {
    const index = indexOf(buffer);
    if (index < 0) {
      if (buffer.length === IDLE_BUFFER_BYTES && this.#idle.length < IDLE_BUFFERS_KEPT) {
        this.#idle.push(buffer);
      }
      return;
    }
    this.memory.letGo(buffer.length);
    const free = this.#free[index]!;
    if (free.length * buffer.length < PER_SIZE_BYTES) free.push(buffer);
  }
}

/** The index of the buffer's size; -1 if it isn't a pooled one. */
function indexOf(buffer: Bytes): number {
  return BUFFER_SIZES.indexOf(buffer.length as 4096);
}

interface Block {
  readonly buffer: Bytes;
  start: number;
  end: number;
}

/**
 * A FIFO of bytes; small chunks are merged so that they are sent in one system call. An empty queue holds no buffer.
 */
export class OutQueue {
  #pool: BufferPool;
  #blocks: Block[] = [];
  #bytes = 0;

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  /** Bytes queued. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Appends a copy of `chunk` from `offset` on. */
  push(chunk: Bytes, offset = 0): void {
    this.#bytes += chunk.length - offset;
    while (offset < chunk.length) {
      let tail = this.#blocks[this.#blocks.length - 1];
      if (tail === undefined || tail.end === tail.buffer.length) {
        tail = { buffer: this.#pool.take(this.#sizeFor(chunk.length - offset)), start: 0, end: 0 };
        this.#blocks.push(tail);
      }
      const take = Math.min(chunk.length - offset, tail.buffer.length - tail.end);
      tail.buffer.set(part(chunk, offset, offset + take), tail.end);
      tail.end += take;
      offset += take;
    }
  }

  /** The size of a further block grows with the bytes queued: a large queue is likely to grow. */
  #sizeFor(bytes: number): number {
    const wanted = Math.max(bytes, this.#bytes - bytes);
    let index = 0;
    while (index < LARGEST && BUFFER_SIZES[index]! < wanted) index++;
    return index;
  }

  /**
   * A view of the first queued bytes; valid until they are consumed, even while more is pushed. Empty if there are
   * none.
   */
  head(): Bytes {
    const head = this.#blocks[0];
    return head === undefined ? new Uint8Array(0) : head.buffer.subarray(head.start, head.end);
  }

  /** Removes `count` bytes from the head; at most the length of {@link head}. */
  consume(count: number): void {
    const head = this.#blocks[0];
    if (head === undefined) return;
    head.start += count;
    this.#bytes -= count;
    if (head.start < head.end) return;
    if (this.#blocks.length === 1 && head.buffer.length === BUFFER_SIZES[LARGEST]) {
      // Kept while the connection is busy; release() frees it.
      head.start = head.end = 0;
      return;
    }
    this.#blocks.shift();
    this.#pool.give(head.buffer);
  }

  /** Drops the bytes. `inFlight` means that the runtime may still read the first buffer, which then isn't reused. */
  clear(inFlight = false): void {
    for (const [index, { buffer }] of this.#blocks.entries()) {
      if (inFlight && index === 0) this.#pool.drop(buffer);
      else this.#pool.give(buffer);
    }
    this.#blocks = [];
    this.#bytes = 0;
  }

  /** Frees empty buffers. */
  release(): void {
    if (this.#bytes === 0 && this.#blocks.length > 0) this.clear();
  }
}
