/**
 * The bytes that a session has queued to send, and the streams that wait until there are fewer.
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

/** What may be asked for in one turn: the connection takes about as much without queueing it. */
const TURN_BYTES = 1024 * 1024;
/** What a stream brings at least that may write again, as far as is known. */
const BROUGHT_MIN_BYTES = 16 * 1024;

/** The part of a stream that is used here. */
export interface SendingStream {
  readonly outgoing: ChunkQueue;
  /** Tells its handler that it may write again. */
  drain(): void;
}

/** The sender that empties the queues. */
export interface QueueSender<Stream> {
  /** Whether data has to wait. */
  readonly held: boolean;
  /** Bytes that may be on their way, and how many more may be sent now; Infinity where that is up to each stream. */
  readonly windowBytes: number;
  readonly roomBytes: number;
  /** Whether a stream that has this much to send doesn't have to wait. */
  passes(queuedBytes: number): boolean;
  /** The stream has something to send. */
  ready(stream: Stream): void;
}

/** The outgoing queues of a session, and their bounds. */
export class SendBudget<Stream extends SendingStream> {
  readonly #queues: QueueLimits;
  readonly #sender: QueueSender<Stream>;
  readonly #memory: MemoryBudget;
  /** Made when there is one: most sessions are idle. */
  #waiting: Set<Stream> | undefined;
  #queuedBytes = 0;
  /** What the last of the large chunks had: the next will be about as large. */
  #broughtBytes = BROUGHT_MIN_BYTES;

  constructor(queues: QueueLimits, sender: QueueSender<Stream>, memory = new MemoryBudget()) {
    this.#queues = queues;
    this.#sender = sender;
    this.#memory = memory;
  }

  /** Queues a copy of `chunk`; false where the stream has overflown and must go. */
  queue(stream: Stream, chunk: Bytes): boolean {
    stream.outgoing.push(chunk);
    this.#queuedBytes += chunk.length;
    this.#sender.ready(stream);
    return stream.outgoing.byteLength <= this.#queues.outgoingMaxBytes &&
      this.#queuedBytes <= this.#budgetBytes;
  }

  /** `byteLength` bytes have left a queue. */
  sent(byteLength: number): void {
    this.#queuedBytes -= byteLength;
  }

  /**
   * Whether the stream may go on writing, which has just written so much; if not, it will hear `drain`. Where others wait,
   * it gets in line behind them.
   */
  mayGoOn(stream: Stream, wroteBytes: number): boolean {
    const { byteLength } = stream.outgoing;
    const mostBytes = Math.min(this.#share, this.#queues.outgoingHighBytes);
    const isBulk = wroteBytes > SMALL_BYTES;
    if (isBulk) this.#broughtBytes = Math.max(BROUGHT_MIN_BYTES, wroteBytes);
    const othersWait = isBulk && this.#waiting !== undefined && this.#waiting.size > 0;
    if (!othersWait && this.#sender.passes(byteLength) && byteLength < mostBytes) return true;
    (this.#waiting ??= new Set()).add(stream);
    return false;
  }

  /** Drops what the stream has queued. */
  forget(stream: Stream): void {
    this.#queuedBytes -= stream.outgoing.byteLength;
    stream.outgoing.clear();
    this.#waiting?.delete(stream);
  }

  /** What the session may queue: the less memory the process has left, the less. */
  get #budgetBytes(): number {
    return this.#memory.share(SESSION_SEND_BUDGET_BYTES);
  }

  get #share(): number {
    const budgetBytes = this.#budgetBytes;
    const left = budgetBytes - this.#queuedBytes;
    return left > budgetBytes / 2 ? Infinity : left * SHARE;
  }

  /**
   * Tells waiting streams that they may write again, no more of them than there is room for what they bring: what all of
   * them bring at once would have to be queued. True where the next turn has to tell others.
   */
  tellDrained(): boolean {
    if (this.#waiting === undefined) return false;
    let roomBytes = Math.min(this.#sender.roomBytes, TURN_BYTES);
    // Where half of what may be on its way has arrived, more is to follow, however much that brings.
    let neededBytes = Math.min(this.#broughtBytes, this.#sender.windowBytes / 2, TURN_BYTES);
    let told = false;
    for (const stream of this.#waiting) {
      // A stream that was told may have filled the connection again.
      if (this.#sender.held) return false;
      if (stream.outgoing.byteLength > Math.min(this.#share / 2, this.#queues.outgoingLowBytes)) continue;
      // Those that were told may bring nothing.
      if (roomBytes < neededBytes) return told;
      roomBytes -= this.#broughtBytes;
      neededBytes = this.#broughtBytes;
      told = true;
      this.#waiting?.delete(stream);
      stream.drain();
    }
    return false;
  }
}
