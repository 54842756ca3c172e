/**
 * Streams that are ending: a visitor has sent FIN and waits for the answer, or a CLOSE stands behind bytes that the
 * peer doesn't take. They may go on as long as their bytes move.
 *
 * @module
 */
import { HALF_CLOSE_GRACE_MS } from "../limits.ts";
import type { MuxStream } from "./stream.ts";

/** What happens to a stream whose bytes don't move any more. */
export interface EndingEvents {
  /** The answer behind a visitor's FIN is over. */
  closeBehindData(stream: MuxStream): void;
  /** The peer doesn't take what stands before the CLOSE. */
  reset(stream: MuxStream, error: Error | undefined): void;
}

/** Watches ending streams; each is looked at every {@link HALF_CLOSE_GRACE_MS}. */
export class Endings {
  readonly #events: EndingEvents;
  readonly #streams = new Set<MuxStream>();

  constructor(events: EndingEvents) {
    this.#events = events;
  }

  /** Begins, or begins again, to watch a stream; says when `tick` is due. */
  watch(stream: MuxStream, nowMs: number): number {
    stream.graceEndsMs = nowMs + HALF_CLOSE_GRACE_MS;
    stream.graceMovedBytes = moved(stream);
    this.#streams.add(stream);
    return stream.graceEndsMs;
  }

  /** The stream is over. */
  forget(stream: MuxStream): void {
    this.#streams.delete(stream);
  }

  /** Does what is due; says when it wants to be called again. */
  tick(nowMs: number): number {
    let nextMs = Infinity;
    for (const stream of this.#streams) {
      if (nowMs >= stream.graceEndsMs) this.#check(stream, nowMs);
      if (this.#streams.has(stream)) nextMs = Math.min(nextMs, Math.max(stream.graceEndsMs, nowMs + 1));
    }
    return nextMs;
  }

  #check(stream: MuxStream, nowMs: number): void {
    const stuck = moved(stream) === stream.graceMovedBytes;
    const empty = stream.incoming.byteLength === 0 && stream.outgoing.byteLength === 0;
    if (stuck && stream.closePending) return this.#events.reset(stream, undefined);
    if (stuck && empty) this.#events.closeBehindData(stream);
    this.watch(stream, nowMs);
  }
}

/** Changes whenever a byte of the stream moves. */
function moved(stream: MuxStream): number {
  return stream.deliveredBytes - stream.outgoing.byteLength;
}
