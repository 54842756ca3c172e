/**
 * A queue of bytes waiting to be passed on.
 *
 * @module
 */
import { Block, BLOCK_BYTES, BLOCK_MIN_BYTES, type BlockPool } from "./block_pool.ts";
import { type Bytes, part } from "./bytes.ts";

/** A FIFO of blocks that grow with the traffic; an empty queue holds none. */
export class ChunkQueue {
  readonly #pool: BlockPool | undefined;
  /** All but the last are full. */
  #first: Block | undefined;
  #last: Block | undefined;
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
      const left = chunk.length - from;
      let last = this.#last;
      if (last === undefined || last.writtenTo === last.bytes.length) {
        last = this.#append(Math.max(left, this.#byteLength));
      }
      const length = Math.min(last.bytes.length - last.writtenTo, left);
      last.bytes.set(part(chunk, from, from + length), last.writtenTo);
      last.writtenTo += length;
      this.#byteLength += length;
      from += length;
    }
  }

  /** A view of the first contiguous bytes; empty if the queue is. Valid until the next call. */
  peek(): Bytes {
    const first = this.#first;
    return first === undefined ? EMPTY : part(first.bytes, first.readAt, first.writtenTo);
  }

  /** Removes the first `byteLength` bytes. */
  drop(byteLength: number): void {
    let left = Math.min(byteLength, this.#byteLength);
    this.#byteLength -= left;
    while (left > 0) {
      const first = this.#first!;
      const inFirst = first.writtenTo - first.readAt;
      if (left < inFirst) {
        first.readAt += left;
        return;
      }
      left -= inFirst;
      this.#shift(first);
      this.#pool?.give(first);
    }
  }

  /** Moves the first `byteLength` bytes, which must be queued, to `target` from `at` on. */
  moveTo(target: Bytes, at: number, byteLength: number): void {
    let left = byteLength;
    while (left > 0) {
      const piece = this.peek();
      const length = Math.min(piece.length, left);
      target.set(part(piece, 0, length), at + byteLength - left);
      this.drop(length);
      left -= length;
    }
  }

  /** Removes everything. The first block isn't reused: someone may still be reading the view from {@link peek}. */
  clear(): void {
    const first = this.#first;
    if (first === undefined) return;
    this.#shift(first);
    this.#pool?.drop(first);
    this.#byteLength -= first.writtenTo - first.readAt;
    this.drop(this.#byteLength);
  }

  #append(wantedBytes: number): Block {
    const block = this.#pool?.take(wantedBytes) ??
      new Block(Math.min(Math.max(BLOCK_MIN_BYTES, wantedBytes), BLOCK_BYTES));
    if (this.#last === undefined) this.#first = block;
    else this.#last.next = block;
    this.#last = block;
    return block;
  }

  #shift(first: Block): void {
    this.#first = first.next;
    if (this.#first === undefined) this.#last = undefined;
  }
}

const EMPTY: Bytes = new Uint8Array(0);
