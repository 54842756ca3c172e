/**
 * A token bucket that runs into debt: received bytes pass, and their sender waits until the debt is paid.
 * Over time exactly the rate passes, and nothing is dropped.
 *
 * @module
 */
import type { Clock } from "../../runtime/port.ts";

/** Burst allowed after a quiet period, in milliseconds of the rate. */
export const BURST_MS = 50;

/** A bucket for one direction of one agent. */
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

  /** Changes the rate. */
  setRate(perSecond: number, burst: number = perSecond * BURST_MS / 1000): void {
    this.#fill();
    this.#perMs = perSecond / 1000;
    this.#burst = burst;
    this.#level = Math.min(this.#level, burst);
  }

  /** Takes `amount`, running into debt if necessary; returns the milliseconds until the debt is paid. */
  take(amount: number): number {
    this.#fill();
    this.#level -= amount;
    return this.waitMs;
  }

  /** Takes `amount` if it is available; otherwise returns false. */
  tryTake(amount: number): boolean {
    this.#fill();
    if (this.#level < amount) return false;
    this.#level -= amount;
    return true;
  }

  /** Milliseconds until the debt is paid, rounded up: a shorter timer would repeatedly find a remainder. */
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
