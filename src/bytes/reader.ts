/**
 * Bounds-checked reader of big-endian fields.
 *
 * @module
 */

/** A read or write past the end. Codecs turn it into an error that names the message. */
export class OutOfBounds extends Error {
  constructor(wanted: number, left: number) {
    super(`needs ${wanted} bytes, ${left} are left`);
    this.name = "OutOfBounds";
  }
}

/** A cursor over bytes; a reader made by `sub` can't read past its own end. Only `bytes` makes a view. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  #at: number;
  readonly #end: number;

  /** @param end end of the reader's bytes, which start at `from`. Defaults to the end of `bytes`. */
  constructor(bytes: Uint8Array, from = 0, end: number = bytes.length) {
    this.#bytes = bytes;
    this.#at = from;
    this.#end = end;
  }

  /** Bytes left to read. */
  get left(): number {
    return this.#end - this.#at;
  }

  /** The next byte; like the methods below, throws {@link OutOfBounds} past the end. */
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

  /** Whether the bytes left are these; reads nothing. */
  is(bytes: Uint8Array): boolean {
    if (bytes.length !== this.left) return false;
    for (let i = 0; i < bytes.length; i++) if (this.#bytes[this.#at + i] !== bytes[i]) return false;
    return true;
  }

  /** Skips the next `length` bytes. */
  skip(length: number): void {
    this.#take(length);
  }

  /** A reader limited to the next `length` bytes. */
  sub(length: number): ByteReader {
    const at = this.#take(length);
    return new ByteReader(this.#bytes, at, at + length);
  }

  /** Consumes `length` bytes and returns their offset. */
  #take(length: number): number {
    // Written this way, the test also rejects NaN and negative lengths.
    if (!(length >= 0 && length <= this.left)) throw new OutOfBounds(length, this.left);
    const at = this.#at;
    this.#at += length;
    return at;
  }
}
