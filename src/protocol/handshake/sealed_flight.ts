/**
 * Collects a flight of the sealed transport, whose length its own head says.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { TAG_BYTES } from "../../crypto/sodium.ts";
import { SEALED_PADDING_MAX_BYTES } from "../../wire/sealed/sealed_messages.ts";

/** Sealed: an agent waits so long for the edge's answer, and an edge for the agent's login. */
export const SEALED_ANSWER_DEADLINE_MS = 10_000;

/** Takes bytes in any pieces, up to the flight's end. */
export class FlightCollector {
  readonly #bytes: Bytes;
  readonly #headEnd: number;
  #filled = 0;
  #end: number;

  /** @param headEnd where the head's box ends; the padding's follows. */
  constructor(headEnd: number) {
    this.#headEnd = headEnd;
    this.#end = headEnd;
    this.#bytes = new Uint8Array(headEnd + SEALED_PADDING_MAX_BYTES + TAG_BYTES);
  }

  /** Takes what is missing of the head or the flight; gives what of `chunk` lies behind. */
  push(chunk: Bytes): Bytes {
    const length = Math.min(this.#end - this.#filled, chunk.length);
    this.#bytes.set(chunk.subarray(0, length), this.#filled);
    this.#filled += length;
    return chunk.subarray(length);
  }

  /** The head and what stands before it, once it is there. */
  get head(): Bytes | undefined {
    return this.#filled < this.#headEnd ? undefined : this.#bytes.subarray(0, this.#headEnd);
  }

  /** The head has said how much padding follows. False where that can't be. */
  expectPadding(paddingBytes: number): boolean {
    if (paddingBytes > SEALED_PADDING_MAX_BYTES) return false;
    this.#end = this.#headEnd + paddingBytes + TAG_BYTES;
    return true;
  }

  /** The flight, once it is whole. */
  get whole(): Bytes | undefined {
    return this.#end > this.#headEnd && this.#filled === this.#end
      ? this.#bytes.subarray(0, this.#end)
      : undefined;
  }

  /** The padding's box of a whole flight. */
  get padding(): Bytes {
    return this.#bytes.subarray(this.#headEnd, this.#end);
  }
}
