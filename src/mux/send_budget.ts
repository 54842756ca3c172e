/**
 * What a session holds of bytes to send, and which streams wait until there is less of it.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { type QueueLimits, SESSION_SEND_BUDGET_BYTES } from "../limits.ts";
import { type FrameSender, SMALL_BYTES } from "./sender.ts";
import type { MuxStream } from "./stream.ts";

/** The outgoing queues of a session, and their bounds. */
export class SendBudget {
  readonly #queues: QueueLimits;
  readonly #sender: FrameSender;
  /** Made when there is one: most sessions are idle. */
  #waiting: Set<MuxStream> | undefined;
  #queuedBytes = 0;

  constructor(queues: QueueLimits, sender: FrameSender) {
    this.#queues = queues;
    this.#sender = sender;
  }

  /** Queues a copy of `chunk`; false where the stream has overflown and must go. */
  queue(stream: MuxStream, chunk: Bytes): boolean {
    stream.outgoing.push(chunk);
    this.#queuedBytes += chunk.length;
    this.#sender.ready(stream);
    return stream.outgoing.byteLength <= this.#queues.outgoingMaxBytes &&
      this.#queuedBytes <= SESSION_SEND_BUDGET_BYTES;
  }

  /** `byteLength` bytes have left a queue. */
  sent(byteLength: number): void {
    this.#queuedBytes -= byteLength;
  }

  /** Whether the stream may go on writing; if not, it will hear `drain`. */
  mayGoOn(stream: MuxStream): boolean {
    const { byteLength } = stream.outgoing;
    const passes = !this.#sender.flight.full || byteLength <= SMALL_BYTES;
    if (!this.#sender.blocked && passes && byteLength < this.#queues.outgoingHighBytes) return true;
    (this.#waiting ??= new Set()).add(stream);
    return false;
  }

  /** What the stream still had to send is dropped. */
  forget(stream: MuxStream): void {
    this.#queuedBytes -= stream.outgoing.byteLength;
    stream.outgoing.clear();
    stream.peerPaused = false;
    this.#waiting?.delete(stream);
  }

  /** Tells those who wait that they may write again. */
  tellDrained(): void {
    if (this.#waiting === undefined) return;
    for (const stream of this.#waiting) {
      // Whoever heard `drain` may have filled the connection again.
      if (this.#sender.held) return;
      if (stream.outgoing.byteLength > this.#queues.outgoingLowBytes) continue;
      this.#waiting?.delete(stream);
      stream.drain();
    }
  }
}
