/**
 * The bytes that a session has queued for sending, and the streams waiting for the queue to drain.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { MemoryBudget } from "../../bytes/memory_budget.ts";
import type { ChunkQueue } from "../../bytes/chunk_queue.ts";
import { SMALL_BYTES } from "./ring.ts";
import { type QueueLimits, SESSION_SEND_BUDGET_BYTES } from "./queue_limits.ts";

/** Once half of the budget is used, a stream may queue this share of the rest, so that stalled streams leave room. */
const SHARE = 1 / 512;

/** Bytes that may be requested in one turn: roughly what the connection accepts without queueing. */
const TURN_BYTES = 1024 * 1024;
/** Minimum estimate of what a stream writes when it may write again. */
const BROUGHT_MIN_BYTES = 16 * 1024;

/** The members of a stream that are used here. */
export interface SendingStream {
  readonly outgoing: ChunkQueue;
  /** Tells its handler that it may write again. */
  drain(): void;
}

/** The sender that drains the queues. */
export interface QueueSender<Stream> {
  /** Whether data has to wait. */
  readonly held: boolean;
  /** Bytes that may be in flight, and how many more may be sent now; Infinity if each stream has its own limit. */
  readonly windowBytes: number;
  readonly roomBytes: number;
  /** Whether a stream that has this much to send doesn't have to wait. */
  passes(queuedBytes: number): boolean;
  /** The stream has something to send. */
  ready(stream: Stream): void;
}

/** The outgoing queues of a session, and their limits. */
export class SendBudget<Stream extends SendingStream> {
  readonly #queues: QueueLimits;
  readonly #sender: QueueSender<Stream>;
  readonly #memory: MemoryBudget;
  // Created on first use: most sessions are idle.
  /** Streams that will be told to write again, in order. */
  #line: Set<Stream> | undefined;
  /** Streams that have too much queued to be told; they get in line once enough of it has been sent. */
  #full: Set<Stream> | undefined;
  #queuedBytes = 0;
  /** Size of the last large chunk; the next is expected to be similar. */
  #broughtBytes = BROUGHT_MIN_BYTES;

  constructor(queues: QueueLimits, sender: QueueSender<Stream>, memory = new MemoryBudget()) {
    this.#queues = queues;
    this.#sender = sender;
    this.#memory = memory;
  }

  /** Queues a copy of `chunk`; false if the stream has overflowed and must be reset. */
  queue(stream: Stream, chunk: Bytes): boolean {
    stream.outgoing.push(chunk);
    this.#queuedBytes += chunk.length;
    this.#sender.ready(stream);
    return stream.outgoing.byteLength <= this.#queues.outgoingMaxBytes &&
      this.#queuedBytes <= this.#budgetBytes;
  }

  /** `byteLength` bytes have left the queue of `stream`. */
  sent(stream: Stream, byteLength: number): void {
    this.#queuedBytes -= byteLength;
    if (this.#full === undefined || this.#full.size === 0) return;
    if (stream.outgoing.byteLength <= this.#lowBytes && this.#full.delete(stream)) this.#lineUp(stream);
  }

  /**
   * Whether the stream, which has just written `wroteBytes`, may continue writing. If not, `drain` follows. If other
   * streams are in line, it queues behind them. Those that are full aren't: their peer may not read for hours.
   */
  mayGoOn(stream: Stream, wroteBytes: number): boolean {
    const { byteLength } = stream.outgoing;
    const mostBytes = Math.min(this.#share, this.#queues.outgoingHighBytes);
    const isBulk = wroteBytes > SMALL_BYTES;
    if (isBulk) this.#broughtBytes = Math.max(BROUGHT_MIN_BYTES, wroteBytes);
    const othersWait = isBulk && this.#line !== undefined && this.#line.size > 0;
    if (!othersWait && this.#sender.passes(byteLength) && byteLength < mostBytes) return true;
    if (byteLength > this.#lowBytes) this.#setAside(stream);
    else if (!this.#full?.has(stream)) this.#lineUp(stream);
    return false;
  }

  /** Drops what the stream has queued. */
  forget(stream: Stream): void {
    this.#queuedBytes -= stream.outgoing.byteLength;
    stream.outgoing.clear();
    this.#line?.delete(stream);
    this.#full?.delete(stream);
  }

  #lineUp(stream: Stream): void {
    (this.#line ??= new Set()).add(stream);
  }

  #setAside(stream: Stream): void {
    this.#line?.delete(stream);
    (this.#full ??= new Set()).add(stream);
  }

  /** A stream with more than this queued isn't told to write again. One that has nothing queued always may be. */
  get #lowBytes(): number {
    return Math.max(0, Math.min(this.#share / 2, this.#queues.outgoingLowBytes));
  }

  /** Bytes that the session may queue; shrinks as the process runs out of memory. */
  get #budgetBytes(): number {
    return this.#memory.share(SESSION_SEND_BUDGET_BYTES);
  }

  get #share(): number {
    const budgetBytes = this.#budgetBytes;
    const left = budgetBytes - this.#queuedBytes;
    return left > budgetBytes / 2 ? Infinity : left * SHARE;
  }

  /**
   * Lets waiting streams write again, only as many as there is room for: if all wrote at once, their data would have to
   * be queued. True if the next turn has to notify more.
   */
  tellDrained(): boolean {
    if (this.#line === undefined) return false;
    let roomBytes = Math.min(this.#sender.roomBytes, TURN_BYTES);
    // Once half of the window has arrived, more is requested, however little room that leaves.
    let neededBytes = Math.min(this.#broughtBytes, this.#sender.windowBytes / 2, TURN_BYTES);
    let told = false;
    for (const stream of this.#line) {
      // A stream that was notified may have filled the connection again.
      if (this.#sender.held) return false;
      if (stream.outgoing.byteLength > this.#lowBytes) {
        this.#setAside(stream);
        continue;
      }
      // Streams that were notified may write nothing.
      if (roomBytes < neededBytes) return told;
      roomBytes -= this.#broughtBytes;
      neededBytes = this.#broughtBytes;
      told = true;
      this.#line.delete(stream);
      stream.drain();
    }
    return false;
  }
}
