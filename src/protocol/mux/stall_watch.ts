/**
 * Resets streams that consume nothing while their session's memory is used up, so that the others can continue.
 *
 * @module
 */
import type { MuxClock } from "./host.ts";

/**
 * A session whose budget is used up resets the streams that consume nothing for this long; if it doesn't read its socket
 * meanwhile, its slowest ones too.
 */
export const SESSION_STALL_MS = 10_000;
/**
 * The same for streams that consume nothing where all others wait, because the session doesn't read its socket, and where
 * the peer knows PAUSE: without it a single visitor's pause fills the session.
 */
export const SESSION_HELD_STALL_MS = 1_000;

/** A full session looks for stalled streams this many times within the time that they are given. */
const CHECKS = 10;

/** The members of a stream that are inspected. */
export interface StallingStream {
  readonly incoming: { readonly byteLength: number };
  /** When its queue was last empty or gave bytes. */
  readonly movedAtMs: number;
}

/** The time that a full session gives its streams. */
export interface StallPatience {
  /** A stream of which nothing is consumed for this long is reset, the fullest first. */
  readonly stallMs: number;
  /** Whether the time before the session was full counts: streams that have stalled by then are reset at once. */
  readonly countsBefore: boolean;
  /** A session that is full for this long resets slow streams too. */
  readonly slowMs: number;
}

/** Watches the streams of a session; created when it is full. */
export class StallWatch<Stream extends StallingStream> {
  readonly #host: MuxClock;
  readonly #streams: Iterable<Stream>;
  readonly #drop: (stream: Stream, why: string) => void;
  readonly #patience: StallPatience;
  readonly #fullSinceMs: number;
  #checkAtMs: number;

  /** @param drop ends a stream; {@link end} may be called meanwhile. */
  constructor(
    host: MuxClock,
    streams: Iterable<Stream>,
    drop: (stream: Stream, why: string) => void,
    patience: StallPatience,
  ) {
    this.#host = host;
    this.#streams = streams;
    this.#drop = drop;
    this.#patience = patience;
    this.#fullSinceMs = host.nowMs();
    this.#checkAtMs = this.#fullSinceMs + (patience.countsBefore ? 0 : patience.stallMs);
    host.arm(this.#checkAtMs);
  }

  /** The session is no longer full. */
  end(): void {
    this.#checkAtMs = Infinity;
  }

  /** Performs due work, and returns the time of the next call. */
  tick(nowMs: number): number {
    if (nowMs >= this.#checkAtMs) {
      this.#checkAtMs = nowMs + this.#patience.stallMs / CHECKS;
      this.#check(nowMs);
    }
    return this.#checkAtMs;
  }

  /** Drops stalled streams, largest backlog first, until the session has room again. */
  #check(nowMs: number): void {
    const { stallMs, countsBefore, slowMs } = this.#patience;
    const slowToo = nowMs >= this.#fullSinceMs + slowMs;
    const isStalled = ({ movedAtMs }: Stream) =>
      nowMs >= stallMs + (countsBefore ? movedAtMs : Math.max(movedAtMs, this.#fullSinceMs));
    const dropped = [...this.#streams]
      .filter((stream) => stream.incoming.byteLength > 0 && (slowToo || isStalled(stream)))
      .sort((a, b) => b.incoming.byteLength - a.incoming.byteLength);
    const why = slowToo
      ? `Cannot keep stream: it was read too slowly, and the session was full for ${slowMs / 1000} s`
      : `Cannot keep stream: nothing was read from it for ${stallMs / 1000} s, and the session is full`;
    for (const stream of dropped) {
      if (this.#checkAtMs === Infinity) return;
      this.#drop(stream, why);
    }
  }
}
