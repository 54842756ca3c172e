/**
 * The receive side of a credit session: splits the peer's bytes into frames. DATA payload is passed on as it arrives.
 *
 * @module
 */
import { type Bytes, part } from "../../../bytes/bytes.ts";
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
  /** A complete frame other than DATA. */
  frame(type: number, stream: number, body: Bytes): void;
  /** A DATA frame of `size` bytes begins. Returns the stream that takes them, or undefined to discard them. */
  dataFrame(stream: number, size: number): Stream | undefined;
  /** The budget for no-op frames is used up for now: further frames have to wait. */
  readonly tired?: boolean;
  /** A piece of the current DATA frame's payload. */
  data(stream: Stream, piece: Bytes): void;
}

/** Accepts the peer's bytes in chunks of any size. Any error it throws ends the session. */
export class CreditReceiver<Stream> {
  readonly #sink: CreditFrameSink<Stream>;
  /** A partly received header, or header and body; no buffer is held between frames. */
  #partial: Bytes | undefined;
  #filled = 0;
  #needed = CREDIT_HEADER_BYTES;
  /** Remaining bytes of the current frame's payload, to be passed on or skipped. */
  #left = 0;
  #target: Stream | undefined;

  constructor(sink: CreditFrameSink<Stream>) {
    this.#sink = sink;
  }

  /** Reads a chunk, or only its start if the session is tired. Returns the bytes read. Throws `frame_invalid`. */
  receive(chunk: Bytes): number {
    const end = chunk.length;
    let at = 0;
    while (at < end) {
      if (this.#left > 0) {
        const length = Math.min(this.#left, end - at);
        this.#left -= length;
        if (this.#target !== undefined) this.#sink.data(this.#target, part(chunk, at, at + length));
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

  /** Reads a frame whose header is complete. Returns the offset of the first unread byte. */
  #whole(chunk: Bytes, at: number): number {
    const header = chunk.subarray(at, at + CREDIT_HEADER_BYTES);
    const body = this.#begin(header);
    const bodyAt = at + CREDIT_HEADER_BYTES;
    if (body === 0) return bodyAt;
    if (chunk.length - bodyAt < body) return this.#part(chunk, at);
    this.#sink.frame(header[0]!, creditFrameStream(header), chunk.subarray(bodyAt, bodyAt + body));
    return bodyAt + body;
  }

  /** Assembles a frame that arrives in pieces: first the header, then the body. */
  #part(chunk: Bytes, at: number): number {
    this.#partial ??= new Uint8Array(CREDIT_HEADER_BYTES + CONTROL_MAX_BYTES);
    const length = Math.min(this.#needed - this.#filled, chunk.length - at);
    this.#partial.set(part(chunk, at, at + length), this.#filled);
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

  /** Parses a header. Returns the number of body bytes to collect, 0 for none. */
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
      // A frame type from a later version: skipped.
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
