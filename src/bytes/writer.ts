/**
 * Bounds-checked writer of big-endian fields.
 *
 * @module
 */
import type { Bytes } from "./bytes.ts";
import { OutOfBounds } from "./reader.ts";

const FIRST_BYTES = 64;

/** Collects fields in a buffer that doubles as it grows, up to `maxBytes`. */
export class ByteWriter {
  readonly #maxBytes: number;
  #buffer: Bytes = new Uint8Array(0);
  #length = 0;

  /** @param maxBytes limit; a write past it throws {@link OutOfBounds}. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#length;
  }

  /** Appends 1 byte; a value that doesn't fit its field throws a `RangeError`, here and below. */
  u8(value: number): this {
    return this.#integer(value, 1);
  }

  /** Appends 2 bytes. */
  u16(value: number): this {
    return this.#integer(value, 2);
  }

  /** Appends 3 bytes. */
  u24(value: number): this {
    return this.#integer(value, 3);
  }

  /** Appends 4 bytes. */
  u32(value: number): this {
    return this.#integer(value, 4);
  }

  /** Appends a copy of `bytes`. */
  bytes(bytes: ArrayLike<number>): this {
    const at = this.#extend(bytes.length);
    this.#buffer.set(bytes, at);
    return this;
  }

  /** A copy of everything written. */
  finish(): Bytes {
    return this.#buffer.slice(0, this.#length);
  }

  #integer(value: number, width: number): this {
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** (8 * width)) {
      throw new RangeError(`${value} doesn't fit ${8 * width} bits`);
    }
    const at = this.#extend(width);
    for (let i = 0; i < width; i++) this.#buffer[at + i] = value >>> (8 * (width - 1 - i));
    return this;
  }

  /** Makes room and returns its offset. */
  #extend(byteLength: number): number {
    const at = this.#length;
    const needed = at + byteLength;
    if (needed > this.#maxBytes) throw new OutOfBounds(byteLength, this.#maxBytes - at);
    if (needed > this.#buffer.length) {
      const grown = new Uint8Array(
        Math.min(this.#maxBytes, Math.max(FIRST_BYTES, needed, 2 * this.#buffer.length)),
      );
      grown.set(this.#buffer.subarray(0, at));
      this.#buffer = grown;
    }
    this.#length = needed;
    return at;
  }
}
