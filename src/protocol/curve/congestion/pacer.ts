/**
 * Pacing: a congestion window, spread over its round trip.
 *
 * @module
 */
import type { CongestionControl } from "./congestion.ts";

/** At least this many datagrams may go out at once: timers are coarse. */
const BURST_PACKETS = 10;
/** And what is due within this time, but no more than receivers' buffers take: 208 KiB on Linux, heads included. */
const BURST_MS = 2;
const BURST_MAX_BYTES = 64 * 1024;

/** A closed bucket waits this long at least: less could vanish in rounding, and no timer is that fine. */
const WAIT_MIN_MS = 0.05;

/** A token bucket that spreads a window over its round trip. */
export class Pacer {
  #tokens = 0;
  #atMs = -Infinity;
  #bytesPerMs = Infinity;
  #burst = 0;

  /** Sets the rate from window and round trip, and lets time pass. */
  update(nowMs: number, control: CongestionControl, smoothedMs: number, datagramBytes: number): void {
    const rate = (control.slowStart ? 2 : 1.25) * control.windowBytes / Math.max(smoothedMs, 0.05);
    this.#bytesPerMs = rate;
    this.#burst = Math.max(BURST_PACKETS * datagramBytes, Math.min(BURST_MAX_BYTES, rate * BURST_MS));
    this.#tokens = Math.min(this.#burst, this.#tokens + Math.max(0, nowMs - this.#atMs) * rate);
    this.#atMs = nowMs;
  }

  /** Whether a datagram may go now. */
  get open(): boolean {
    return this.#tokens > 0;
  }

  /** Takes what was sent; may go into debt by one datagram. */
  spend(bytes: number): void {
    this.#tokens -= bytes;
  }

  /** When the bucket opens again, if it is closed. */
  openAtMs(): number {
    return this.#atMs + Math.max(WAIT_MIN_MS, (1 - this.#tokens) / this.#bytesPerMs);
  }
}
