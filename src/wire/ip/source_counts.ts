/**
 * Counts what each source has: connections, streams.
 *
 * @module
 */

/**
 * Counts by source, as named by `sourceOf`. A source takes memory only while something is counted for it, except for the
 * last: a `Map` that is emptied for each visitor would fill memory with its old tables (see src/bytes/roster.ts).
 */
export class SourceCounts {
  readonly #counts = new Map<string, number>();
  /** The source whose count has last become zero. */
  #idle: string | undefined;

  /** The number counted for `source`. */
  of(source: string): number {
    return this.#counts.get(source) ?? 0;
  }

  /** Counts one more for `source`, unless `max` are counted already. Returns whether it did. */
  add(source: string, max = Infinity): boolean {
    const count = this.of(source);
    if (count >= max) return false;
    this.#counts.set(source, count + 1);
    return true;
  }

  /** Uncounts one that was counted for `source`. */
  remove(source: string): void {
    const left = this.of(source) - 1;
    if (left < 0) return;
    this.#counts.set(source, left);
    if (left > 0 || source === this.#idle) return;
    if (this.#idle !== undefined && this.of(this.#idle) === 0) this.#counts.delete(this.#idle);
    this.#idle = source;
  }
}
