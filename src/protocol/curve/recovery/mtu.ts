/**
 * The search for the largest datagram that a path carries (RFC 8899, with few sizes instead of a bisection).
 *
 * @module
 */
import { DATAGRAM_MIN_BYTES } from "../../../wire/curve/curve_packet.ts";

/** What is tried, in this order: IPv6's minimum, tunnels, PPPoE, Ethernet over IPv6, jumbo frames, loopback. */
const SIZES = [1_232, 1_372, 1_432, 1_452, 4_352, 8_952, 16_332] as const;
const TRIES = 3;
/** A size that failed is tried again after this long. */
const AGAIN_MS = 600_000;
/** After a fall back to the sure size. */
const AFTER_FALL_MS = 60_000;

/** The search on one path. */
export class MtuSearch {
  /** Size that the path carries. */
  bytes = DATAGRAM_MIN_BYTES;
  #limit: number;
  #next = 0;
  #tries = 0;
  #probing = false;
  #waitUntilMs = -Infinity;

  /** @param limit own largest size; the peer's comes with {@link cap}. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The peer accepts at most this. */
  cap(limit: number): void {
    this.#limit = Math.min(this.#limit, limit);
  }

  /** Size of a probe to be sent now; 0: none. */
  probe(nowMs: number): number {
    if (this.#probing || nowMs < this.#waitUntilMs) return 0;
    const size = SIZES[this.#next];
    return size === undefined || size > this.#limit ? 0 : size;
  }

  /** The probe was sent. */
  sent(): void {
    this.#probing = true;
  }

  /** A probe came through. True: {@link bytes} has grown. */
  acked(size: number): boolean {
    this.#probing = false;
    this.#tries = 0;
    if (size <= this.bytes) return false;
    this.bytes = size;
    this.#next = SIZES.findIndex((other) => other > size);
    if (this.#next < 0) this.#next = SIZES.length;
    return true;
  }

  /** A probe was lost. */
  lost(nowMs: number): void {
    this.#probing = false;
    if (++this.#tries < TRIES) return;
    this.#tries = 0;
    this.#waitUntilMs = nowMs + AGAIN_MS;
  }

  /** Nothing comes through any more: back to the sure size. True when that changes something. */
  fall(nowMs: number): boolean {
    if (this.bytes === DATAGRAM_MIN_BYTES) return false;
    this.reset();
    this.#waitUntilMs = nowMs + AFTER_FALL_MS;
    return true;
  }

  /** Another path. */
  reset(): void {
    this.bytes = DATAGRAM_MIN_BYTES;
    this.#next = this.#tries = 0;
    this.#probing = false;
    this.#waitUntilMs = -Infinity;
  }
}
