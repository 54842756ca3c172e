/**
 * Counts connections that have been neither admitted nor refused yet, in total and per source.
 *
 * @module
 */
import { PENDING_CONNECTIONS_MAX, PENDING_PER_SOURCE_MAX } from "../runtime/port.ts";
import { sourceOf } from "../wire/ip/networks.ts";

/** Counts pending connections, within limits. */
export class PendingConnections {
  readonly #max: number;
  readonly #perSourceMax: number;
  #size = 0;
  readonly #bySource = new Map<string, number>();

  constructor(max: number = PENDING_CONNECTIONS_MAX, perSourceMax: number = PENDING_PER_SOURCE_MAX) {
    this.#max = max;
    this.#perSourceMax = perSourceMax;
  }

  /** The number of pending connections. */
  get size(): number {
    return this.#size;
  }

  /**
   * Counts one more. Returns a function that uncounts it and may be called repeatedly; undefined if there are too many.
   *
   * @param host the peer's address; undefined for one that isn't counted per source, such as a proxy's
   */
  enter(host: string | undefined): (() => void) | undefined {
    const source = host === undefined ? undefined : sourceOf(host);
    const fromSource = source === undefined ? 0 : this.#bySource.get(source) ?? 0;
    if (this.#size >= this.#max || fromSource >= this.#perSourceMax) return undefined;
    this.#size++;
    if (source !== undefined) this.#bySource.set(source, fromSource + 1);
    let counted = true;
    return () => {
      if (!counted) return;
      counted = false;
      this.#size--;
      if (source === undefined) return;
      const left = this.#bySource.get(source)! - 1;
      if (left === 0) this.#bySource.delete(source);
      else this.#bySource.set(source, left);
    };
  }
}
