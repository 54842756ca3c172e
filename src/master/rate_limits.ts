/**
 * Rate limits of the session master, counted in memory over one-minute windows.
 *
 * @module
 */

import { createHash, randomBytes } from "node:crypto";
import { RateLimiterMemory, type RateLimiterRes } from "rate-limiter-flexible";
import { sourceOf } from "../wire/ip/networks.ts";
import { type Changeable, current } from "./changeable.ts";

const WINDOW_S = 60;

/** Seconds for Retry-After: at least one. */
function retryAfterS(result: RateLimiterRes): number {
  return Math.max(1, Math.ceil(result.msBeforeNext / 1000));
}

/** Wrong keys, counted by client address. */
export class FailureLimit {
  readonly #limiter: RateLimiterMemory;
  readonly #max: number;
  readonly #salt = randomBytes(16);

  constructor(maxPerMinute: number) {
    this.#max = maxPerMinute;
    this.#limiter = new RateLimiterMemory({ points: maxPerMinute, duration: WINDOW_S });
  }

  /** Seconds until `host` may try again, 0 if it may now. */
  async blockedForS(host: string): Promise<number> {
    const result = await this.#limiter.get(this.#bucket(host));
    return result === null || result.consumedPoints < this.#max || result.msBeforeNext <= 0
      ? 0
      : retryAfterS(result);
  }

  /** Counts a wrong key from `host`. */
  async count(host: string): Promise<void> {
    await this.#limiter.penalty(this.#bucket(host));
  }

  /**
   * One of 65,536 buckets, salted: a client with many addresses can neither fill the memory nor choose whose bucket it
   * shares.
   */
  #bucket(host: string): string {
    return createHash("sha256").update(this.#salt).update(sourceOf(host)).digest("hex").slice(0, 4);
  }
}

/** Tokens, counted by credential. */
export class IssueLimit {
  readonly #limiter: RateLimiterMemory;
  readonly #max: Changeable<number>;

  constructor(maxPerMinute: Changeable<number>) {
    this.#max = maxPerMinute;
    this.#limiter = new RateLimiterMemory({ points: current(maxPerMinute), duration: WINDOW_S });
  }

  /** Takes one; returns 0 if it was available, otherwise the seconds until the next one is. */
  async take(credentialId: string): Promise<number> {
    this.#limiter.points = current(this.#max);
    try {
      await this.#limiter.consume(credentialId);
      return 0;
    } catch (result) {
      // The limiter rejects with its state, and with an Error only if it fails itself.
      if (result instanceof Error) throw result;
      return retryAfterS(result as RateLimiterRes);
    }
  }
}
