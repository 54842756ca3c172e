/**
 * Received bytes that a stream has not delivered yet: they are out of order, or the reader has paused.
 *
 * @module
 */
import { type Bytes, part } from "../../../bytes/bytes.ts";
import type { MemoryBudget } from "../../../bytes/memory_budget.ts";
import { RangeSet } from "../range_set.ts";
import { ByteRing } from "./byte_ring.ts";

/** A ring buffer addressed by stream offset; it grows and shrinks with its contents, bounded by the granted credit. */
export class ReceiveBuffer {
  readonly #ring: ByteRing;
  /** Everything below this has been delivered. */
  #base = 0;
  readonly #held = new RangeSet();

  /** @param memory accounts for the ring's memory. */
  constructor(memory?: MemoryBudget) {
    this.#ring = new ByteRing(memory);
  }

  /** Bytes of memory allocated. */
  get ringBytes(): number {
    return this.#ring.byteLength;
  }

  /** Bytes that can be delivered now. */
  get byteLength(): number {
    return this.ready ? this.#held.end(0) - this.#base : 0;
  }
  /** Offset of the next byte to deliver. */
  get offset(): number {
    return this.#base;
  }
  /** Whether nothing is held. */
  get empty(): boolean {
    return this.#held.size === 0;
  }
  /** Whether bytes that can be delivered are held. */
  get ready(): boolean {
    return this.#held.size > 0 && this.#held.start(0) === this.#base;
  }
  /** Number of ranges held; the caller of {@link add} limits it. */
  get fragments(): number {
    return this.#held.size;
  }

  /** Bytes were delivered directly from the packet, bypassing the buffer. */
  skip(length: number): void {
    this.#base += length;
    this.#held.dropBelow(this.#base);
    if (this.#held.size === 0) this.#ring.drop();
  }

  /** Copies the new part of `[offset, …)`; false if all of it was already present. */
  add(offset: number, data: Bytes): boolean {
    let start = offset;
    const end = offset + data.length;
    if (start < this.#base) start = this.#base;
    if (start >= end || this.#held.covers(start, end)) return false;
    this.#ring.reserve(this.#base, end - this.#base);
    this.#ring.put(start, part(data, start - offset));
    this.#held.add(start, end);
    return true;
  }

  /** Returns a view of the contiguous deliverable bytes, which then count as delivered. */
  take(): Bytes {
    const bytes = this.#ring.view(this.#base, this.#held.end(0) - this.#base);
    this.#base += bytes.length;
    this.#held.dropBelow(this.#base);
    if (this.#held.size === 0) this.#ring.drop();
    return bytes;
  }

  /** Drops everything held. */
  clear(): void {
    this.#held.clear();
    this.#ring.drop();
  }
}
