/**
 * Reads big-endian fields with bounds.
 *
 * @module
 */

/** A read or a write went beyond the end. Codecs turn it into an error that says of what. */
export class OutOfBounds extends Error {
  constructor(wanted: number, left: number) {
    super(`needs ${wanted} bytes, ${left} are left`);
    this.name = "OutOfBounds";
  }
}

/** A cursor over bytes; what is taken with `sub` can't be read beyond its own end. Only `bytes` makes a view. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  #at: number;
  readonly #end: number;

  /** @param end where the reader's bytes end, which begin at `from`; all of `bytes` when absent */
  constructor(bytes: Uint8Array, from = 0, end: number = bytes.length) {
    this.#bytes = bytes;
    this.#at = from;
    this.#end = end;
  }

  /** Bytes that are left. */
  get left(): number {
    return this.#end - this.#at;
  }

  /** The next byte; throws {@link OutOfBounds} where it isn't there, as all below do. */
  u8(): number {
    return this.#bytes[this.#take(1)];
  }

  /** The next 2 bytes. */
  u16(): number {
    const at = this.#take(2);
    return (this.#bytes[at] << 8) | this.#bytes[at + 1];
  }

  /** The next 3 bytes. */
  u24(): number {
    const at = this.#take(3);
    return (this.#bytes[at] << 16) | (this.#bytes[at + 1] << 8) | this.#bytes[at + 2];
  }

  /** The next 4 bytes, unsigned. */
  u32(): number {
    return this.u8() * 0x1000000 + this.u24();
  }

  /** The next `length` bytes, as a view. */
  bytes(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** Passes over the next `length` bytes. */
  skip(length: number): void {
    this.#take(length);
  }

  /** A reader of the next `length` bytes alone. */
  sub(length: number): ByteReader {
    const at = this.#take(length);
    return new ByteReader(this.#bytes, at, at + length);
  }

  /** Takes `length` bytes, and says where they begin. */
  #take(length: number): number {
    // Said this way round, NaN and negative lengths are out of bounds too.
    if (!(length >= 0 && length <= this.left)) throw new OutOfBounds(length, this.left);
    const at = this.#at;
    this.#at += length;
    return at;
  }
}
