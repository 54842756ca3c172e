/**
 * Path MTU discovery: finds the largest datagram that a path carries (RFC 8899, with fixed sizes, no bisection).
 *
 * @module
 */
import { DATAGRAM_MIN_BYTES } from "../../../wire/curve/curve_packet.ts";

/** Sizes to try, in this order: IPv6's minimum, tunnels, PPPoE, Ethernet over IPv6, jumbo frames, loopback. */
const SIZES = [1_232, 1_372, 1_432, 1_452, 4_352, 8_952, 16_332] as const;
const TRIES = 3;
/** A size that failed is tried again after this long. */
const AGAIN_MS = 600_000;
/** Delay after falling back to the base size. */
const AFTER_FALL_MS = 60_000;

/** The search on one path. */
export class MtuSearch {
  /** Size known to fit the path. */
  bytes = DATAGRAM_MIN_BYTES;
  #limit: number;
  #next = 0;
  #tries = 0;
  #probing = false;
  #waitUntilMs = -Infinity;

  /** @param limit our maximum size; {@link cap} sets the peer's. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The peer accepts at most this. */
  cap(limit: number): void {
    this.#limit = Math.min(this.#limit, limit);
  }

  /** Size of a probe to be sent now; 0 for none. */
  probe(nowMs: number): number {
    if (this.#probing || nowMs < this.#waitUntilMs) return 0;
    const size = SIZES[this.#next];
    return size === undefined || size > this.#limit ? 0 : size;
  }

  /** The probe was sent. */
  sent(): void {
    this.#probing = true;
  }

  /** A probe was acknowledged. True if {@link bytes} has grown. */
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

  /** Black hole detected: falls back to the base size. True if that changes anything. */
  fall(nowMs: number): boolean {
    if (this.bytes === DATAGRAM_MIN_BYTES) return false;
    this.reset();
    this.#waitUntilMs = nowMs + AFTER_FALL_MS;
    return true;
  }

  /** The path has changed. */
  reset(): void {
    this.bytes = DATAGRAM_MIN_BYTES;
    this.#next = this.#tries = 0;
    this.#probing = false;
    this.#waitUntilMs = -Infinity;
  }
}
