/**
 * A queue of bytes waiting to be passed on.
 *
 * @module
 */
import { BLOCK_BYTES, BLOCK_MIN_BYTES, type BlockPool } from "./block_pool.ts";
import type { Bytes } from "./bytes.ts";

/** A FIFO of blocks that grow with the traffic; an empty queue holds none. */
export class ChunkQueue {
  readonly #pool: BlockPool | undefined;
  #blocks: Bytes[] = [];
  /** Where the first block's unread bytes begin, and where the last block's written bytes end. */
  #readAt = 0;
  #writtenTo = 0;
  #byteLength = 0;

  /** @param pool source of full-size blocks, to which they are returned. */
  constructor(pool?: BlockPool) {
    this.#pool = pool;
  }

  /** Bytes in the queue. */
  get byteLength(): number {
    return this.#byteLength;
  }

  /** Adds a copy of `chunk`. */
  push(chunk: Bytes): void {
    let from = 0;
    while (from < chunk.length) {
      let last = this.#blocks.at(-1);
      if (last === undefined || this.#writtenTo === last.length) {
        const left = chunk.length - from;
        last = this.#makeBlock(Math.max(left, this.#byteLength));
        this.#blocks.push(last);
        this.#writtenTo = 0;
      }
      const length = Math.min(last.length - this.#writtenTo, chunk.length - from);
      last.set(chunk.subarray(from, from + length), this.#writtenTo);
      this.#writtenTo += length;
      this.#byteLength += length;
      from += length;
    }
  }

  /** A view of the first contiguous bytes; empty if the queue is. Valid until the next call. */
  peek(): Bytes {
    const first = this.#blocks[0];
    if (first === undefined) return EMPTY;
    return first.subarray(this.#readAt, this.#blocks.length === 1 ? this.#writtenTo : first.length);
  }

  /** Removes the first `byteLength` bytes. */
  drop(byteLength: number): void {
    let left = Math.min(byteLength, this.#byteLength);
    this.#byteLength -= left;
    if (this.#byteLength === 0) {
      for (const block of this.#blocks) this.#pool?.give(block);
      return this.#empty();
    }
    while (left > 0) {
      const inFirst = this.#blocks[0].length - this.#readAt;
      if (left < inFirst) {
        this.#readAt += left;
        return;
      }
      left -= inFirst;
      const block = this.#blocks.shift()!;
      this.#pool?.give(block);
      this.#readAt = 0;
    }
  }

  /** Moves the first `byteLength` bytes, which must be queued, to `target` from `at` on. */
  moveTo(target: Bytes, at: number, byteLength: number): void {
    let left = byteLength;
    while (left > 0) {
      const piece = this.peek();
      const length = Math.min(piece.length, left);
      target.set(length === piece.length ? piece : piece.subarray(0, length), at + byteLength - left);
      this.drop(length);
      left -= length;
    }
  }

  #makeBlock(wantedBytes: number): Bytes {
    return this.#pool?.take(wantedBytes) ??
      new Uint8Array(Math.min(Math.max(BLOCK_MIN_BYTES, wantedBytes), BLOCK_BYTES));
  }

  /** Removes everything. The first block isn't reused: someone may still be reading the view from {@link peek}. */
  clear(): void {
    const first = this.#blocks.shift();
    if (first === undefined) return;
    this.#pool?.drop(first);
    for (const block of this.#blocks) this.#pool?.give(block);
    this.#empty();
  }

  #empty(): void {
    this.#blocks = [];
    this.#readAt = 0;
    this.#writtenTo = 0;
    this.#byteLength = 0;
  }
}

const EMPTY: Bytes = new Uint8Array(0);
