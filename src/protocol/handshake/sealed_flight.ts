/**
 * Collects a flight of the sealed transport, whose header gives its length.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { TAG_BYTES } from "../../crypto/sodium.ts";
import { SEALED_PADDING_MAX_BYTES } from "../../wire/sealed/sealed_messages.ts";

/** Sealed: how long an agent waits for the edge's answer, and an edge for the agent's login. */
export const SEALED_ANSWER_DEADLINE_MS = 10_000;

/** Accepts bytes in chunks of any size, up to the flight's end. */
export class FlightCollector {
  readonly #bytes: Bytes;
  readonly #headEnd: number;
  #filled = 0;
  #end: number;

  /** @param headEnd end offset of the head's box; the padding's box follows. */
  constructor(headEnd: number) {
    this.#headEnd = headEnd;
    this.#end = headEnd;
    this.#bytes = new Uint8Array(headEnd + SEALED_PADDING_MAX_BYTES + TAG_BYTES);
  }

  /** Adds the missing bytes of the head or the flight. Returns the rest of `chunk`. */
  push(chunk: Bytes): Bytes {
    const length = Math.min(this.#end - this.#filled, chunk.length);
    this.#bytes.set(chunk.subarray(0, length), this.#filled);
    this.#filled += length;
    return chunk.subarray(length);
  }

  /** The head and the bytes before it, once complete. */
  get head(): Bytes | undefined {
    return this.#filled < this.#headEnd ? undefined : this.#bytes.subarray(0, this.#headEnd);
  }

  /** Sets the padding length given in the head. False if it is invalid. */
  expectPadding(paddingBytes: number): boolean {
    if (paddingBytes > SEALED_PADDING_MAX_BYTES) return false;
    this.#end = this.#headEnd + paddingBytes + TAG_BYTES;
    return true;
  }

  /** The flight, once complete. */
  get whole(): Bytes | undefined {
    return this.#end > this.#headEnd && this.#filled === this.#end
      ? this.#bytes.subarray(0, this.#end)
      : undefined;
  }

  /** The padding's box of a complete flight. */
  get padding(): Bytes {
    return this.#bytes.subarray(this.#headEnd, this.#end);
  }
}
