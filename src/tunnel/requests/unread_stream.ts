/**
 * A partly read stream, with the bytes for the next reader put back.
 *
 * @module
 */
import { type Caller, UNKNOWN_CALLER } from "../../protocol/mux/host.ts";
import { InternalError, internalError } from "../../errors.ts";
import type { Bytes } from "../../bytes/bytes.ts";
import type { ByteStream, ByteStreamHandler } from "../../runtime/port.ts";
import { WrappedStream } from "../../runtime/wrapped_stream.ts";
import type { SessionStream } from "../../transport/port.ts";

const NOTHING: Bytes = new Uint8Array(0);

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
 * The stream for its next reader: `rest` first, then further bytes. It is paused until attached; after `rest` the
 * reader receives the stream's events directly. Must be called from within a callback of `stream`.
 */
export function putBack(stream: ByteStream, options: UnreadOptions): SessionStream {
  return new UnreadStream(stream, options);
}

class UnreadStream extends WrappedStream<ByteStream & Partial<SessionStream>> implements SessionStream {
  readonly #options: UnreadOptions;
  #rest: Bytes;
  #paused = false;
  /** Whether the reader is attached to the inner stream. */
  #through = false;
  #closed: { readonly error: Error | undefined } | undefined;

  constructor(stream: ByteStream, options: UnreadOptions) {
    super(stream);
    this.#options = options;
    this.#rest = options.rest;
    stream.pause();
    stream.attach(this);
  }

  get caller(): Caller {
    return this.inner.caller ?? UNKNOWN_CALLER;
  }
  get peerPaused(): boolean {
    return this.inner.peerPaused ?? false;
  }

  override attach(handler: ByteStreamHandler): void {
    this.handler = handler;
    if (this.#through) this.inner.attach(handler);
    else this.#goOnSoon();
  }

  override abort(error?: Error): void {
    this.#rest = NOTHING;
    this.inner.abort(error);
  }
  override release(): void {
    this.#rest = NOTHING;
    this.inner.release();
  }
  override pause(): void {
    this.#paused = true;
    if (this.#through) this.inner.pause();
  }
  override resume(): void {
    this.#paused = false;
    if (this.#through) this.inner.resume();
    else this.#goOnSoon();
  }

  // From the inner stream, while it is paused.

  /** A released stream may still deliver bytes. */
  override data(): void {}
  override end(): void {}
  override close(error?: Error): void {
    this.#rest = NOTHING;
    this.#closed = { error };
    if (this.handler !== undefined) this.#goOn();
    else this.#options.lost?.(error);
  }

  /** Outside the reader's call, but without waiting for the next turn. */
  #goOnSoon(): void {
    queueMicrotask(() => this.#goOn());
  }

  #goOn(): void {
    const handler = this.handler;
    if (this.#through || handler === undefined) return;
    if (this.#closed !== undefined) {
      this.#through = true;
      handler.close(this.#closed.error);
      return;
    }
    if (this.#paused) return;
    const rest = this.#rest;
    this.#rest = NOTHING;
    if (rest.length > 0) {
      try {
        handler.data(rest);
      } catch (thrown) {
        const error = internalError("stream", thrown);
        if (error instanceof InternalError) this.#options.fault?.(error);
        this.inner.abort(error);
      }
    }
    this.#through = true;
    // The reader may have handed the stream on, or have paused it.
    this.inner.attach(this.handler ?? handler);
    if (!this.#paused) this.inner.resume();
  }
}
