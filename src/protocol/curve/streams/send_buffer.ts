/**
 * Data that a stream has written and the peer hasn't acknowledged: a ring buffer addressed by offset, with the ranges
 * acknowledged out of order or lost.
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import type { MemoryBudget } from "../../../bytes/memory_budget.ts";
import { RangeSet } from "../range_set.ts";
import { ByteRing } from "./byte_ring.ts";

/** The bytes that a stream has written. Offsets count from the stream's beginning. */
export class SendBuffer {
  readonly #ring: ByteRing;
  /** Everything below this is acknowledged. */
  #base = 0;
  #end = 0;
  /** Everything from here on has never been sent. */
  #next = 0;
  readonly #acked = new RangeSet();
  readonly #lost = new RangeSet();

  /** @param memory accounts for the ring's memory. */
  constructor(memory?: MemoryBudget) {
    this.#ring = new ByteRing(memory);
  }

  /** Bytes of memory allocated. */
  get ringBytes(): number {
    return this.#ring.byteLength;
  }

  /** Bytes written since the beginning. */
  get end(): number {
    return this.#end;
  }
  /** Offset of the first byte never sent. */
  get next(): number {
    return this.#next;
  }
  /** Bytes written and never sent. */
  get unsent(): number {
    return this.#end - this.#next;
  }
  /** Bytes held: written and not acknowledged. */
  get held(): number {
    return this.#end - this.#base;
  }
  /** Whether lost data is waiting to be retransmitted. */
  get hasLost(): boolean {
    return this.#lost.size > 0;
  }

  /** Appends a copy of `chunk`. */
  write(chunk: Bytes): void {
    const length = chunk.length;
    if (length === 0) return;
    this.#ring.reserve(this.#base, this.held + length);
    this.#ring.put(this.#end, chunk);
    this.#end += length;
  }

  /** Start of the first lost range. Call it only if {@link hasLost}. */
  get lostStart(): number {
    return this.#lost.start(0);
  }
  /** Length of the first lost range. */
  get lostLength(): number {
    return this.#lost.end(0) - this.#lost.start(0);
  }

  /** Copies `[offset, offset + target.length)`, all of it held, into `target`. */
  copy(offset: number, target: Bytes): void {
    const first = this.#ring.view(offset, target.length);
    target.set(first, 0);
    const left = target.length - first.length;
    if (left > 0) target.set(this.#ring.view(offset + first.length, left), first.length);
  }

  /** `[offset, offset + length)` has been sent (again). */
  sent(offset: number, length: number): void {
    if (offset + length > this.#next) this.#next = offset + length;
    if (this.#lost.size > 0) this.#lost.remove(offset, offset + length);
  }

  /** The peer has acknowledged `[offset, offset + length)`. */
  acked(offset: number, length: number): void {
    const end = offset + length;
    if (end <= this.#base) return;
    if (this.#lost.size > 0) this.#lost.remove(offset, end);
    if (offset <= this.#base) this.#base = end;
    else {
      this.#acked.add(offset, end);
      return;
    }
    if (this.#acked.size > 0 && this.#acked.start(0) <= this.#base) {
      this.#base = Math.max(this.#base, this.#acked.end(0));
      this.#acked.dropBelow(this.#base);
    }
    if (this.#base === this.#end) this.#ring.drop();
  }

  /** `[offset, offset + length)` was in a packet declared lost: what isn't acknowledged must be sent again. */
  lost(offset: number, length: number): void {
    const end = offset + length;
    this.#lost.add(Math.max(offset, this.#base), end);
    for (let i = 0; i < this.#acked.size && this.#acked.start(i) < end; i++) {
      this.#lost.remove(this.#acked.start(i), this.#acked.end(i));
    }
  }

  /** Drops everything: the stream was reset. */
  clear(): void {
    this.#ring.drop();
    this.#base = this.#next = this.#end;
    this.#acked.clear();
    this.#lost.clear();
  }
}
