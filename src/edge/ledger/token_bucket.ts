/**
 * A token bucket that runs into debt: received bytes pass, and their sender waits until the debt is paid.
 * Over time exactly the rate passes, and nothing is dropped.
 *
 * @module
 */
import type { Clock } from "../../runtime/port.ts";

/** What may pass at once after a quiet time, in milliseconds of the rate. */
export const BURST_MS = 50;

/** See the module. */
export class TokenBucket {
  readonly #clock: Clock;
  #perMs: number;
  #burst: number;
  #level: number;
  #atMs: number;

  constructor(clock: Clock, perSecond: number, burst: number = perSecond * BURST_MS / 1000) {
    this.#clock = clock;
    this.#perMs = perSecond / 1000;
    this.#burst = burst;
    this.#level = burst;
    this.#atMs = clock.nowMs();
  }

  /** Another rate from now on. */
  setRate(perSecond: number, burst: number = perSecond * BURST_MS / 1000): void {
    this.#fill();
    this.#perMs = perSecond / 1000;
    this.#burst = burst;
    this.#level = Math.min(this.#level, burst);
  }

  /** Takes `amount`, into debt where it isn't there; gives the milliseconds until the debt is paid. */
  take(amount: number): number {
    this.#fill();
    this.#level -= amount;
    return this.waitMs;
  }

  /** Takes `amount` where it is there; false where it isn't. */
  tryTake(amount: number): boolean {
    this.#fill();
    if (this.#level < amount) return false;
    this.#level -= amount;
    return true;
  }

  /** Whole milliseconds until the debt is paid: a timer for less would find a rest of it, over and over. */
  get waitMs(): number {
    this.#fill();
    return this.#level >= 0 ? 0 : Math.ceil(-this.#level / this.#perMs);
  }

  #fill(): void {
    const nowMs = this.#clock.nowMs();
    this.#level = Math.min(this.#burst, this.#level + (nowMs - this.#atMs) * this.#perMs);
    this.#atMs = nowMs;
  }
}
