/**
 * Delays between attempts: exponential, with full jitter, so that agents which lost the same edge don't come back at
 * the same moment.
 *
 * @module
 */
import type { Clock } from "../runtime/port.ts";

/** First and largest delay between an agent's attempts; the delay is drawn from 0 to the current one (full jitter). */
export const RECONNECT_FIRST_MS = 500;
export const RECONNECT_MAX_MS = 60_000;
/** A session that lasted this long wasn't refused: the delay before the next attempt is the first one again. */
export const SESSION_SETTLED_MS = 10_000;

/**
 * While an edge can't be reached at all, this many attempts, about a minute's, follow each other within half a second
 * each, so that the first visitor after its restart waits less than one; then the delays grow.
 */
export const QUICK_ATTEMPTS = 160;
/** The delay before a quick attempt: this, and up to as much again. */
export const QUICK_DELAY_MS = 250;

/** Counts failures and says how long to wait. */
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
   * @param unreachable the edge wasn't reached at all: it may be about to come back
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

  /** The last attempt went well. */
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
