/**
 * Streams that are ending: a visitor has sent FIN and waits for the answer, or a CLOSE stands behind bytes that the
 * peer doesn't take. They may go on as long as their bytes move.
 *
 * @module
 */

/** SniTun has no FIN: after a visitor's FIN the answer may go on, until this long has passed without a byte of it. */
export const HALF_CLOSE_GRACE_MS = 10_000;
/**
 * The same where the visitor's FIN follows an answer: it has most likely gone, and a plain FIN a visit mustn't fill the
 * session with streams that wait.
 */
export const HALF_CLOSE_ANSWERED_MS = 2_000;

/** The part of a stream that is examined. */
export interface EndingStream {
  readonly incoming: { readonly byteLength: number };
  readonly outgoing: { readonly byteLength: number };
  readonly deliveredBytes: number;
  /** Its end is queued behind its data, and its received data is not wanted any more. */
  readonly closePending: boolean;
  graceEndsMs: number;
  graceMovedBytes: number;
}

/** Handles streams whose bytes don't move any more. */
export interface EndingEvents<Stream> {
  /** The answer behind a visitor's FIN is over. */
  closeBehindData(stream: Stream): void;
  /** The peer doesn't take the data in front of the CLOSE. */
  reset(stream: Stream, error: Error | undefined): void;
}

/** Watches ending streams; each is looked at every {@link HALF_CLOSE_GRACE_MS}. */
export class Endings<Stream extends EndingStream> {
  readonly #events: EndingEvents<Stream>;
  /** Made when there is one: most sessions are idle. */
  #streams: Set<Stream> | undefined;

  constructor(events: EndingEvents<Stream>) {
    this.#events = events;
  }

  /** Begins, or begins again, to watch a stream, which is looked at after `graceMs`; says when `tick` is due. */
  watch(stream: Stream, nowMs: number, graceMs = HALF_CLOSE_GRACE_MS): number {
    stream.graceEndsMs = nowMs + graceMs;
    stream.graceMovedBytes = moved(stream);
    (this.#streams ??= new Set()).add(stream);
    return stream.graceEndsMs;
  }

  /** The stream is over. */
  forget(stream: Stream): void {
    this.#streams?.delete(stream);
  }

  /** Does what is due, and returns the time of the next call. */
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
