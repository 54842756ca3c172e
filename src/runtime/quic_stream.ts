/**
 * A QUIC stream as a byte stream, over what a runtime offers, which is promises on both.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { SallyportError } from "../errors.ts";
import { PromiseStream } from "./promise_stream.ts";
import type { Shared } from "./shared.ts";

const KiB = 1024;
const MARKS = { highBytes: 256 * KiB, lowBytes: 128 * KiB };

/** A runtime's stream below. */
export interface QuicStreamIo {
  /** The next bytes, which stay as they are until the next call; null at the end. Rejects where the stream broke. */
  read(): Promise<Bytes | null>;
  /** Sends all of it; the buffer is the caller's again when the promise resolves. */
  write(bytes: Bytes): Promise<void> | void;
  /** Ends the writing direction. */
  closeWrite(): Promise<void> | void;
  /** Ends both directions, as hard as can be. */
  destroy(): void;
}

/** One stream of a QUIC connection. */
export class QuicByteStream extends PromiseStream<Bytes | null> {
  readonly #io: QuicStreamIo;
  readonly #over: (stream: QuicByteStream) => void;

  /** @param over called once, when nothing is to happen on the stream any more. */
  constructor(io: QuicStreamIo, shared: Shared, over: (stream: QuicByteStream) => void) {
    super(shared, MARKS);
    this.#io = io;
    this.#over = over;
  }

  /** The connection is over. Not to be called from within a call of the owner's. */
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
