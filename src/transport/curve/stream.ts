/**
 * A visitor's stream in a curve session: strips the head with the caller and counts bytes.
 *
 * @module
 */
import { type Caller, UNKNOWN_CALLER } from "../../protocol/mux/host.ts";
import { InternalError, internalError } from "../../errors.ts";
import { type Bytes, concat } from "../../bytes/bytes.ts";
import type { ByteStream, ByteStreamHandler, Clock } from "../../runtime/port.ts";
import { type CurveHead, decodeCurveHead } from "../../wire/curve/stream_head.ts";
import type { SessionStream } from "../port.ts";

/** State shared by a session's streams. */
export interface CurveStreamHost {
  readonly clock: Clock;
  /** Payload bytes of all streams, without heads. */
  bytesSent: number;
  bytesReceived: number;
  /** A stream's head is complete. Returns false if it isn't a visitor's stream and has been handled. */
  headed(visitor: CurveSessionStream, head: CurveHead): boolean;
  /** The stream's handler has thrown. */
  fault(error: InternalError): void;
  /** A stream ended before its head was complete. */
  headless(visitor: CurveSessionStream): void;
}

const NOTHING: Bytes = new Uint8Array(0);

/** A stream of a curve session without its head. Handles the inner stream's events, and is a stream to its user. */
export class CurveSessionStream implements SessionStream, ByteStreamHandler {
  readonly stream: ByteStream;
  caller: Caller = UNKNOWN_CALLER;
  readonly #host: CurveStreamHost;
  #handler: ByteStreamHandler | undefined;
  #paused = false;
  /** Whether the inner stream is held: its head has arrived, and the bytes after it wait in `#rest` for a user. */
  #held = false;
  #awaitsHead = false;
  #rest: Bytes = NOTHING;
  #closed: { readonly error: Error | undefined } | undefined;
  #over = false;

  constructor(host: CurveStreamHost, stream: ByteStream) {
    this.#host = host;
    this.stream = stream;
  }

  /** For a stream that the peer has opened. */
  awaitHead(): void {
    this.#awaitsHead = true;
    this.stream.attach(this);
  }

  // To the user.

  get peerPaused(): boolean {
    return false;
  }
  get bufferedBytes(): number {
    return this.stream.bufferedBytes;
  }

  attach(handler: ByteStreamHandler): void {
    const first = this.#handler === undefined;
    this.#handler = handler;
    if (!first) return;
    if (this.#held || this.#closed !== undefined) this.#goOnSoon();
    else this.stream.attach(this);
  }

  write(chunk: Bytes): boolean {
    this.#host.bytesSent += chunk.length;
    return this.stream.write(chunk);
  }
  closeWrite(): void {
    this.stream.closeWrite();
  }
  abort(error?: Error): void {
    this.#rest = NOTHING;
    this.stream.abort(error);
  }
  release(): void {
    this.#rest = NOTHING;
    this.stream.release();
  }
  pause(): void {
    this.#paused = true;
    this.stream.pause();
  }
  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#held) this.#goOnSoon();
    else this.stream.resume();
  }

  // From the inner stream.

  data(chunk: Bytes): void {
    if (this.#awaitsHead) return this.#head(chunk);
    this.#host.bytesReceived += chunk.length;
    this.#handler?.data(chunk);
  }
  end(): void {
    // A stream that is opened but stays silent is aborted.
    if (this.#awaitsHead) this.stream.abort();
    else this.#handler?.end();
  }
  drain(): void {
    this.#handler?.drain();
  }
  close(error?: Error): void {
    this.#rest = NOTHING;
    this.#closed = { error };
    if (this.#awaitsHead) this.#host.headless(this);
    if (this.#handler !== undefined) this.#tellClosed();
  }

  #head(chunk: Bytes): void {
    const bytes = this.#rest = concat([this.#rest, chunk]);
    const head = decodeCurveHead(bytes);
    if (head === undefined) return;
    this.#awaitsHead = false;
    this.#rest = bytes.slice(head.size);
    this.#held = true;
    this.stream.pause();
    if (head.kind === "caller") {
      const { address, port, serverName } = head;
      this.caller = { address, port, ...(serverName === undefined ? {} : { serverName }) };
    }
    if (!this.#host.headed(this, head)) this.#rest = NOTHING;
  }

  #goOnSoon(): void {
    this.#host.clock.soon(() => this.#goOn());
  }

  #goOn(): void {
    if (this.#closed !== undefined) return this.#tellClosed();
    if (this.#handler === undefined || this.#paused || !this.#held) return;
    this.#held = false;
    const rest = this.#rest;
    this.#rest = NOTHING;
    if (rest.length > 0) {
      this.#host.bytesReceived += rest.length;
      try {
        this.#handler.data(rest);
      } catch (thrown) {
        this.#failed(thrown);
      }
    }
    if (!this.#paused) this.stream.resume();
  }

  #failed(thrown: unknown): void {
    const error = internalError("stream", thrown);
    if (error instanceof InternalError) this.#host.fault(error);
    this.abort(error);
  }

  #tellClosed(): void {
    if (this.#over) return;
    this.#over = true;
    try {
      this.#handler?.close(this.#closed?.error);
    } catch (thrown) {
      this.#failed(thrown);
    }
  }
}
