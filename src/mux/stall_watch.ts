/**
 * Streams that take nothing while their session's memory is used up: after a while they go, so that the others go on.
 *
 * @module
 */
import { SESSION_STALL_MS } from "../limits.ts";
import type { MuxClock } from "./host.ts";

/** What is looked at of a stream. */
export interface StallingStream {
  readonly incoming: { readonly byteLength: number };
  readonly deliveredBytes: number;
}

/** Why a stream has to go. */
export const STALLED = `Cannot hold stream: it took nothing for ${
  SESSION_STALL_MS / 1000
} s while the session was full`;

/** Watches the streams of a session from when it is full until it isn't any more. */
export class StallWatch<Stream extends StallingStream> {
  readonly #host: MuxClock;
  readonly #streams: Iterable<Stream>;
  readonly #drop: (stream: Stream) => void;
  #fullSinceMs: number | undefined;
  #held: Map<Stream, number> = new Map();

  /** @param drop ends a stream; {@link end} may be called meanwhile. */
  constructor(host: MuxClock, streams: Iterable<Stream>, drop: (stream: Stream) => void) {
    this.#host = host;
    this.#streams = streams;
    this.#drop = drop;
  }

  /** Whether the session is full. */
  get full(): boolean {
    return this.#fullSinceMs !== undefined;
  }

  /** The session is full. */
  begin(): void {
    this.#watch(this.#host.nowMs());
  }

  /** The session isn't full any more. */
  end(): void {
    this.#fullSinceMs = undefined;
    this.#held = new Map();
  }

  /** Does what is due; says when it wants to be called again. */
  tick(nowMs: number): number {
    if (this.#fullSinceMs !== undefined && nowMs >= this.#fullSinceMs + SESSION_STALL_MS) {
      this.#break();
      if (this.full) this.#watch(nowMs);
    }
    return this.#fullSinceMs === undefined ? Infinity : this.#fullSinceMs + SESSION_STALL_MS;
  }

  #watch(nowMs: number): void {
    this.#fullSinceMs = nowMs;
    this.#held = new Map();
    for (const stream of this.#streams) {
      if (stream.incoming.byteLength > 0) this.#held.set(stream, stream.deliveredBytes);
    }
    this.#host.arm(nowMs + SESSION_STALL_MS);
  }

  /** Whoever took nothing in all that time goes, the fullest first, until the others can go on. */
  #break(): void {
    const stuck = [...this.#held]
      .filter(([stream, delivered]) => stream.incoming.byteLength > 0 && stream.deliveredBytes === delivered)
      .map(([stream]) => stream)
      .sort((a, b) => b.incoming.byteLength - a.incoming.byteLength);
    for (const stream of stuck) {
      if (!this.full) return;
      this.#drop(stream);
    }
  }
}
