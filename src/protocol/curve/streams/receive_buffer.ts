/**
 * Received bytes that a stream has not delivered yet: they are out of order, or the reader has paused.
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import type { MemoryBudget } from "../../../bytes/memory_budget.ts";
import { RangeSet } from "../range_set.ts";

const FIRST_BYTES = 8 * 1024;

/** A ring buffer addressed by stream offset; it grows and shrinks with its contents, bounded by the granted credit. */
export class ReceiveBuffer {
  readonly #memory: MemoryBudget | undefined;
  #ring: Bytes | undefined;
  /** Everything below this has been delivered. */
  #base = 0;
  readonly #held = new RangeSet();

  /** @param memory accounts for the ring's memory. */
  constructor(memory?: MemoryBudget) {
    this.#memory = memory;
  }

  /** Bytes of memory allocated. */
  get ringBytes(): number {
    return this.#ring?.length ?? 0;
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
    if (this.#held.size === 0) this.#dropRing();
  }

  /** Copies the new part of `[offset, …)`; false if all of it was already present. */
  add(offset: number, data: Bytes): boolean {
    let start = offset;
    const end = offset + data.length;
    if (start < this.#base) start = this.#base;
    if (start >= end || this.#held.covers(start, end)) return false;
    const ring = this.#reserve(end - this.#base);
    for (let from = start; from < end;) {
      const at = from % ring.length;
      const count = Math.min(end - from, ring.length - at);
      ring.set(data.subarray(from - offset, from - offset + count), at);
      from += count;
    }
    this.#held.add(start, end);
    return true;
  }

  /** Returns a view of the contiguous deliverable bytes, which then count as delivered. */
  take(): Bytes {
    const ring = this.#ring!;
    const at = this.#base % ring.length;
    const count = Math.min(this.#held.end(0) - this.#base, ring.length - at);
    this.#base += count;
    this.#held.dropBelow(this.#base);
    if (this.#held.size === 0) this.#dropRing();
    return ring.subarray(at, at + count);
  }

  /** Drops everything held. */
  clear(): void {
    this.#held.clear();
    this.#dropRing();
  }

  #dropRing(): void {
    this.#memory?.letGo(this.ringBytes);
    this.#ring = undefined;
  }

  #reserve(size: number): Bytes {
    const old = this.#ring;
    if (old !== undefined && old.length >= size) return old;
    let length = old?.length ?? FIRST_BYTES;
    while (length < size) length *= 2;
    const ring = new Uint8Array(length);
    this.#memory?.hold(length - this.ringBytes);
    this.#ring = ring;
    if (old !== undefined) {
      for (let i = 0; i < this.#held.size; i++) {
        for (let offset = this.#held.start(i); offset < this.#held.end(i);) {
          const from = offset % old.length;
          const to = offset % length;
          const count = Math.min(this.#held.end(i) - offset, old.length - from, length - to);
          ring.set(old.subarray(from, from + count), to);
          offset += count;
        }
      }
    }
    return ring;
  }
}
