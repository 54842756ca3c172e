/**
 * Limits how many streams one source may have open to one session, or connections to one public port, leaving room for
 * others.
 *
 * @module
 */
import { isLocalSource, sourceOf } from "../wire/ip/networks.ts";
import { SourceCounts } from "../wire/ip/source_counts.ts";

/** Streams of one source (an IPv4 address, an IPv6 /64) to one name, or connections to one public port. */
export const STREAMS_PER_SOURCE_MAX = 256;

/** Counts streams by target and source. */
export class StreamShares {
  readonly #bySource = new WeakMap<object, SourceCounts>();
  readonly #max: number;

  /** @param max streams of one source to one target; 0 for no limit */
  constructor(max: number = STREAMS_PER_SOURCE_MAX) {
    this.#max = max === 0 ? Infinity : max;
  }

  /** Counts one more; false if the source has used its share. Local proxies are exempt. */
  enter(target: object, host: string): boolean {
    const source = sourceOf(host);
    let counts = this.#bySource.get(target);
    if (counts === undefined) this.#bySource.set(target, counts = new SourceCounts());
    return counts.add(source, isLocalSource(source) ? Infinity : this.#max);
  }

  /** Uncounts one. */
  leave(target: object, host: string): void {
    this.#bySource.get(target)?.remove(sourceOf(host));
  }
}
