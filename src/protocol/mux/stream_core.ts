/**
 * The part common to streams of every dialect: the handler, the received data waiting for it, and how the stream
 * ends.
 *
 * @module
 */
import { InternalError, internalError } from "../../errors.ts";
import type { Bytes } from "../../bytes/bytes.ts";
import type { BlockPool } from "../../bytes/block_pool.ts";
import { ChunkQueue } from "../../bytes/chunk_queue.ts";
import { NO_PLACE } from "../../bytes/roster.ts";
import { type ByteStream, type ByteStreamHandler, IGNORE_STREAM } from "../../runtime/port.ts";
import type { Caller } from "./host.ts";
import { SMALL_BYTES, SMALL_FRAMES_OF_BULK } from "./ring.ts";

/** The session as seen by its streams. */
export interface StreamOwner<Stream> {
  /** Source of the blocks for the streams' queues. */
  readonly blocks: BlockPool;
  /** Sends written bytes now if nothing is queued before them, else queues them; false means wait for drain. */
  send(stream: Stream, chunk: Bytes): boolean;
  /** The writing direction has ended. */
  finish(stream: Stream): void;
  /** The stream is released: its end follows the written data. */
  release(stream: Stream): void;
  /** Ends the stream at once, in both directions. */
  reset(stream: Stream, error: Error | undefined): void;
  /** A handler has thrown. `reset` follows. */
  fault(error: InternalError): void;
  /** Received bytes have left the stream's queue. */
  consumed(stream: Stream, byteLength: number): void;
  /** Schedules the stream for the end of this turn. */
  schedule(stream: Stream): void;
}

/**
 * A stream of a session; `Self` is the dialect's own class. Outside `protocol/mux` it is a `SessionStream`, an interface
 * without the members for the session's bookkeeping.
 */
export abstract class StreamCore<Self> implements ByteStream {
  protected readonly owner: StreamOwner<Self>;
  readonly caller: Caller;
  /** This side opened it. */
  readonly own: boolean;
  #handler: ByteStreamHandler | undefined;
  #paused = false;
  #closed = false;

  /** Bytes written but not yet framed. */
  readonly outgoing: ChunkQueue;
  /** Bytes received but not yet delivered. */
  readonly incoming: ChunkQueue;
  /** `closeWrite` was called. */
  writeEnded = false;
  /** `release` was called: received bytes are dropped. */
  released = false;
  /** The peer's end was received; it follows the data queued in `incoming`. */
  remoteClosed = false;
  /** The stream is in the sender's ring. */
  ready = false;
  /** The stream is scheduled for the session's turn. */
  scheduled = false;
  /** Bytes delivered, to measure progress. */
  deliveredBytes = 0;
  /** When the queue of received bytes was last empty or gave some. */
  movedAtMs = 0;
  /** Small frames that still count as part of the stream's bulk transfer. */
  #smallLeft = 0;
  /** Its place among the session's ending streams. */
  endingPlace = NO_PLACE;
  /** When to check whether an ending stream still makes progress, and its progress at the last check. */
  graceEndsMs = 0;
  graceMovedBytes = 0;
  /** The error that `close` will report. */
  error: Error | undefined;
  /** Over for the session; only the handler remains to be notified. */
  dead = false;

  constructor(owner: StreamOwner<Self>, caller: Caller, own: boolean) {
    this.owner = owner;
    this.outgoing = new ChunkQueue(owner.blocks);
    this.incoming = new ChunkQueue(owner.blocks);
    this.caller = caller;
    this.own = own;
  }

  get #self(): Self {
    return this as unknown as Self;
  }

  attach(handler: ByteStreamHandler): void {
    const first = this.#handler === undefined;
    this.#handler = handler;
    if (first && (this.incoming.byteLength > 0 || this.remoteClosed || this.dead)) {
      this.owner.schedule(this.#self);
    }
  }

  /**
   * Counts a sent frame. Returns whether the peer may be waiting for just this frame: it is small, and neither the head
   * nor the rest of a bulk transfer.
   */
  countFrame(byteLength: number): boolean {
    if (byteLength > SMALL_BYTES) this.#smallLeft = SMALL_FRAMES_OF_BULK;
    else if (this.#smallLeft === 0) return true;
    else this.#smallLeft--;
    return false;
  }

  abstract write(chunk: Bytes): boolean;

  abstract closeWrite(): void;

  abort(error?: Error): void {
    this.#giveUp();
    if (!this.dead) this.owner.reset(this.#self, error);
  }

  release(): void {
    this.#giveUp();
    if (this.dead || this.released) return;
    this.released = true;
    this.writeEnded = true;
    this.owner.release(this.#self);
  }

  /** Gives a stream that is abandoned before it was attached a handler that ignores its end. */
  #giveUp(): void {
    if (this.#handler === undefined) this.attach(IGNORE_STREAM);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.incoming.byteLength > 0 || this.remoteClosed) this.owner.schedule(this.#self);
  }

  get bufferedBytes(): number {
    return this.outgoing.byteLength;
  }

  get heldBytes(): number {
    return this.outgoing.byteLength + this.incoming.byteLength;
  }

  /** Whether `close` has been delivered to the handler. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Whether there is a handler. */
  get attached(): boolean {
    return this.#handler !== undefined;
  }

  /** Passes received bytes on, or returns false if they have to be queued. */
  deliver(chunk: Bytes): boolean {
    if (this.released) return true;
    if (this.#handler === undefined || this.#paused || this.incoming.byteLength > 0) return false;
    this.#hand(this.#handler, chunk);
    return true;
  }

  /** Delivers queued bytes, as far as the handler accepts them. */
  flushIncoming(): void {
    while (!this.#paused && !this.dead && this.#handler !== undefined && this.incoming.byteLength > 0) {
      const chunk = this.incoming.peek();
      const byteLength = chunk.length;
      this.#hand(this.#handler, chunk);
      // Its queue was dropped, and what was in it counted as consumed.
      if (this.dead || this.released) return;
      this.incoming.drop(byteLength);
      this.owner.consumed(this.#self, byteLength);
    }
  }

  /** Whether everything received has been delivered, so that the end may follow. */
  get drained(): boolean {
    return this.#handler !== undefined && (this.released || !this.#paused) && this.incoming.byteLength === 0;
  }

  /** Tells the handler that it may write again. */
  drain(): void {
    if (this.#closed) return;
    try {
      this.#handler?.drain();
    } catch (error) {
      this.failed(error);
    }
  }

  /** Tells the handler that the peer has ended. */
  protected deliverEnd(): void {
    try {
      this.#handler?.end();
    } catch (error) {
      this.failed(error);
    }
  }

  /** The last callback; the queues are dropped. */
  protected deliverClose(): void {
    this.#closed = true;
    this.incoming.clear();
    this.outgoing.clear();
    try {
      this.#handler?.close(this.error);
    } catch (error) {
      // Nothing is left to end, and a handler's fault must not affect other streams.
      this.failed(error);
    }
  }

  #hand(handler: ByteStreamHandler, chunk: Bytes): void {
    this.deliveredBytes += chunk.length;
    try {
      handler.data(chunk);
    } catch (error) {
      this.failed(error);
    }
  }

  /** This stream's handler, or its owner, has thrown: the stream is lost, not the session. */
  failed(error: unknown): void {
    const reason = internalError("stream", error);
    if (reason instanceof InternalError) this.owner.fault(reason);
    if (this.dead) this.error ??= reason;
    else this.owner.reset(this.#self, reason);
  }
}
