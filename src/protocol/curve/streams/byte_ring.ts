/**
 * The memory of a stream's buffers, in either direction.
 *
 * @module
 */
import { type Bytes, part } from "../../../bytes/bytes.ts";
import type { MemoryBudget } from "../../../bytes/memory_budget.ts";

const FIRST_BYTES = 8 * 1024;

/** A ring of bytes addressed by stream offset. It doubles as needed, and an empty one holds no memory. */
export class ByteRing {
  readonly #memory: MemoryBudget | undefined;
  #bytes: Bytes | undefined;

  /** @param memory accounts for the ring's memory. */
  constructor(memory?: MemoryBudget) {
    this.#memory = memory;
  }

  /** Bytes of memory allocated. */
  get byteLength(): number {
    return this.#bytes?.length ?? 0;
  }

  /** Makes room for the `size` bytes from `base` on; what the ring has from there on is kept. */
  reserve(base: number, size: number): void {
    const old = this.#bytes;
    if (old !== undefined && old.length >= size) return;
    let length = old?.length ?? FIRST_BYTES;
    while (length < size) length *= 2;
    const bytes = new Uint8Array(length);
    this.#memory?.hold(length - this.byteLength);
    this.#bytes = bytes;
    if (old === undefined) return;
    const at = base % old.length;
    this.put(base, old.subarray(at));
    this.put(base + old.length - at, old.subarray(0, at));
  }

  /** Copies `data` to `offset`, for which there is room. */
  put(offset: number, data: Bytes): void {
    const bytes = this.#bytes!;
    const at = offset % bytes.length;
    const first = Math.min(data.length, bytes.length - at);
    bytes.set(part(data, 0, first), at);
    if (first < data.length) bytes.set(data.subarray(first), 0);
  }

  /** A view of the bytes from `offset` on: `length` of them, or those up to the end of the ring's memory. */
  view(offset: number, length: number): Bytes {
    const bytes = this.#bytes!;
    const at = offset % bytes.length;
    return bytes.subarray(at, Math.min(at + length, bytes.length));
  }

  /** Drops the memory; views of it stay valid. */
  drop(): void {
    this.#memory?.letGo(this.byteLength);
    this.#bytes = undefined;
  }
}
