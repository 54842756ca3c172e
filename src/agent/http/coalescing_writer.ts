/**
 * Coalesces small writes of one event-loop turn: a head, a chunk's size and the last chunk would otherwise each become
 * a TLS record and a session frame.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { ByteStream } from "../../runtime/port.ts";

/** A piece of at least this size is sent by itself, without copying. */
const LARGE_BYTES = 8 * 1024;
const BUFFER_BYTES = 16 * 1024;

/** Writes to a stream. */
export class CoalescingWriter {
  readonly #stream: ByteStream;
  #buffer: Bytes | undefined;
  #length = 0;
  #flushAsked = false;
  #taking = true;

  constructor(stream: ByteStream) {
    this.#stream = stream;
  }

  /** Bytes not yet passed on. */
  get bufferedBytes(): number {
    return this.#length + this.#stream.bufferedBytes;
  }

  /** Whether the last write was accepted without a wait, or the stream has drained since. */
  get taking(): boolean {
    return this.#taking;
  }

  /** Like {@link ByteStream.write}. */
  write(piece: Bytes): boolean {
    if (piece.length >= LARGE_BYTES) {
      this.flush();
      return this.#taking = this.#stream.write(piece);
    }
    if (this.#length + piece.length > BUFFER_BYTES) this.flush();
    this.#buffer ??= new Uint8Array(BUFFER_BYTES);
    this.#buffer.set(piece, this.#length);
    this.#length += piece.length;
    if (!this.#flushAsked) {
      this.#flushAsked = true;
      queueMicrotask(() => {
        this.#flushAsked = false;
        this.flush();
      });
    }
    return this.#taking;
  }

  /** Passes everything on now. */
  flush(): void {
    if (this.#buffer === undefined || this.#length === 0) return;
    // The stream copies what it can't send at once, so the buffer can be reused.
    const bytes = this.#buffer.subarray(0, this.#length);
    this.#length = 0;
    this.#taking = this.#stream.write(bytes);
  }

  /** The stream accepts bytes again. */
  drained(): void {
    this.#taking = true;
  }
}
