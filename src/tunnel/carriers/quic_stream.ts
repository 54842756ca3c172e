/**
 * A stream of a {@link QuicCarrier}: a stream of the runtime's QUIC, counted, and with a limit on unread bytes where
 * the runtime has none.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { ChunkQueue } from "../../bytes/chunk_queue.ts";
import { SallyportError } from "../../errors.ts";
import type { ByteStream, ByteStreamHandler, Clock } from "../../runtime/port.ts";
import { WrappedStream } from "../../runtime/wrapped_stream.ts";

/**
 * QUIC without receive back-pressure (Bun): unread bytes of one stream; beyond it the stream is aborted. A reader that
 * lags behind the sender by more than this loses its stream, so the limit is as large as affordable.
 */
export const QUIC_STREAM_UNREAD_MAX_BYTES = 64 * 1024 * 1024;
/** QUIC without receive back-pressure: unread bytes of all streams of one connection. */
export const QUIC_CARRIER_UNREAD_MAX_BYTES = 256 * 1024 * 1024;
/**
 * QUIC without receive back-pressure: unread bytes of all connections of one listener; beyond it each is limited to
 * `QUIC_CARRIER_UNREAD_CROWDED_BYTES`.
 */
export const QUIC_LISTENER_UNREAD_MAX_BYTES = 512 * 1024 * 1024;
/**
 * QUIC without receive back-pressure: unread bytes of one connection while its listener is over its limit; well-behaved
 * ones stay below it: several round trips of a fast line.
 */
export const QUIC_CARRIER_UNREAD_CROWDED_BYTES = 8 * 1024 * 1024;

/** Counts unread bytes of a carrier's streams, and of all carriers of a listener. */
export class UnreadBytes {
  bytes = 0;
  readonly #all: UnreadBytes | undefined;

  /** @param all the listener's count; absent for a standalone carrier */
  constructor(all?: UnreadBytes) {
    this.#all = all;
  }

  add(bytes: number): void {
    this.bytes += bytes;
    this.#all?.add(bytes);
  }

  /** Whether a carrier keeps too much; the limit is lower when the listener's total is high. */
  get tooMany(): boolean {
    const crowded = this.#all !== undefined && this.#all.bytes > QUIC_LISTENER_UNREAD_MAX_BYTES;
    return this.bytes > (crowded ? QUIC_CARRIER_UNREAD_CROWDED_BYTES : QUIC_CARRIER_UNREAD_MAX_BYTES);
  }
}

/** State shared by a carrier's streams. */
export interface QuicStreamHost {
  readonly clock: Clock;
  /** Whether a pause reaches the sender; without it the stream is read continuously and bytes are kept until wanted. */
  readonly backPressure: boolean;
  /** Unread bytes of all streams together. */
  readonly unread: UnreadBytes;
  /** A stream is over. */
  over(stream: ByteStream): void;
}

/** A stream of a QUIC connection as one of its carrier, which attaches to it. */
export function carrierStream(inner: ByteStream, host: QuicStreamHost): ByteStream {
  return new QuicCarrierStream(inner, host);
}

class QuicCarrierStream extends WrappedStream {
  readonly #host: QuicStreamHost;
  readonly #unread = new ChunkQueue();
  #paused = false;
  /** Whether incoming bytes are dropped. */
  #dropped = false;
  #ended = false;
  #endDelivered = false;
  #closed: { readonly error: Error | undefined } | undefined;
  #closeDelivered = false;
  #goOnDue = false;

  constructor(inner: ByteStream, host: QuicStreamHost) {
    super(inner);
    this.#host = host;
    if (host.backPressure) inner.pause();
    inner.attach(this);
  }

  override attach(handler: ByteStreamHandler): void {
    const first = this.handler === undefined;
    this.handler = handler;
    if (first) this.#goOnSoon();
  }

  override abort(error?: Error): void {
    this.#dropped = true;
    this.#forget();
    // The underlying stream is over, this one isn't yet: the end needn't wait for kept bytes.
    if (this.#closed !== undefined) this.#closed = { error };
    this.inner.abort(error);
    this.#goOnSoon();
  }

  override release(): void {
    this.#dropped = true;
    this.#forget();
    this.inner.release();
    this.#goOnSoon();
  }

  override pause(): void {
    this.#paused = true;
    if (this.#host.backPressure) this.inner.pause();
  }

  override resume(): void {
    this.#paused = false;
    this.#goOnSoon();
  }

  // From the underlying stream.

  override data(chunk: Bytes): void {
    if (this.#dropped) return;
    if (this.#flowing && this.#unread.byteLength === 0) return this.handler!.data(chunk);
    this.#unread.push(chunk);
    this.#host.unread.add(chunk.length);
    if (this.#unread.byteLength > QUIC_STREAM_UNREAD_MAX_BYTES || this.#host.unread.tooMany) {
      const message = `Cannot keep stream: ${this.#unread.byteLength} bytes are unread, ` +
        "and this runtime's QUIC can't slow down the sender";
      this.abort(new SallyportError("stream_overflow", message, { side: "local" }));
    }
  }

  override end(): void {
    this.#ended = true;
    this.#goOn();
  }

  override close(error?: Error): void {
    this.#closed = { error };
    if (error !== undefined) this.#forget();
    this.#host.over(this);
    this.#goOn();
  }

  get #flowing(): boolean {
    return this.handler !== undefined && !this.#paused;
  }

  #forget(): void {
    this.#host.unread.add(-this.#unread.byteLength);
    this.#unread.clear();
  }

  /** Callbacks are never invoked from within a call to the stream's methods. */
  #goOnSoon(): void {
    if (this.#goOnDue) return;
    this.#goOnDue = true;
    this.#host.clock.soon(() => {
      this.#goOnDue = false;
      this.#goOn();
    });
  }

  /** Delivers kept bytes, as far as wanted. */
  #goOn(): void {
    while (this.#flowing && this.#unread.byteLength > 0) {
      const chunk = this.#unread.peek();
      try {
        this.handler!.data(chunk);
      } catch (thrown) {
        this.abort(thrown instanceof Error ? thrown : new Error(String(thrown)));
      }
      this.#host.unread.add(-Math.min(chunk.length, this.#unread.byteLength));
      this.#unread.drop(chunk.length);
    }
    const empty = this.#unread.byteLength === 0;
    if (this.#ended && !this.#endDelivered && this.#flowing && empty && !this.#dropped) {
      this.#endDelivered = true;
      this.handler!.end();
    }
    if (this.#closed !== undefined) this.#finish(this.#closed.error, empty);
    else if (this.#flowing && empty && this.#host.backPressure) this.inner.resume();
  }

  /** A clean end waits until everything before it has been consumed. */
  #finish(error: Error | undefined, empty: boolean): void {
    if (this.#closeDelivered || this.handler === undefined) return;
    const whole = empty && (!this.#ended || this.#endDelivered || this.#dropped);
    if (error === undefined && !whole) return;
    this.#closeDelivered = true;
    this.handler.close(error);
  }
}
