/**
 * The incoming half of a credit session: cuts the peer's bytes into frames. Payload of DATA is passed on as it comes.
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import {
  checkCreditHeader,
  CONTROL_MAX_BYTES,
  CREDIT_HEADER_BYTES,
  CreditFrame,
  creditFrameSize,
  creditFrameStream,
} from "../../../wire/credit/credit_frame.ts";

/** Receives the frames of a session. `body` and `piece` are valid during the call. */
interface CreditFrameSink<Stream> {
  /** A whole frame that isn't DATA. */
  frame(type: number, stream: number, body: Bytes): void;
  /** A DATA frame of `size` bytes begins; says which stream takes them, undefined to discard them as they come. */
  dataFrame(stream: number, size: number): Stream | undefined;
  /** There were enough frames without work for now: those that come have to wait. */
  readonly tired?: boolean;
  /** A piece of the current DATA frame's payload. */
  data(stream: Stream, piece: Bytes): void;
}

/** Takes the peer's bytes in any pieces. Every error it throws ends the session. */
export class CreditReceiver<Stream> {
  readonly #sink: CreditFrameSink<Stream>;
  /** A header, or a header with a body, of which a part has come; no buffer is held between frames. */
  #partial: Bytes | undefined;
  #filled = 0;
  #needed = CREDIT_HEADER_BYTES;
  /** Bytes of the current frame's payload that are passed on or over. */
  #left = 0;
  #target: Stream | undefined;

  constructor(sink: CreditFrameSink<Stream>) {
    this.#sink = sink;
  }

  /** Takes a chunk, or its start where the session is tired; says how much. Throws `frame_invalid`. */
  receive(chunk: Bytes): number {
    const end = chunk.length;
    let at = 0;
    while (at < end) {
      if (this.#left > 0) {
        const length = Math.min(this.#left, end - at);
        this.#left -= length;
        if (this.#target !== undefined) this.#sink.data(this.#target, chunk.subarray(at, at + length));
        at += length;
      } else if (this.#sink.tired === true) {
        return at;
      } else if (this.#filled === 0 && end - at >= CREDIT_HEADER_BYTES) {
        at = this.#whole(chunk, at);
      } else {
        at = this.#part(chunk, at);
      }
    }
    return end;
  }

  /** Takes a frame whose header is whole; returns the offset of the first byte that it didn't take. */
  #whole(chunk: Bytes, at: number): number {
    const header = chunk.subarray(at, at + CREDIT_HEADER_BYTES);
    const body = this.#begin(header);
    const bodyAt = at + CREDIT_HEADER_BYTES;
    if (body === 0) return bodyAt;
    if (chunk.length - bodyAt < body) return this.#part(chunk, at);
    this.#sink.frame(header[0]!, creditFrameStream(header), chunk.subarray(bodyAt, bodyAt + body));
    return bodyAt + body;
  }

  /** Collects a frame that comes in pieces: the header first, then the body. */
  #part(chunk: Bytes, at: number): number {
    this.#partial ??= new Uint8Array(CREDIT_HEADER_BYTES + CONTROL_MAX_BYTES);
    const length = Math.min(this.#needed - this.#filled, chunk.length - at);
    this.#partial.set(chunk.subarray(at, at + length), this.#filled);
    this.#filled += length;
    if (this.#filled === this.#needed) {
      const unit = this.#partial.subarray(0, this.#needed);
      const body = this.#needed === CREDIT_HEADER_BYTES
        ? this.#begin(unit)
        : (this.#sink.frame(unit[0]!, creditFrameStream(unit), unit.subarray(CREDIT_HEADER_BYTES)), 0);
      this.#needed = CREDIT_HEADER_BYTES + body;
      if (body === 0) {
        this.#partial = undefined;
        this.#filled = 0;
      }
    }
    return at + length;
  }

  /** Looks at a header; says how many bytes of body are to be collected: 0 where it needs none. */
  #begin(header: Bytes): number {
    checkCreditHeader(header);
    const type = header[0]!;
    const size = creditFrameSize(header);
    const stream = creditFrameStream(header);
    if (type === CreditFrame.DATA) {
      this.#target = this.#sink.dataFrame(stream, size);
      this.#left = size;
      return 0;
    }
    if (type === 0 || type > CreditFrame.OFFER) {
      // A type of a later day: passed over.
      this.#target = undefined;
      this.#left = size;
      return 0;
    }
    if (size === 0) {
      this.#sink.frame(type, stream, header.subarray(CREDIT_HEADER_BYTES));
    }
    return size;
  }
}
