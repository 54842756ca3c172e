/**
 * Limits how many streams one source may have open to one session, or connections to one public port, leaving room for
 * others.
 *
 * @module
 */
import { SallyportError } from "../errors.ts";
import { isLocalSource, sourceOf } from "../wire/ip/networks.ts";
import { SourceCounts } from "../wire/ip/source_counts.ts";
import type { Caller, Session, SessionStream } from "./port.ts";

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

  /**
   * Opens a stream of `session` for `caller`, counted until {@link leave}. Throws `limit_exceeded` if the caller's source
   * has used its share, or the session's error.
   */
  open(session: Session, caller: Caller): SessionStream {
    if (!this.enter(session, caller.address)) {
      const why = `Cannot serve visitor: its source has too many streams to ${caller.serverName} already`;
      throw new SallyportError("limit_exceeded", why, { side: "peer", retryable: true });
    }
    try {
      return session.open(caller);
    } catch (error) {
      this.leave(session, caller.address);
      throw error;
    }
  }

  /** Uncounts one. */
  leave(target: object, host: string): void {
    this.#bySource.get(target)?.remove(sourceOf(host));
  }
}
