/**
 * A stream that somebody has begun to read and hands on.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { internalError } from "../errors.ts";
import { type ByteStream, type ByteStreamHandler, IGNORE_STREAM } from "./port.ts";
import { WrappedStream } from "./wrapped_stream.ts";

const NOTHING: Bytes = new Uint8Array(0);

/**
 * Passes everything through, except while it is held: then the stream is paused until its next reader attaches, which
 * gets the bytes that were put back first. Nothing is called within `attach` and `resume`, but in a microtask.
 */
export abstract class HeldStream<Inner extends ByteStream = ByteStream> extends WrappedStream<Inner> {
  #held = false;
  #rest = NOTHING;
  #paused = false;
  #closed: { readonly error: Error | undefined } | undefined;

  /** Holds the stream, within one of its callbacks. `rest` is put back, and not copied. */
  protected hold(rest: Bytes): void {
    this.#held = true;
    this.#rest = rest;
    this.inner.pause();
  }

  /** The stream's end, for its reader. */
  protected over(error: Error | undefined): void {
    this.handler?.close(error);
  }

  /** Its reader threw on the bytes that were put back; the stream is aborted next. */
  protected fault(_error: Error): void {}

  override attach(handler: ByteStreamHandler): void {
    if (!this.#held) return super.attach(handler);
    this.handler = handler;
    this.#goOnSoon();
  }

  override abort(error?: Error): void {
    this.#giveUp();
    this.inner.abort(error);
  }

  override release(): void {
    this.#giveUp();
    this.inner.release();
  }

  override pause(): void {
    this.#paused = true;
    if (!this.#held) this.inner.pause();
  }

  override resume(): void {
    this.#paused = false;
    if (this.#held) this.#goOnSoon();
    else this.inner.resume();
  }

  // From the inner stream.

  /** A stream that was released while it was held may still deliver bytes. */
  override data(chunk: Bytes): void {
    if (!this.#held) this.handler?.data(chunk);
  }

  override end(): void {
    if (!this.#held) this.handler?.end();
  }

  override close(error?: Error): void {
    if (!this.#held) return this.over(error);
    this.#rest = NOTHING;
    this.#closed = { error };
    this.#goOn();
  }

  /** Nobody wants it any more; its end is reported all the same. */
  #giveUp(): void {
    this.#rest = NOTHING;
    this.#paused = false;
    if (this.handler === undefined) this.attach(IGNORE_STREAM);
  }

  #goOnSoon(): void {
    queueMicrotask(() => this.#goOn());
  }

  #goOn(): void {
    if (!this.#held || this.handler === undefined) return;
    if (this.#closed !== undefined) {
      this.#held = false;
      return this.over(this.#closed.error);
    }
    if (this.#paused) return;
    this.#held = false;
    const rest = this.#rest;
    this.#rest = NOTHING;
    try {
      if (rest.length > 0) this.data(rest);
    } catch (thrown) {
      const error = internalError("stream", thrown);
      this.fault(error);
      this.inner.abort(error);
    }
    // The reader may have paused it.
    if (!this.#paused) this.inner.resume();
  }
}
