/**
 * A byte stream over promise-based reads and writes: one read loop and one write loop turn them into callbacks. Used
 * for Deno's TCP connections and both runtimes' QUIC streams.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import { type BufferPool, OutQueue } from "./out_queue.ts";
import type { BulkPace } from "./bulk_pace.ts";
import type { Clock } from "./port.ts";
import { type Faults, lostError, type Shared } from "./shared.ts";
import { StreamBase } from "./stream_base.ts";

/** Queued bytes at which `write` returns false, and at which `drain` follows. */
export interface WriteMarks {
  readonly highBytes: number;
  readonly lowBytes: number;
}

/**
 * The loops. `Read` is the result type of an underlying read; it isn't wrapped in another promise, since there is one
 * per chunk.
 */
export abstract class PromiseStream<Read> extends StreamBase {
  protected readonly clock: Clock;
  protected readonly faults: Faults;
  protected readonly pool: BufferPool;
  readonly #pace: BulkPace;
  /** Whether it carries a session's streams. */
  protected isSession = false;
  #out: OutQueue | null = null;
  #writing = false;
  /** Whether an underlying write is in progress, which reads the queue's first buffer. */
  #writeInFlight = false;
  #drainWanted = false;
  #finSent = false;
  #readLooping = false;
  /** Bytes received while they couldn't be delivered. */
  #kept: Bytes | null = null;
  #endKept = false;

  constructor({ pool, pace, clock, faults }: Shared) {
    super();
    this.pool = pool;
    this.#pace = pace;
    this.clock = clock;
    this.faults = faults;
  }

  /** How much may be queued now. */
  protected abstract readonly marks: WriteMarks;

  /** Reads some bytes from the underlying stream. */
  protected abstract readBelow(): Promise<Read>;
  /** The bytes of a read: a view that stays valid until the next read; null at the end. */
  protected abstract bytesOf(read: Read): Bytes | null;
  /** Writes some bytes to the underlying stream, at least one, and returns how many; undefined means all. */
  protected abstract writeBelow(bytes: Bytes): Promise<number | void> | void;
  /** Closes the writing direction of the underlying stream. */
  protected abstract closeWriteBelow(): Promise<void> | void;
  /** Closes both directions of the underlying stream at once. Called once. */
  protected abstract destroyBelow(): void;
  /** Both directions have ended cleanly. */
  protected abstract finishBelow(): void;
  /** No read is in progress and no bytes are pending: the read buffer isn't needed. */
  protected readingPaused(): void {}
  /** Whether, after the peer's end, destroying the underlying stream closes the writing direction cleanly. */
  protected readonly closesAsEnd: boolean = false;

  get bufferedBytes(): number {
    return this.#out === null ? 0 : this.#out.bytes;
  }

  write(chunk: Bytes): boolean {
    if (this.writeEnded || this.dead || chunk.length === 0) return true;
    this.#out ??= new OutQueue(this.pool);
    this.#out.push(chunk);
    this.#startWriting();
    if (this.#out.bytes < this.marks.highBytes) return true;
    this.#drainWanted = true;
    return false;
  }

  closeWrite(): void {
    if (this.writeEnded || this.dead) return;
    this.writeEnded = true;
    this.#startWriting();
  }

  /** The underlying stream failed. Must not be called from within a call by the owner. */
  protected broken(error: unknown): void {
    if (this.dead) return;
    this.dead = true;
    this.destroy(false);
    this.emitClose(error instanceof SallyportError ? error : lostError(error));
  }

  /** In a microtask, so that everything written in one turn is sent together. */
  #startWriting(): void {
    if (this.#writing) return;
    this.#writing = true;
    queueMicrotask(() => void this.#writeLoop());
  }

  async #writeLoop(): Promise<void> {
    const out = this.#out;
    try {
      while (out !== null && out.bytes > 0 && !this.dead) {
        const head = out.head();
        this.#writeInFlight = true;
        const sent = await this.writeBelow(head);
        this.#writeInFlight = false;
        if (this.dead) return;
        const byteLength = sent ?? head.length;
        out.consume(byteLength);
        if (!this.#pace.mayGoOn(byteLength, this.#session)) await this.#turn(byteLength);
        if (this.#drainWanted && out.bytes <= this.marks.lowBytes) {
          this.#drainWanted = false;
          if (!this.writeEnded) this.emitDrain();
        }
      }
      out?.release();
      this.#writing = false;
      if (!this.writeEnded || this.dead) return;
      if (this.closesAsEnd && this.endDelivered) return this.closeInOrder();
      // No further iteration of this loop: writeEnded refuses new bytes.
      this.#writing = true;
      await this.closeWriteBelow();
      this.#finSent = true;
      this.writingDone();
      this.#finishIfOver();
    } catch (error) {
      this.#writeInFlight = false;
      this.broken(error);
    }
  }

  protected destroy(_hard: boolean): void {
    this.#out?.clear(this.#writeInFlight);
    this.#kept = null;
    if (!this.#readLooping) this.readingPaused();
    this.destroyBelow();
  }

  protected startFlow(): void {
    if (this.#readLooping) return;
    this.#readLooping = true;
    // Pending bytes must not be delivered from within the owner's call, and a connection that is about to carry a session
    // reads with another buffer.
    queueMicrotask(() => void this.#readLoop());
  }

  protected stopFlow(): void {
    // The loop notices it after the read in progress.
  }

  async #readLoop(): Promise<void> {
    try {
      this.#deliverKept();
      while (this.flowing && !this.#endKept && !this.endDelivered) {
        const read = await this.readBelow();
        if (this.dead) break;
        const chunk = this.bytesOf(read);
        if (chunk === null) this.#endKept = true;
        else if (chunk.length > 0) {
          const byteLength = chunk.length;
          this.#kept = chunk;
          this.#deliverKept();
          if (!this.#pace.mayGoOn(byteLength, this.#session)) await this.#turn(byteLength);
        }
      }
      if (this.#endKept && this.flowing) {
        this.#endKept = false;
        this.emitEnd();
      }
    } catch (error) {
      this.broken(error);
    }
    this.#readLooping = false;
    if (this.#kept === null) this.readingPaused();
    this.#finishIfOver();
  }

  get #session(): object | undefined {
    return this.isSession ? this : undefined;
  }

  /** Waits until others have had their turn. */
  #turn(byteLength: number): Promise<void> {
    return new Promise((goOn) => this.#pace.wait(byteLength, this.#session, goOn));
  }

  #deliverKept(): void {
    const kept = this.#kept;
    if (kept === null || !this.flowing) return;
    this.#kept = null;
    this.emitData(kept);
  }

  #finishIfOver(): void {
    if (this.dead || !this.#finSent || !this.endDelivered) return;
    this.dead = true;
    this.finishBelow();
    this.emitClose();
  }
}
