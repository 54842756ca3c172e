/**
 * Limits how many streams one source may have open to one session, or connections to one public port, leaving room for
 * others.
 *
 * @module
 */
import { sourceOf } from "../wire/ip/networks.ts";

/** Streams of one source (an IPv4 address, an IPv6 /64) to one name, or connections to one public port. */
export const STREAMS_PER_SOURCE_MAX = 256;

/** Counts streams by target and source. */
export class StreamShares {
  readonly #bySource = new WeakMap<object, Map<string, number>>();
  readonly #max: number;

  /** @param max streams of one source to one target; 0 for no limit */
  constructor(max: number = STREAMS_PER_SOURCE_MAX) {
    this.#max = max === 0 ? Infinity : max;
  }

  /** Counts one more; false if the source has used its share. Local proxies are exempt. */
  enter(target: object, host: string): boolean {
    const source = sourceOf(host);
    let counts = this.#bySource.get(target);
    if (counts === undefined) this.#bySource.set(target, counts = new Map());
    const count = counts.get(source) ?? 0;
    if (count >= this.#max && !source.startsWith("127.") && source !== "0.0.0.0.0.0.0.0") return false;
    counts.set(source, count + 1);
    return true;
  }

  /** Uncounts one. */
  leave(target: object, host: string): void {
    const counts = this.#bySource.get(target);
    const source = sourceOf(host);
    const left = (counts?.get(source) ?? 1) - 1;
    if (left > 0) counts!.set(source, left);
    else counts?.delete(source);
  }
}
