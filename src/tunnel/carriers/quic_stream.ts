/**
 * A stream of a {@link QuicCarrier}: what the runtime's QUIC gives, counted, and with a bound where the runtime has none.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { ChunkQueue } from "../../bytes/chunk_queue.ts";
import { SallyportError } from "../../errors.ts";
import type { ByteStream, ByteStreamHandler, Clock } from "../../runtime/port.ts";

/**
 * QUIC without receive back-pressure (Bun): what one stream may keep that nobody has read yet; beyond it the stream ends.
 * A reader that is slower than the sender by more than this loses its stream, so it is as large as can be borne.
 */
export const QUIC_STREAM_UNREAD_MAX_BYTES = 64 * 1024 * 1024;
/** The same for all streams of one connection. */
export const QUIC_CARRIER_UNREAD_MAX_BYTES = 256 * 1024 * 1024;
/** The same for all connections of one listener, whoever they are: beyond it each must do with the next figure, */
export const QUIC_LISTENER_UNREAD_MAX_BYTES = 512 * 1024 * 1024;
/** which those keep that do no harm: some round trips of a fast line. */
export const QUIC_CARRIER_UNREAD_CROWDED_BYTES = 8 * 1024 * 1024;

/** Counts what streams keep that nobody has read yet: those of a carrier, and of all carriers of a listener. */
export class UnreadBytes {
  bytes = 0;
  readonly #all: UnreadBytes | undefined;

  /** @param all the listener's count; none for a carrier of its own */
  constructor(all?: UnreadBytes) {
    this.#all = all;
  }

  add(bytes: number): void {
    this.bytes += bytes;
    this.#all?.add(bytes);
  }

  /** Whether a carrier keeps too much: less than else where there is much of others'. */
  get tooMany(): boolean {
    const crowded = this.#all !== undefined && this.#all.bytes > QUIC_LISTENER_UNREAD_MAX_BYTES;
    return this.bytes > (crowded ? QUIC_CARRIER_UNREAD_CROWDED_BYTES : QUIC_CARRIER_UNREAD_MAX_BYTES);
  }
}

/** What a carrier's streams share. */
export interface QuicStreamHost {
  readonly clock: Clock;
  /** Whether a pause reaches the sender; without it the stream is read all the time, and what isn't wanted yet is kept. */
  readonly backPressure: boolean;
  /** Kept of all streams together. */
  readonly unread: UnreadBytes;
  /** A stream is over. */
  over(stream: QuicCarrierStream): void;
}

/** See the module. */
export class QuicCarrierStream implements ByteStream, ByteStreamHandler {
  readonly #inner: ByteStream;
  readonly #host: QuicStreamHost;
  readonly #unread = new ChunkQueue();
  #handler: ByteStreamHandler | undefined;
  #paused = false;
  /** Nothing more is wanted of what comes in. */
  #dropped = false;
  #ended = false;
  #endDelivered = false;
  #closed: { readonly error: Error | undefined } | undefined;
  #closeDelivered = false;
  #goOnDue = false;

  constructor(inner: ByteStream, host: QuicStreamHost) {
    this.#inner = inner;
    this.#host = host;
    if (host.backPressure) inner.pause();
    inner.attach(this);
  }

  get bufferedBytes(): number {
    return this.#inner.bufferedBytes;
  }

  attach(handler: ByteStreamHandler): void {
    const first = this.#handler === undefined;
    this.#handler = handler;
    if (first) this.#goOnSoon();
  }

  write(chunk: Bytes): boolean {
    return this.#inner.write(chunk);
  }

  closeWrite(): void {
    this.#inner.closeWrite();
  }

  abort(error?: Error): void {
    this.#dropped = true;
    this.#forget();
    // Over below, and not yet here: the end needn't wait for what was kept.
    if (this.#closed !== undefined) this.#closed = { error };
    this.#inner.abort(error);
    this.#goOnSoon();
  }

  release(): void {
    this.#dropped = true;
    this.#forget();
    this.#inner.release();
    this.#goOnSoon();
  }

  pause(): void {
    this.#paused = true;
    if (this.#host.backPressure) this.#inner.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#goOnSoon();
  }

  // From the stream below.

  /** Internal. */
  data(chunk: Bytes): void {
    if (this.#dropped) return;
    if (this.#flowing && this.#unread.byteLength === 0) return this.#handler!.data(chunk);
    this.#unread.push(chunk);
    this.#host.unread.add(chunk.length);
    if (this.#unread.byteLength > QUIC_STREAM_UNREAD_MAX_BYTES || this.#host.unread.tooMany) {
      const message = `Cannot keep stream: ${this.#unread.byteLength} bytes came that nobody read, ` +
        "and this runtime's QUIC can't ask the sender to wait";
      this.abort(new SallyportError("stream_overflow", message, { side: "local" }));
    }
  }

  /** Internal. */
  end(): void {
    this.#ended = true;
    this.#goOn();
  }

  /** Internal. */
  drain(): void {
    this.#handler?.drain();
  }

  /** Internal. */
  close(error?: Error): void {
    this.#closed = { error };
    if (error !== undefined) this.#forget();
    this.#host.over(this);
    this.#goOn();
  }

  get #flowing(): boolean {
    return this.#handler !== undefined && !this.#paused;
  }

  #forget(): void {
    this.#host.unread.add(-this.#unread.byteLength);
    this.#unread.clear();
  }

  /** Callbacks never come from within a call of the stream's methods. */
  #goOnSoon(): void {
    if (this.#goOnDue) return;
    this.#goOnDue = true;
    this.#host.clock.soon(() => {
      this.#goOnDue = false;
      this.#goOn();
    });
  }

  /** Hands on what is kept, as far as it is wanted. */
  #goOn(): void {
    while (this.#flowing && this.#unread.byteLength > 0) {
      const chunk = this.#unread.peek();
      try {
        this.#handler!.data(chunk);
      } catch (thrown) {
        this.abort(thrown instanceof Error ? thrown : new Error(String(thrown)));
      }
      this.#host.unread.add(-Math.min(chunk.length, this.#unread.byteLength));
      this.#unread.drop(chunk.length);
    }
    const empty = this.#unread.byteLength === 0;
    if (this.#ended && !this.#endDelivered && this.#flowing && empty && !this.#dropped) {
      this.#endDelivered = true;
      this.#handler!.end();
    }
    if (this.#closed !== undefined) this.#finish(this.#closed.error, empty);
    else if (this.#flowing && empty && this.#host.backPressure) this.#inner.resume();
  }

  /** The end in order waits until everything before it has been taken. */
  #finish(error: Error | undefined, empty: boolean): void {
    if (this.#closeDelivered || this.#handler === undefined) return;
    const whole = empty && (!this.#ended || this.#endDelivered || this.#dropped);
    if (error === undefined && !whole) return;
    this.#closeDelivered = true;
    this.#handler.close(error);
  }
}
