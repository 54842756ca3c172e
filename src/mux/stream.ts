/**
 * One visitor's stream inside a session: a {@link ByteStream} whose bytes travel in the session's frames.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { ChunkQueue } from "../bytes/chunk_queue.ts";
import type { ByteStream, ByteStreamHandler } from "../runtime/port.ts";
import type { Caller } from "./host.ts";

/** What a stream needs of its session. */
export interface StreamOwner {
  /** Bytes were written: send them now if nothing stands before them, else queue them; false means wait for drain. */
  send(stream: MuxStream, chunk: Bytes): boolean;
  /** The writing direction has ended. */
  finish(stream: MuxStream): void;
  /** Nothing more is wanted of the stream: its end follows what was written. */
  release(stream: MuxStream): void;
  /** The stream is to end at once, in both directions. */
  reset(stream: MuxStream, error: Error | undefined): void;
  /** Received bytes have left the stream's queue. */
  consumed(stream: MuxStream, byteLength: number): void;
  /** The stream has something to do at the end of this turn. */
  schedule(stream: MuxStream): void;
}

/** A stream; made by {@link MuxSession}. The members marked internal belong to the session's rooms alone. */
export class MuxStream implements ByteStream {
  readonly #owner: StreamOwner;
  #handler: ByteStreamHandler | undefined;
  #paused = false;
  #closed = false;

  /** The 16 bytes that name the stream on the wire. */
  readonly id: Bytes;
  readonly caller: Caller;

  /** Internal: written and not yet in a frame. */
  readonly outgoing = new ChunkQueue();
  /** Internal: received and not yet delivered. */
  readonly incoming = new ChunkQueue();
  /** Internal: the peer said PAUSE. */
  peerPaused = false;
  /** Internal: `closeWrite` was called. */
  writeEnded = false;
  /** Internal: `release` was called: what comes in is dropped. */
  released = false;
  /** Internal: the peer's CLOSE has come; it stands behind what is queued in `incoming`. */
  remoteClosed = false;
  /** Internal: a CLOSE stands behind what is queued in `outgoing`. */
  closePending = false;
  /** Internal: the stream is in the sender's ring. */
  ready = false;
  /** Internal: the next stream in the ring. */
  nextReady: MuxStream | undefined;
  /** Internal: whether the peer should be paused, and whether it has been told so. */
  wantsPause = false;
  pauseSent = false;
  flowQueued = false;
  /** Internal: PAUSEs of ours that the peer hasn't acknowledged, and bytes that came since the last, or since its
   * acknowledgement. */
  pausesUnseen = 0;
  overrunBytes = 0;
  /** Internal: the stream waits in the session's turn. */
  scheduled = false;
  /** Internal: bytes delivered, to see progress. */
  deliveredBytes = 0;
  /** Internal: when to look whether an ending stream still moves, and what had moved until then. */
  graceEndsMs = 0;
  graceMovedBytes = 0;
  /** Internal: what `close` will say. */
  error: Error | undefined;
  /** Internal: another stream of the session whose id starts alike. */
  nextAlike: MuxStream | undefined;

  constructor(owner: StreamOwner, id: Bytes, caller: Caller) {
    this.#owner = owner;
    this.id = id;
    this.caller = caller;
  }

  attach(handler: ByteStreamHandler): void {
    const first = this.#handler === undefined;
    this.#handler = handler;
    if (first && (this.incoming.byteLength > 0 || this.remoteClosed || this.dead)) this.#owner.schedule(this);
  }

  write(chunk: Bytes): boolean {
    if (this.writeEnded || this.dead || this.remoteClosed) return true;
    return this.#owner.send(this, chunk);
  }

  closeWrite(): void {
    if (this.writeEnded || this.dead || this.remoteClosed) return;
    this.writeEnded = true;
    this.#owner.finish(this);
  }

  abort(error?: Error): void {
    if (!this.dead) this.#owner.reset(this, error);
  }

  release(): void {
    if (this.dead || this.released) return;
    this.released = true;
    this.writeEnded = true;
    this.#owner.release(this);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.incoming.byteLength > 0 || this.remoteClosed) this.#owner.schedule(this);
  }

  get bufferedBytes(): number {
    return this.outgoing.byteLength;
  }

  /** Internal: over for the session: what is left is to tell the handler. */
  dead = false;

  /** Internal: whether the handler has heard `close`. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Internal: passes received bytes on, or says false where they have to be queued. */
  deliver(chunk: Bytes): boolean {
    if (this.released) return true;
    if (this.#handler === undefined || this.#paused || this.incoming.byteLength > 0) return false;
    this.#hand(this.#handler, chunk);
    return true;
  }

  /** Internal: delivers what is queued, as far as the handler takes it, then the end behind it. */
  flushIncoming(): void {
    while (!this.#paused && !this.dead && this.#handler !== undefined && this.incoming.byteLength > 0) {
      const chunk = this.incoming.peek();
      const byteLength = chunk.length;
      this.#hand(this.#handler, chunk);
      if (this.dead) return;
      this.incoming.drop(byteLength);
      this.#owner.consumed(this, byteLength);
    }
  }

  /** Internal: whether everything received has been delivered, so that the end may follow. */
  get drained(): boolean {
    return this.#handler !== undefined && (this.released || !this.#paused) && this.incoming.byteLength === 0;
  }

  /** Internal: tells the handler that it may write again. */
  drain(): void {
    try {
      this.#handler?.drain();
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Internal: the last two callbacks; `end` only where the peer's end was in order. */
  finish(): void {
    const handler = this.#handler;
    if (this.#closed || handler === undefined) return;
    this.#closed = true;
    this.incoming.clear();
    this.outgoing.clear();
    try {
      if (this.remoteClosed && this.error === undefined) handler.end();
    } catch (error) {
      this.#failed(error);
    }
    try {
      // The handler may have handed the stream on from within `end`.
      this.#handler?.close(this.error);
    } catch {
      // There is nothing left to end, and a handler's fault is not its neighbours'.
    }
  }

  #hand(handler: ByteStreamHandler, chunk: Bytes): void {
    this.deliveredBytes += chunk.length;
    try {
      handler.data(chunk);
    } catch (error) {
      this.#failed(error);
    }
  }

  /** A handler that throws loses its stream, not the session. */
  #failed(error: unknown): void {
    const reason = error instanceof Error ? error : new Error(String(error));
    if (this.dead) this.error ??= reason;
    else this.#owner.reset(this, reason);
  }
}
