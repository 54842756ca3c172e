/**
 * Delays between attempts: exponential, with full jitter, so that agents that lost the same edge don't reconnect at the
 * same moment.
 *
 * @module
 */
import type { Clock } from "../runtime/port.ts";

/** First and largest delay between an agent's attempts; the delay is drawn from 0 to the current one (full jitter). */
export const RECONNECT_FIRST_MS = 500;
export const RECONNECT_MAX_MS = 60_000;
/** A session that lasted this long wasn't refused: the delay before the next attempt is reset to the first one. */
export const SESSION_SETTLED_MS = 10_000;

/**
 * While an edge is unreachable, this many attempts (about a minute's worth) are made at most half a second apart, so
 * that the first visitor after its restart waits less than a second; then the delays grow.
 */
export const QUICK_ATTEMPTS = 160;
/** Minimum delay before a quick attempt; up to the same amount is added. */
export const QUICK_DELAY_MS = 250;

/** Counts failures and computes the next delay. */
export class Backoff {
  readonly #random: () => number;
  #failures = 0;
  #quick = 0;

  /** @param random Draws from 0 (inclusive) to 1 (exclusive). */
  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /**
   * The delay in milliseconds before the next attempt: anything from 0 to a ceiling that doubles up to a minute.
   *
   * @param unreachable the edge wasn't reached at all, and may be restarting
   */
  next(unreachable = false): number {
    if (unreachable && this.#failures > 0 && this.#quick < QUICK_ATTEMPTS) {
      this.#quick++;
      return Math.floor(QUICK_DELAY_MS * (1 + this.#random()));
    }
    const ceilingMs = Math.min(RECONNECT_MAX_MS, RECONNECT_FIRST_MS * 2 ** this.#failures);
    if (ceilingMs < RECONNECT_MAX_MS) this.#failures++;
    return Math.floor(this.#random() * ceilingMs);
  }

  /** The last attempt succeeded. */
  reset(): void {
    this.#failures = 0;
    this.#quick = 0;
  }
}

/** Resolves after a while, or when the signal is aborted. */
export function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = clock.after(delayMs, done);
    signal.addEventListener("abort", done, { once: true });
    function done(): void {
      timer.cancel();
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}
