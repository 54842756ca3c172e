/**
 * Extracts the body of an HTTP/1.1 message from its framing (RFC 9112 §6 and §7).
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { type Bytes, part } from "../../bytes/bytes.ts";
import type { BodyFraming } from "./head.ts";

/** Longest chunk-size line with its extensions. */
const CHUNK_LINE_MAX_BYTES = 256;
/** Maximum bytes of trailer fields, which are read and dropped. */
const TRAILER_MAX_BYTES = 16 * 1024;

/** A body that doesn't match the framing given in its head. */
export class BodyFault extends Error {}

/** Extracts a body from the bytes after its head. */
export class BodyReader {
  /** The body is complete. */
  done: boolean;
  readonly #framing: BodyFraming["kind"];
  /** Bytes of the body, or of the chunk, still to be received. */
  #left: number;
  #state: "size" | "data" | "data end" | "trailer" = "size";
  #line = "";
  #trailerBytes = 0;

  constructor(framing: BodyFraming) {
    this.#framing = framing.kind;
    this.#left = framing.kind === "length" ? framing.byteLength : 0;
    this.done = framing.kind === "none";
  }

  /**
   * Accepts bytes and passes on those of the body, as views, in at most a few pieces. Returns how many belonged to the
   * body; the rest belongs to the next message.
   *
   * @throws BodyFault if the framing is invalid.
   */
  push(bytes: Bytes, take: (piece: Bytes) => void): number {
    if (this.done) return 0;
    if (this.#framing === "close") {
      take(bytes);
      return bytes.length;
    }
    if (this.#framing === "chunked") return this.#chunks(bytes, take);
    const own = Math.min(this.#left, bytes.length);
    this.#left -= own;
    this.done = this.#left === 0;
    if (own > 0) take(part(bytes, 0, own));
    return own;
  }

  /** The connection has ended. Returns whether the body is complete. */
  end(): boolean {
    if (this.#framing === "close") this.done = true;
    return this.done;
  }

  #chunks(bytes: Bytes, take: (piece: Bytes) => void): number {
    let at = 0;
    while (at < bytes.length && !this.done) {
      if (this.#state === "data") {
        const end = Math.min(bytes.length, at + this.#left);
        take(bytes.subarray(at, end));
        this.#left -= end - at;
        at = end;
        if (this.#left === 0) this.#state = "data end";
        continue;
      }
      const newline = bytes.indexOf(10, at);
      const end = newline < 0 ? bytes.length : newline + 1;
      this.#line += Buffer.from(bytes.buffer, bytes.byteOffset + at, end - at).toString("latin1");
      at = end;
      if (this.#line.length > CHUNK_LINE_MAX_BYTES && this.#state !== "trailer") {
        throw new BodyFault("the line of a chunk is too long");
      }
      if (this.#line.length + this.#trailerBytes > TRAILER_MAX_BYTES) {
        throw new BodyFault("its trailer is too long");
      }
      if (newline >= 0) this.#takeLine();
    }
    return at;
  }

  #takeLine(): void {
    const line = this.#line;
    this.#line = "";
    if (!line.endsWith("\r\n")) throw new BodyFault("a line of its chunks ends without CR");
    if (this.#state === "data end") {
      if (line !== "\r\n") throw new BodyFault("a chunk is longer than its size");
      this.#state = "size";
    } else if (this.#state === "size") {
      const size = /^([0-9a-f]{1,8})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n$/i.exec(line)?.[1];
      if (size === undefined) throw new BodyFault("the size of a chunk isn't a number");
      this.#left = parseInt(size, 16);
      this.#state = this.#left === 0 ? "trailer" : "data";
    } else {
      this.#trailerBytes += line.length;
      this.done = line === "\r\n";
    }
  }
}

/** The end of a chunk. */
export const CHUNK_END: Bytes = Uint8Array.of(13, 10);
/** The end of a chunked body. */
export const LAST_CHUNK: Bytes = new Uint8Array(Buffer.from("0\r\n\r\n", "latin1"));

/** The line before a chunk. */
export function chunkLine(byteLength: number): Bytes {
  return new Uint8Array(Buffer.from(`${byteLength.toString(16)}\r\n`, "latin1"));
}
