/**
 * A visitor's stream as passed to a service's connector: with the name that the visitor requested, and metered, so that
 * the service knows how many visitors it has and how much they transferred.
 *
 * @module
 */
import { NO_PLACE } from "../../bytes/roster.ts";
import type { ByteStreamHandler } from "../../runtime/port.ts";
import { CountedStream } from "../../runtime/wrapped_stream.ts";
import type { Caller, SessionStream } from "../../transport/port.ts";

/** A visitor's stream that counts its bytes. */
export interface VisitorStream extends SessionStream {
  /** Its place among the service's visitors, {@link NO_PLACE} at first. */
  visitorPlace: number;
  /** Bytes from the visitor that were passed on. */
  readonly bytesIn: number;
  /** Bytes for the visitor that were accepted. */
  readonly bytesOut: number;
}

/** Passes a stream of `caller` through and counts its bytes. `over` is called once at the stream's end. */
export function meterVisitor(
  stream: SessionStream,
  caller: Caller,
  over: (error: Error | undefined) => void,
): VisitorStream {
  return new MeteredStream(stream, caller, over);
}

class MeteredStream extends CountedStream<SessionStream> implements VisitorStream {
  readonly caller: Caller;
  visitorPlace = NO_PLACE;
  #attached = false;

  constructor(inner: SessionStream, caller: Caller, over: (error: Error | undefined) => void) {
    super(inner, over);
    this.caller = caller;
  }

  get peerPaused(): boolean {
    return this.inner.peerPaused;
  }

  override attach(handler: ByteStreamHandler): void {
    this.handler = handler;
    this.#listen();
  }

  override abort(error?: Error): void {
    this.#listen();
    this.inner.abort(error);
  }

  override release(): void {
    this.#listen();
    this.inner.release();
  }

  /** Attaches even if no handler listens yet, because the service must learn of the stream's end. */
  #listen(): void {
    if (this.#attached) return;
    this.#attached = true;
    this.inner.attach(this);
  }
}
