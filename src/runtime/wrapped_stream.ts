/**
 * A stream around another one.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { ByteStream, ByteStreamHandler } from "./port.ts";

/**
 * Passes everything through, in both directions. A subclass overrides what it watches or changes: the stream's methods
 * for what its user does, the handler's for what arrives.
 */
export abstract class WrappedStream<Inner extends ByteStream = ByteStream>
  implements ByteStream, ByteStreamHandler {
  protected readonly inner: Inner;
  /** The user's handler, once attached. */
  protected handler: ByteStreamHandler | undefined;

  constructor(inner: Inner) {
    this.inner = inner;
  }

  get bufferedBytes(): number {
    return this.inner.bufferedBytes;
  }

  get heldBytes(): number {
    return this.inner.heldBytes ?? 0;
  }

  attach(handler: ByteStreamHandler): void {
    this.handler = handler;
    this.inner.attach(this);
  }

  write(chunk: Bytes): boolean {
    return this.inner.write(chunk);
  }

  closeWrite(): void {
    this.inner.closeWrite();
  }

  abort(error?: Error): void {
    this.inner.abort(error);
  }

  release(): void {
    this.inner.release();
  }

  pause(): void {
    this.inner.pause();
  }

  resume(): void {
    this.inner.resume();
  }

  keepAlive(): void {
    this.inner.keepAlive?.();
  }

  // From the inner stream.

  data(chunk: Bytes): void {
    this.handler?.data(chunk);
  }

  end(): void {
    this.handler?.end();
  }

  drain(): void {
    this.handler?.drain();
  }

  close(error?: Error): void {
    this.handler?.close(error);
  }
}

/** Counts the bytes of a stream and reports its end. */
export class CountedStream<Inner extends ByteStream = ByteStream> extends WrappedStream<Inner> {
  /** Bytes that arrived and were passed on. */
  bytesIn = 0;
  /** Bytes that were accepted for writing. */
  bytesOut = 0;
  readonly #over: (error: Error | undefined) => void;

  /** @param over called once, at the stream's end */
  constructor(inner: Inner, over: (error: Error | undefined) => void) {
    super(inner);
    this.#over = over;
  }

  override write(chunk: Bytes): boolean {
    this.bytesOut += chunk.length;
    return this.inner.write(chunk);
  }

  override data(chunk: Bytes): void {
    this.bytesIn += chunk.length;
    this.handler?.data(chunk);
  }

  override close(error?: Error): void {
    this.#over(error);
    this.handler?.close(error);
  }
}
