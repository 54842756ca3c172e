/**
 * A partly read stream, with the bytes for the next reader put back.
 *
 * @module
 */
import { type Caller, UNKNOWN_CALLER } from "../../protocol/mux/host.ts";
import { InternalError } from "../../errors.ts";
import type { Bytes } from "../../bytes/bytes.ts";
import { HeldStream } from "../../runtime/held_stream.ts";
import type { ByteStream } from "../../runtime/port.ts";
import type { SessionStream } from "../../transport/port.ts";

/** Options of {@link putBack}. */
interface UnreadOptions {
  /** Bytes read but meant for the next reader; kept, not copied. */
  readonly rest: Bytes;
  /** The reader threw on the bytes put back; the stream is being closed. */
  fault?(error: InternalError): void;
  /** The stream ended before it was attached. */
  lost?(error: Error | undefined): void;
}

/**
 * The stream for its next reader: `rest` first, then further bytes. It is paused until attached. Must be called from
 * within a callback of `stream`.
 */
export function putBack(stream: ByteStream, options: UnreadOptions): SessionStream {
  return new UnreadStream(stream, options);
}

class UnreadStream extends HeldStream<ByteStream & Partial<SessionStream>> implements SessionStream {
  readonly #options: UnreadOptions;

  constructor(stream: ByteStream, options: UnreadOptions) {
    super(stream);
    this.#options = options;
    this.hold(options.rest);
    stream.attach(this);
  }

  get caller(): Caller {
    return this.inner.caller ?? UNKNOWN_CALLER;
  }

  get peerPaused(): boolean {
    return this.inner.peerPaused ?? false;
  }

  protected override fault(error: Error): void {
    if (error instanceof InternalError) this.#options.fault?.(error);
  }

  override close(error?: Error): void {
    if (this.handler === undefined) this.#options.lost?.(error);
    super.close(error);
  }
}
