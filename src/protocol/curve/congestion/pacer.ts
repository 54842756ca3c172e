/**
 * Pacing: spreads a congestion window over its round trip.
 *
 * @module
 */
import type { CongestionControl } from "./congestion.ts";

/** Minimum burst in datagrams: timers are coarse. */
const BURST_PACKETS = 10;
/** A burst also covers what is due within this time, up to a receive buffer: 208 KiB on Linux, headers included. */
const BURST_MS = 2;
const BURST_MAX_BYTES = 64 * 1024;

/** Minimum wait of an empty bucket: less could be lost in rounding, and no timer is that fine. */
const WAIT_MIN_MS = 0.05;

/** A token bucket that spreads a window over its round trip. */
export class Pacer {
  #tokens = 0;
  #atMs = -Infinity;
  #bytesPerMs = Infinity;
  #burst = 0;

  /** Sets the rate from window and round trip, and refills the bucket. */
  update(nowMs: number, control: CongestionControl, smoothedMs: number, datagramBytes: number): void {
    const rate = (control.slowStart ? 2 : 1.25) * control.windowBytes / Math.max(smoothedMs, 0.05);
    this.#bytesPerMs = rate;
    this.#burst = Math.max(BURST_PACKETS * datagramBytes, Math.min(BURST_MAX_BYTES, rate * BURST_MS));
    this.#tokens = Math.min(this.#burst, this.#tokens + Math.max(0, nowMs - this.#atMs) * rate);
    this.#atMs = nowMs;
  }

  /** Whether a datagram may be sent now. */
  get open(): boolean {
    return this.#tokens > 0;
  }

  /** Deducts the bytes sent; may overdraw by one datagram. */
  spend(bytes: number): void {
    this.#tokens -= bytes;
  }

  /** When the bucket opens again, if it is closed. */
  openAtMs(): number {
    return this.#atMs + Math.max(WAIT_MIN_MS, (1 - this.#tokens) / this.#bytesPerMs);
  }
}
