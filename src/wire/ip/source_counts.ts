/**
 * Counts what each source has: connections, streams.
 *
 * @module
 */

/** Counts by source, as named by `sourceOf`. A source takes memory only while something is counted for it. */
export class SourceCounts {
  readonly #counts = new Map<string, number>();

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
    if (left > 0) this.#counts.set(source, left);
    else this.#counts.delete(source);
  }
}
