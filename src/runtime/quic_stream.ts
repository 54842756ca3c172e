/**
 * A QUIC stream as a byte stream, over the promise-based streams of both runtimes.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { SallyportError } from "../errors.ts";
import { PromiseStream, type WriteMarks } from "./promise_stream.ts";
import type { Shared } from "./shared.ts";

const KiB = 1024;
const MARKS: WriteMarks = { highBytes: 256 * KiB, lowBytes: 128 * KiB };

/** The runtime's underlying stream. */
export interface QuicStreamIo {
  /** Reads the next bytes, which stay valid until the next call; null at the end. Rejects if the stream failed. */
  read(): Promise<Bytes | null>;
  /** Sends all bytes; the caller may reuse the buffer when the promise resolves. */
  write(bytes: Bytes): Promise<void> | void;
  /** Ends the writing direction. */
  closeWrite(): Promise<void> | void;
  /** Closes both directions, with a reset where possible. */
  destroy(): void;
}

/** One stream of a QUIC connection. */
export class QuicByteStream extends PromiseStream<Bytes | null> {
  protected readonly marks = MARKS;
  readonly #io: QuicStreamIo;
  readonly #over: (stream: QuicByteStream) => void;

  /** @param over called once, when no more events will follow on the stream. */
  constructor(io: QuicStreamIo, shared: Shared, over: (stream: QuicByteStream) => void) {
    super(shared);
    this.#io = io;
    this.#over = over;
  }

  /** The connection is over. Must not be called from within a call by the owner. */
  lost(error: SallyportError): void {
    this.broken(error);
  }

  protected readBelow(): Promise<Bytes | null> {
    return this.#io.read();
  }

  protected bytesOf(read: Bytes | null): Bytes | null {
    return read;
  }

  protected writeBelow(bytes: Bytes): Promise<void> | void {
    return this.#io.write(bytes);
  }

  protected closeWriteBelow(): Promise<void> | void {
    return this.#io.closeWrite();
  }

  protected destroyBelow(): void {
    this.#io.destroy();
    this.#over(this);
  }

  protected finishBelow(): void {
    this.#over(this);
  }
}
