/**
 * Counts connections that have been neither admitted nor refused yet, in total and per source.
 *
 * @module
 */
import { sourceOf } from "./networks.ts";
import { SourceCounts } from "./source_counts.ts";

/** Counts pending connections, within limits. */
export class PendingConnections {
  readonly #max: number;
  readonly #perSourceMax: number;
  #size = 0;
  readonly #bySource = new SourceCounts();

  constructor(max: number, perSourceMax: number) {
    this.#max = max;
    this.#perSourceMax = perSourceMax;
  }

  /** The number of pending connections. */
  get size(): number {
    return this.#size;
  }

  /**
   * Counts one more from this address. Returns a function that uncounts it and may be called repeatedly; undefined if
   * there are too many.
   */
  enter(host: string): (() => void) | undefined {
    const source = sourceOf(host);
    if (this.#size >= this.#max || !this.#bySource.add(source, this.#perSourceMax)) return undefined;
    this.#size++;
    let counted = true;
    return () => {
      if (!counted) return;
      counted = false;
      this.#size--;
      this.#bySource.remove(source);
    };
  }
}
