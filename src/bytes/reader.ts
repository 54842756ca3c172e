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

/** A cursor over bytes; what is taken with `sub` can't be read beyond its own end. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Bytes that are left. */
  get left(): number {
    return this.#bytes.length - this.#at;
  }

  /** The next byte; throws {@link OutOfBounds} where it isn't there, as all below do. */
  u8(): number {
    return this.#take(1)[0];
  }

  /** The next 2 bytes. */
  u16(): number {
    const bytes = this.#take(2);
    return (bytes[0] << 8) | bytes[1];
  }

  /** The next 3 bytes. */
  u24(): number {
    const bytes = this.#take(3);
    return (bytes[0] << 16) | (bytes[1] << 8) | bytes[2];
  }

  /** The next 4 bytes, unsigned. */
  u32(): number {
    return this.u8() * 0x1000000 + this.u24();
  }

  /** The next `length` bytes, as a view. */
  bytes(length: number): Uint8Array {
    return this.#take(length);
  }

  /** A reader of the next `length` bytes alone. */
  sub(length: number): ByteReader {
    return new ByteReader(this.#take(length));
  }

  #take(length: number): Uint8Array {
    // Said this way round, NaN and negative lengths are out of bounds too.
    if (!(length >= 0 && length <= this.left)) throw new OutOfBounds(length, this.left);
    const from = this.#at;
    this.#at += length;
    return this.#bytes.subarray(from, this.#at);
  }
}
