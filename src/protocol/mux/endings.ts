/**
 * Streams that are ending: a visitor has sent FIN and waits for the answer, or a CLOSE is queued behind bytes that the
 * peer doesn't accept. They may continue as long as they make progress.
 *
 * @module
 */
import { Roster } from "../../bytes/roster.ts";

/** SniTun has no FIN: after a visitor's FIN the answer may continue until no byte of it has arrived for this long. */
export const HALF_CLOSE_GRACE_MS = 10_000;
/**
 * The same if the visitor's FIN follows an answer: the visitor has most likely left, and one FIN per visit mustn't fill
 * the session with waiting streams.
 */
export const HALF_CLOSE_ANSWERED_MS = 2_000;

/** The members of a stream that are inspected. */
export interface EndingStream {
  readonly incoming: { readonly byteLength: number };
  readonly outgoing: { readonly byteLength: number };
  readonly deliveredBytes: number;
  /** Its end is queued behind its data, and its received data is no longer wanted. */
  readonly closePending: boolean;
  /** Its place among those watched, {@link NO_PLACE} at first. */
  endingPlace: number;
  graceEndsMs: number;
  graceMovedBytes: number;
}

/** Handles streams that make no more progress. */
export interface EndingEvents<Stream> {
  /** The answer after a visitor's FIN is over. */
  closeBehindData(stream: Stream): void;
  /** The peer doesn't accept the data ahead of the CLOSE. */
  reset(stream: Stream, error: Error | undefined): void;
}

/** Watches ending streams; each is checked every {@link HALF_CLOSE_GRACE_MS}. */
export class Endings<Stream extends EndingStream> {
  readonly #events: EndingEvents<Stream>;
  /** Created on first use: most sessions are idle. */
  #streams: Roster<"endingPlace", Stream> | undefined;

  constructor(events: EndingEvents<Stream>) {
    this.#events = events;
  }

  /** Starts or restarts watching a stream, which is checked after `graceMs`. Returns when `tick` is due. */
  watch(stream: Stream, nowMs: number, graceMs = HALF_CLOSE_GRACE_MS): number {
    stream.graceEndsMs = nowMs + graceMs;
    stream.graceMovedBytes = moved(stream);
    (this.#streams ??= new Roster("endingPlace")).add(stream);
    return stream.graceEndsMs;
  }

  /** The stream is over. */
  forget(stream: Stream): void {
    this.#streams?.delete(stream);
  }

  /** Performs due work, and returns the time of the next call. */
  tick(nowMs: number): number {
    let nextMs = Infinity;
    for (const stream of this.#streams ?? []) {
      if (nowMs >= stream.graceEndsMs) this.#check(stream, nowMs);
      if (this.#streams?.has(stream)) nextMs = Math.min(nextMs, Math.max(stream.graceEndsMs, nowMs + 1));
    }
    return nextMs;
  }

  #check(stream: Stream, nowMs: number): void {
    const stuck = moved(stream) === stream.graceMovedBytes;
    const empty = stream.incoming.byteLength === 0 && stream.outgoing.byteLength === 0;
    if (stuck && stream.closePending) return this.#events.reset(stream, undefined);
    if (stuck && empty) this.#events.closeBehindData(stream);
    this.watch(stream, nowMs);
  }
}

/** Changes whenever a byte of the stream moves. */
function moved(stream: EndingStream): number {
  return stream.deliveredBytes - stream.outgoing.byteLength;
}
