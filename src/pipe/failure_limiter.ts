/**
 * How often a source may fail: guessing passphrases is slowed down, and costs nothing once a source is over it.
 *
 * @module
 */

const WINDOW_MS = 60_000;
/** Sources that are remembered; the oldest is forgotten beyond it. */
const SOURCES_MAX = 4_096;

/** Counts failures by source within a minute. */
export class FailureLimiter {
  readonly #maximum: number;
  readonly #sources = new Map<string, { count: number; readonly sinceMs: number }>();

  /** @param maximum failures within a minute after which a source is over the limit. */
  constructor(maximum: number) {
    this.#maximum = maximum;
  }

  /** Whether the source has failed too often. */
  over(source: string, nowMs: number): boolean {
    const found = this.#sources.get(source);
    return found !== undefined && nowMs - found.sinceMs < WINDOW_MS && found.count >= this.#maximum;
  }

  /** The source failed. True when that made it go over the limit. */
  failed(source: string, nowMs: number): boolean {
    const found = this.#sources.get(source);
    if (found !== undefined && nowMs - found.sinceMs < WINDOW_MS) return ++found.count === this.#maximum;
    this.#sources.delete(source);
    if (this.#sources.size >= SOURCES_MAX) this.#sources.delete(this.#sources.keys().next().value as string);
    this.#sources.set(source, { count: 1, sinceMs: nowMs });
    return this.#maximum === 1;
  }
}
