/**
 * A visitor's stream as a service's connector gets it: with the name that the visitor asked for, and watched, so that
 * the service knows how many visitors it has and what they carried.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { ByteStreamHandler } from "../../runtime/port.ts";
import type { Caller, SessionStream } from "../../transport/port.ts";

/** Passes everything through, and counts it. */
export class VisitorStream implements SessionStream, ByteStreamHandler {
  readonly caller: Caller;
  /** Bytes of the visitor that were handed on. */
  bytesIn = 0;
  /** Bytes for the visitor that were taken. */
  bytesOut = 0;
  readonly #inner: SessionStream;
  readonly #over: (error: Error | undefined) => void;
  #handler: ByteStreamHandler | undefined;
  #attached = false;

  /** `over` hears once of the stream's end. */
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

  /** Also before an end that nobody listens to: the service has to hear of it. */
  #listen(): void {
    if (this.#attached) return;
    this.#attached = true;
    this.#inner.attach(this);
  }

  /** Internal: from the inner stream. */
  data(chunk: Bytes): void {
    this.bytesIn += chunk.length;
    this.#handler?.data(chunk);
  }

  /** Internal: from the inner stream. */
  end(): void {
    this.#handler?.end();
  }

  /** Internal: from the inner stream. */
  drain(): void {
    this.#handler?.drain();
  }

  /** Internal: from the inner stream. */
  close(error?: Error): void {
    this.#over(error);
    this.#handler?.close(error);
  }
}
