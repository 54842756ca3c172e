/**
 * Resets streams that consume nothing while their session's memory is used up, so that the others can continue.
 *
 * @module
 */
import type { MuxClock } from "./host.ts";

/** A session whose budget stays used up for this long loses its fullest stream, so that the others can continue. */
export const SESSION_STALL_MS = 10_000;
/**
 * The same where all streams wait meanwhile, because the session doesn't read its socket, and where the peer knows PAUSE:
 * without it a single visitor's pause fills the session.
 */
export const SESSION_HELD_STALL_MS = 1_000;

/** The members of a stream that are inspected. */
export interface StallingStream {
  readonly incoming: { readonly byteLength: number };
  readonly deliveredBytes: number;
}

/** Watches the streams of a session; created when it is full. */
export class StallWatch<Stream extends StallingStream> {
  readonly #host: MuxClock;
  readonly #streams: Iterable<Stream>;
  readonly #drop: (stream: Stream, why: string) => void;
  readonly #stallMs: number;
  #sinceMs = Infinity;
  #held: Map<Stream, number> = new Map();

  /**
   * @param drop ends a stream; {@link end} may be called meanwhile.
   * @param stallMs how long the budget may stay used up.
   */
  constructor(
    host: MuxClock,
    streams: Iterable<Stream>,
    drop: (stream: Stream, why: string) => void,
    stallMs: number = SESSION_STALL_MS,
  ) {
    this.#host = host;
    this.#streams = streams;
    this.#drop = drop;
    this.#stallMs = stallMs;
    this.#watch(host.nowMs());
  }

  /** The session is no longer full. */
  end(): void {
    this.#sinceMs = Infinity;
  }

  /** Performs due work, and returns the time of the next call. */
  tick(nowMs: number): number {
    if (nowMs >= this.#sinceMs + this.#stallMs) {
      this.#break();
      if (this.#sinceMs !== Infinity) this.#watch(nowMs);
    }
    return this.#sinceMs + this.#stallMs;
  }

  #watch(nowMs: number): void {
    this.#sinceMs = nowMs;
    this.#held = new Map();
    for (const stream of this.#streams) {
      if (stream.incoming.byteLength > 0) this.#held.set(stream, stream.deliveredBytes);
    }
    this.#host.arm(nowMs + this.#stallMs);
  }

  /** Drops stalled streams, largest backlog first, until the session has room again. */
  #break(): void {
    const stuck = [...this.#held]
      .filter(([stream, delivered]) => stream.incoming.byteLength > 0 && stream.deliveredBytes === delivered)
      .map(([stream]) => stream)
      .sort((a, b) => b.incoming.byteLength - a.incoming.byteLength);
    const why = `Cannot keep stream: nothing was read from it for ${
      this.#stallMs / 1000
    } s while the session was full`;
    for (const stream of stuck) {
      if (this.#sinceMs === Infinity) return;
      this.#drop(stream, why);
    }
  }
}
