/**
 * Limits how often a source may fail: slows down passphrase guessing, and a source over the limit costs no work.
 *
 * @module
 */

import { sourceOf } from "./networks.ts";

const WINDOW_MS = 60_000;
/** Maximum sources tracked; beyond it the oldest is dropped. */
const SOURCES_MAX = 4_096;

/** Counts failures by source within a minute; an IPv6 /64 is one source. */
export class FailureLimiter {
  readonly #maximum: number;
  readonly #sources = new Map<string, { count: number; readonly sinceMs: number }>();

  /** @param maximum failures within a minute after which a source is over the limit. */
  constructor(maximum: number) {
    this.#maximum = maximum;
  }

  /** Whether the source of an address has failed too often. */
  over(host: string, nowMs: number): boolean {
    const found = this.#sources.get(sourceOf(host));
    return found !== undefined && nowMs - found.sinceMs < WINDOW_MS && found.count >= this.#maximum;
  }

  /** Records a failure of an address's source. True if that put it over the limit. */
  failed(host: string, nowMs: number): boolean {
    const source = sourceOf(host);
    const found = this.#sources.get(source);
    if (found !== undefined && nowMs - found.sinceMs < WINDOW_MS) return ++found.count === this.#maximum;
    this.#sources.delete(source);
    if (this.#sources.size >= SOURCES_MAX) this.#sources.delete(this.#sources.keys().next().value as string);
    this.#sources.set(source, { count: 1, sinceMs: nowMs });
    return this.#maximum === 1;
  }

  /** The source of an address has succeeded: its failures are forgotten. */
  clear(host: string): void {
    this.#sources.delete(sourceOf(host));
  }
}
