/**
 * Small byte arrays without an allocation each.
 *
 * @module
 */
import type { Bytes } from "./bytes.ts";

const SLAB_BYTES = 1024;

/**
 * Carves small arrays out of larger ones: on Deno a new `Uint8Array` costs up to a microsecond, a view of one 40 ns. An
 * array keeps its whole slab alive, so it isn't for those that outlive their neighbours by much.
 */
export class Slab {
  readonly #sizeBytes: number;
  #slab: Bytes | undefined;
  #used = 0;

  /** @param sizeBytes the size of the larger arrays */
  constructor(sizeBytes = SLAB_BYTES) {
    this.#sizeBytes = sizeBytes;
  }

  /** `byteLength` unused bytes, at most as many as a slab has. */
  take(byteLength: number): Bytes {
    let slab = this.#slab;
    if (slab === undefined || this.#used + byteLength > slab.length) {
      this.#slab = slab = new Uint8Array(this.#sizeBytes);
      this.#used = 0;
    }
    return slab.subarray(this.#used, this.#used += byteLength);
  }

  /** A copy of the first `byteLength` of `bytes`, which are few. */
  copy(bytes: Bytes, byteLength: number = bytes.length): Bytes {
    const copy = this.take(byteLength);
    for (let i = 0; i < byteLength; i++) copy[i] = bytes[i]!;
    return copy;
  }
}
