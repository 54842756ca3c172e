/**
 * The outgoing half of a QUIC session: what its streams have to send goes into their pipes, a frame of each in turn, as
 * far as the peer's credit and the pipes go.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { CreditStream } from "../../protocol/mux/credit/stream.ts";
import { Ring } from "../../protocol/mux/ring.ts";
import { type QueueSender, SendBudget } from "../../protocol/mux/send_budget.ts";
import { CreditFrame, encodeCreditFrame } from "../../wire/credit/credit_frame.ts";
import type { QuicPipe } from "./framed_stream.ts";
import { CREDIT_SESSION_FIRST_BYTES } from "../../protocol/mux/credit/windows.ts";
import { FRAME_MAX_SEND_BYTES, type QueueLimits } from "../../protocol/mux/queue_limits.ts";

/** Chunks of at least this size are sent from where they are, without passing through the stream's queue. */
const DIRECT_MIN_BYTES = 4096;
const NOTHING: Bytes = new Uint8Array(0);

/** What a sender asks of its session. */
export interface QuicSenderEvents {
  /** The pipe of a stream; undefined where the stream is over. */
  pipeOf(stream: CreditStream): QuicPipe | undefined;
  /** The stream's FIN is out, behind its data. */
  finSent(stream: CreditStream): void;
  /** There is something to flush. */
  wake(): void;
}

/** Sends for all streams of a session. */
export class QuicSender implements QueueSender<CreditStream> {
  /** Payload that has gone into pipes. */
  bytesSent = 0;
  readonly #events: QuicSenderEvents;
  readonly #budget: SendBudget<CreditStream>;
  readonly #ring = new Ring<CreditStream>();
  /** What the peer still takes, over all streams. */
  #credit = CREDIT_SESSION_FIRST_BYTES;

  constructor(queues: QueueLimits, events: QuicSenderEvents) {
    this.#events = events;
    this.#budget = new SendBudget(queues, this);
  }

  // For the budget.

  get held(): boolean {
    return this.#credit === 0;
  }

  passes(): boolean {
    return this.#credit > 0;
  }

  /** The stream may have something to send, and its credit and its pipe may let it. */
  ready(stream: CreditStream): void {
    if (stream.ready || stream.dead || stream.outgoing.byteLength === 0 || stream.sendCredit === 0) return;
    if (this.#events.pipeOf(stream)?.blocked !== false) return;
    stream.ready = true;
    this.#ring.push(stream);
  }

  /** Sends `chunk`, or queues what can't go out now; false: wait for `drain`; "overflow": too much waits already. */
  send(stream: CreditStream, chunk: Bytes): boolean | "overflow" {
    if (chunk.length === 0) return true;
    const sent = chunk.length >= DIRECT_MIN_BYTES ? this.#direct(stream, chunk) : 0;
    if (sent < chunk.length) {
      if (!this.#budget.queue(stream, chunk.subarray(sent))) return "overflow";
      this.#events.wake();
    }
    const goOn = this.#budget.mayGoOn(stream);
    if (!goOn) this.#events.wake();
    return goOn;
  }

  /** FIN is to follow what was written. */
  finish(stream: CreditStream): void {
    stream.finPending = true;
    if (stream.outgoing.byteLength === 0) this.#fin(stream);
  }

  /** The peer takes so many bytes more. */
  credited(bytes: number): void {
    this.#credit += bytes;
    this.#events.wake();
  }

  /** What the stream still had to send is dropped. */
  forget(stream: CreditStream): void {
    this.#budget.forget(stream);
  }

  /** A frame of each stream in turn. */
  flush(): void {
    while (this.#credit > 0) {
      const stream = this.#ring.shift();
      if (stream === undefined) break;
      stream.ready = false;
      const pipe = this.#events.pipeOf(stream);
      const size = this.#allowed(stream, stream.outgoing.byteLength);
      if (stream.dead || size === 0 || pipe === undefined || pipe.blocked) continue;
      pipe.sendQueued(stream, size);
      this.#count(stream, size);
      this.#budget.sent(size);
      if (stream.finPending && stream.outgoing.byteLength === 0) this.#fin(stream);
      this.ready(stream);
    }
    this.#budget.tellDrained();
  }

  /** Sends as much of `chunk` at once as can be; says how much that is. */
  #direct(stream: CreditStream, chunk: Bytes): number {
    const pipe = this.#events.pipeOf(stream);
    if (pipe === undefined || stream.outgoing.byteLength > 0) return 0;
    let from = 0;
    while (from < chunk.length && !pipe.blocked) {
      const size = this.#allowed(stream, chunk.length - from);
      if (size === 0) break;
      pipe.sendData(chunk.subarray(from, from + size));
      from += size;
      this.#count(stream, size);
    }
    return from;
  }

  #allowed(stream: CreditStream, bytes: number): number {
    return Math.min(bytes, FRAME_MAX_SEND_BYTES, stream.sendCredit, this.#credit);
  }

  #count(stream: CreditStream, size: number): void {
    stream.sendCredit -= size;
    this.#credit -= size;
    this.bytesSent += size;
  }

  #fin(stream: CreditStream): void {
    if (stream.finSent) return;
    this.#events.pipeOf(stream)?.send(encodeCreditFrame(CreditFrame.FIN, 0, NOTHING));
    stream.finSent = true;
    this.#events.finSent(stream);
  }
}
