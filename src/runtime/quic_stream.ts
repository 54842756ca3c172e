/**
 * A QUIC stream as a {@link ByteStream}: one read loop and one write loop over what a runtime offers, which is promises
 * on both.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import { type BufferPool, OutQueue } from "./out_queue.ts";
import type { Clock } from "./port.ts";
import { type Faults, lostError, type Shared } from "./shared.ts";
import { StreamBase } from "./stream_base.ts";

const KiB = 1024;
/** Waiting bytes at which `write` says false, and at which `drain` follows. */
const WRITE_HIGH_BYTES = 256 * KiB;
const WRITE_LOW_BYTES = 128 * KiB;

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
export class QuicByteStream extends StreamBase {
  protected readonly clock: Clock;
  protected readonly faults: Faults;
  readonly #io: QuicStreamIo;
  readonly #pool: BufferPool;
  readonly #over: (stream: QuicByteStream) => void;
  #out: OutQueue | undefined;
  #writing = false;
  /** The runtime reads the queue's first buffer. */
  #writeInFlight = false;
  #drainWanted = false;
  #finSent = false;
  #readLooping = false;
  /** What came while it couldn't be delivered. */
  #kept: Bytes | undefined;
  #endKept = false;

  /** @param over called once, when nothing is to happen on the stream any more. */
  constructor(io: QuicStreamIo, { pool, clock, faults }: Shared, over: (stream: QuicByteStream) => void) {
    super();
    this.#io = io;
    this.#pool = pool;
    this.clock = clock;
    this.faults = faults;
    this.#over = over;
  }

  get bufferedBytes(): number {
    return this.#out?.bytes ?? 0;
  }

  write(chunk: Bytes): boolean {
    if (this.writeEnded || this.dead) return true;
    this.#out ??= new OutQueue(this.#pool);
    this.#out.push(chunk);
    this.#startWriting();
    if (this.#out.bytes < WRITE_HIGH_BYTES) return true;
    this.#drainWanted = true;
    return false;
  }

  closeWrite(): void {
    if (this.writeEnded || this.dead) return;
    this.writeEnded = true;
    this.#startWriting();
  }

  /** The connection is over. Not to be called from within a call of the owner's. */
  lost(error: SallyportError): void {
    this.#fail(error);
  }

  /** In a microtask, so that what is written in one turn leaves together. */
  #startWriting(): void {
    if (this.#writing) return;
    this.#writing = true;
    queueMicrotask(() => void this.#writeLoop());
  }

  async #writeLoop(): Promise<void> {
    const out = this.#out;
    try {
      while (out !== undefined && out.bytes > 0 && !this.dead) {
        const head = out.head();
        this.#writeInFlight = true;
        await this.#io.write(head);
        this.#writeInFlight = false;
        if (this.dead) return;
        out.consume(head.length);
        if (this.#drainWanted && out.bytes <= WRITE_LOW_BYTES) {
          this.#drainWanted = false;
          if (!this.writeEnded) this.emitDrain();
        }
      }
      out?.release();
      this.#writing = false;
      if (!this.writeEnded || this.dead) return;
      // No further turn of this loop: writeEnded refuses new bytes.
      this.#writing = true;
      await this.#io.closeWrite();
      this.#finSent = true;
      this.writingDone();
      this.#finishIfOver();
    } catch (error) {
      this.#fail(error);
    }
  }

  protected destroy(_hard: boolean): void {
    this.#out?.clear(this.#writeInFlight);
    this.#kept = undefined;
    this.#io.destroy();
    this.#over(this);
  }

  protected startFlow(): void {
    if (this.#readLooping) return;
    this.#readLooping = true;
    queueMicrotask(() => void this.#readLoop());
  }

  protected stopFlow(): void {
    // The loop sees it behind the read under way.
  }

  async #readLoop(): Promise<void> {
    try {
      this.#deliverKept();
      while (this.flowing && !this.#endKept && !this.endDelivered) {
        const chunk = await this.#io.read();
        if (this.dead) break;
        if (chunk === null) this.#endKept = true;
        else if (chunk.length > 0) {
          this.#kept = chunk;
          this.#deliverKept();
        }
      }
      if (this.#endKept && this.flowing) {
        this.#endKept = false;
        this.emitEnd();
      }
    } catch (error) {
      this.#fail(error);
    }
    this.#readLooping = false;
    this.#finishIfOver();
  }

  #deliverKept(): void {
    const kept = this.#kept;
    if (kept === undefined || !this.flowing) return;
    this.#kept = undefined;
    this.emitData(kept);
  }

  #finishIfOver(): void {
    if (this.dead || !this.#finSent || !this.endDelivered) return;
    this.dead = true;
    this.#over(this);
    this.emitClose();
  }

  #fail(error: unknown): void {
    this.#writeInFlight = false;
    if (this.dead) return;
    this.dead = true;
    this.destroy(false);
    this.emitClose(error instanceof SallyportError ? error : lostError(error));
  }
}
