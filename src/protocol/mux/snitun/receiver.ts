/**
 * The receive side of a SniTun session: splits the peer's bytes into frames and passes payload on as it arrives.
 * Nothing waits for a whole frame, and a length is validated before its bytes are read (docs/protocols/snitun.md, Frames).
 *
 * @module
 */
import { type Bytes, part } from "../../../bytes/bytes.ts";
import type { Opener } from "../../../crypto/header_cipher.ts";
import {
  checkHeader,
  frameSize,
  FrameType,
  frameType,
  HEADER_BYTES,
} from "../../../wire/snitun/snitun_frame.ts";
import type { MuxStream } from "./stream.ts";

/** Receives the frames of a session. `header` and `payload` are valid during the call. */
interface FrameSink {
  /** A frame without payload, or a version 2 NEW with its decrypted payload. */
  frame(type: number, header: Bytes, payload: Bytes | undefined): void;
  /** A DATA frame of `size` bytes begins. Returns the stream that takes them, or undefined to discard them. */
  dataFrame(header: Bytes, size: number): MuxStream | undefined;
  /** The budget for no-op frames is used up for now: further frames have to wait. */
  readonly tired: boolean;
  /** A piece of the current DATA frame's payload. */
  data(stream: MuxStream, piece: Bytes): void;
}

/** Accepts the peer's bytes in chunks of any size. Any error it throws ends the session. */
export class FrameReceiver {
  readonly #opener: Opener;
  readonly #version: number;
  readonly #sink: FrameSink;
  readonly #headerBytes: number;
  /** A partly received header or NEW payload; no buffer is held between frames. */
  #partial: Bytes | undefined;
  #filled = 0;
  /** The decrypted header of a NEW frame whose payload is still arriving, and the room for it. */
  #newHeader: Bytes | undefined;
  #headerRoom: Bytes | undefined;
  #dataLeft = 0;
  #target: MuxStream | undefined;

  constructor(opener: Opener, version: number, sink: FrameSink) {
    this.#opener = opener;
    this.#version = version;
    this.#sink = sink;
    this.#headerBytes = HEADER_BYTES + opener.overheadBytes;
  }

  /** Reads a chunk, or only its start if tired. Returns the bytes read. Throws `frame_invalid` or `cipher_failed`. */
  receive(chunk: Bytes): number {
    const end = chunk.length;
    let at = 0;
    while (at < end) {
      if (this.#dataLeft > 0) {
        const length = Math.min(this.#dataLeft, end - at);
        this.#dataLeft -= length;
        if (this.#target !== undefined) this.#sink.data(this.#target, part(chunk, at, at + length));
        at += length;
        continue;
      }
      if (this.#sink.tired) return at;
      const needed = this.#newHeader === undefined
        ? this.#headerBytes
        : frameSize(this.#newHeader) + this.#opener.overheadBytes;
      const missing = needed - this.#filled;
      const length = Math.min(missing, end - at);
      if (this.#filled === 0 && length === needed) {
        this.#unit(part(chunk, at, at + length));
      } else {
        this.#partial ??= new Uint8Array(needed);
        this.#partial.set(part(chunk, at, at + length), this.#filled);
        this.#filled += length;
        if (length === missing) {
          const unit = this.#partial;
          this.#partial = undefined;
          this.#filled = 0;
          this.#unit(unit);
        }
      }
      at += length;
    }
    return end;
  }

  #unit(wire: Bytes): void {
    const plain = this.#opener.open(wire);
    if (this.#newHeader !== undefined) {
      const header = this.#newHeader;
      this.#newHeader = undefined;
      this.#sink.frame(FrameType.NEW, header, plain);
      return;
    }
    const problem = checkHeader(plain, this.#version);
    if (problem !== undefined) throw problem;
    const type = frameType(plain);
    const size = frameSize(plain);
    if (type === FrameType.NEW && size > 0) {
      this.#headerRoom ??= new Uint8Array(HEADER_BYTES);
      this.#headerRoom.set(plain);
      this.#newHeader = this.#headerRoom;
    } else if (type === FrameType.DATA) {
      this.#target = this.#sink.dataFrame(plain, size);
      this.#dataLeft = size;
    } else {
      // An unknown type may carry payload, which is skipped.
      this.#target = undefined;
      this.#dataLeft = size;
      this.#sink.frame(type, plain, undefined);
    }
  }
}
