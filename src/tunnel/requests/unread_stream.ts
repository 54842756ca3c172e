/**
 * A stream of which somebody has read the beginning, with what wasn't theirs put back.
 *
 * @module
 */
import { type Caller, UNKNOWN_CALLER } from "../../protocol/mux/host.ts";
import { InternalError, internalError } from "../../errors.ts";
import type { Bytes } from "../../bytes/bytes.ts";
import type { ByteStream, ByteStreamHandler } from "../../runtime/port.ts";
import type { SessionStream } from "../../transport/port.ts";

const NOTHING: Bytes = new Uint8Array(0);

/** What an {@link UnreadStream} is made of. */
interface UnreadOptions {
  /** What has been read and is the next reader's; it is kept, not copied. */
  readonly rest: Bytes;
  /** The reader has thrown at what was put back; the stream is being ended. */
  fault?(error: InternalError): void;
  /** The stream is over before anybody has taken it. */
  lost?(error: Error | undefined): void;
}

/**
 * The stream as its next reader sees it: `rest` first, then whatever comes. It stands still until it is attached; from
 * the end of `rest` on the reader hears of the inner stream directly.
 */
export class UnreadStream implements SessionStream, ByteStreamHandler {
  readonly #stream: ByteStream & Partial<SessionStream>;
  readonly #options: UnreadOptions;
  #rest: Bytes;
  #handler: ByteStreamHandler | undefined;
  #paused = false;
  /** The reader is attached to the inner stream. */
  #through = false;
  #closed: { readonly error: Error | undefined } | undefined;

  /** To be made from within a callback of `stream`, which is paused here. */
  constructor(stream: ByteStream, options: UnreadOptions) {
    this.#stream = stream;
    this.#options = options;
    this.#rest = options.rest;
    stream.pause();
    stream.attach(this);
  }

  get caller(): Caller {
    return this.#stream.caller ?? UNKNOWN_CALLER;
  }
  get peerPaused(): boolean {
    return this.#stream.peerPaused ?? false;
  }
  get bufferedBytes(): number {
    return this.#stream.bufferedBytes;
  }

  attach(handler: ByteStreamHandler): void {
    this.#handler = handler;
    if (this.#through) this.#stream.attach(handler);
    else this.#goOnSoon();
  }

  write(chunk: Bytes): boolean {
    return this.#stream.write(chunk);
  }
  closeWrite(): void {
    this.#stream.closeWrite();
  }
  abort(error?: Error): void {
    this.#rest = NOTHING;
    this.#stream.abort(error);
  }
  release(): void {
    this.#rest = NOTHING;
    this.#stream.release();
  }
  pause(): void {
    this.#paused = true;
    if (this.#through) this.#stream.pause();
  }
  resume(): void {
    this.#paused = false;
    if (this.#through) this.#stream.resume();
    else this.#goOnSoon();
  }

  // From the inner stream, as long as it stands still.

  /** Internal: a stream that is released may still bring something. */
  data(): void {}
  /** Internal. */
  end(): void {}
  /** Internal. */
  drain(): void {
    this.#handler?.drain();
  }
  /** Internal. */
  close(error?: Error): void {
    this.#rest = NOTHING;
    this.#closed = { error };
    if (this.#handler !== undefined) this.#goOn();
    else this.#options.lost?.(error);
  }

  /** Not from within the reader's call, and without waiting for the next turn. */
  #goOnSoon(): void {
    queueMicrotask(() => this.#goOn());
  }

  #goOn(): void {
    const handler = this.#handler;
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
        this.#stream.abort(error);
      }
    }
    this.#through = true;
    // The reader may have handed the stream on, or have paused it.
    this.#stream.attach(this.#handler ?? handler);
    if (!this.#paused) this.#stream.resume();
  }
}
