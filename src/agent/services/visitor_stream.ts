/**
 * A visitor's stream as passed to a service's connector: with the name that the visitor requested, and metered, so that
 * the service knows how many visitors it has and how much they transferred.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { ByteStreamHandler } from "../../runtime/port.ts";
import type { Caller, SessionStream } from "../../transport/port.ts";

/** A visitor's stream that counts its bytes. */
export interface VisitorStream extends SessionStream {
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

class MeteredStream implements VisitorStream, ByteStreamHandler {
  readonly caller: Caller;
  bytesIn = 0;
  bytesOut = 0;
  readonly #inner: SessionStream;
  readonly #over: (error: Error | undefined) => void;
  #handler: ByteStreamHandler | undefined;
  #attached = false;

  constructor(inner: SessionStream, caller: Caller, over: (error: Error | undefined) => void) {
    this.#inner = inner;
    this.caller = caller;
    this.#over = over;
  }

  get peerPaused(): boolean {
    return this.#inner.peerPaused;
  }

  get bufferedBytes(): number {
    return this.#inner.bufferedBytes;
  }

  attach(handler: ByteStreamHandler): void {
    this.#handler = handler;
    this.#listen();
  }

  write(chunk: Bytes): boolean {
    this.bytesOut += chunk.length;
    return this.#inner.write(chunk);
  }

  closeWrite(): void {
    this.#inner.closeWrite();
  }

  abort(error?: Error): void {
    this.#listen();
    this.#inner.abort(error);
  }

  release(): void {
    this.#listen();
    this.#inner.release();
  }

  pause(): void {
    this.#inner.pause();
  }

  resume(): void {
    this.#inner.resume();
  }

  /** Attaches even if no handler listens yet, because the service must learn of the stream's end. */
  #listen(): void {
    if (this.#attached) return;
    this.#attached = true;
    this.#inner.attach(this);
  }

  // From the inner stream.

  data(chunk: Bytes): void {
    this.bytesIn += chunk.length;
    this.#handler?.data(chunk);
  }

  end(): void {
    this.#handler?.end();
  }

  drain(): void {
    this.#handler?.drain();
  }

  close(error?: Error): void {
    this.#over(error);
    this.#handler?.close(error);
  }
}
