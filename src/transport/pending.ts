/**
 * Counts connections that have been neither admitted nor refused yet, in total and per source.
 *
 * @module
 */
import { sourceOf } from "../wire/ip/networks.ts";

/** Counts pending connections, within limits. */
export class PendingConnections {
  readonly #max: number;
  readonly #perSourceMax: number;
  #size = 0;
  readonly #bySource = new Map<string, number>();

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
    const fromSource = this.#bySource.get(source) ?? 0;
    if (this.#size >= this.#max || fromSource >= this.#perSourceMax) return undefined;
    this.#size++;
    this.#bySource.set(source, fromSource + 1);
    let counted = true;
    return () => {
      if (!counted) return;
      counted = false;
      this.#size--;
      const left = this.#bySource.get(source)! - 1;
      if (left === 0) this.#bySource.delete(source);
      else this.#bySource.set(source, left);
    };
  }
}
