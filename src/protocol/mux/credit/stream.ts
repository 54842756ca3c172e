/**
 * A stream of a credit session: its two directions end one by one, and each side says how much it takes.
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import type { Caller } from "../host.ts";
import { StreamCore, type StreamOwner } from "../stream_core.ts";

/**
 * A stream; made by {@link CreditEngine}. Its user sees a `SessionStream`; the other members are the session's.
 *
 * @typeParam Lane see {@link FrameChannel}
 */
export class CreditStream<Lane = unknown> extends StreamCore<CreditStream<Lane>> {
  /** What carries its frames. */
  readonly lane: Lane;
  /** The next stream in the ring of those that have something to send. */
  nextReady: CreditStream<Lane> | undefined;
  /** Bytes that the peer still takes. */
  sendCredit = 0;
  /** FIN stands behind what is queued in `outgoing`, or has been sent. */
  finPending = false;
  finSent = false;
  /** Bytes that the peer may send in all, has sent, and that have left our memory. */
  grantedBytes = 0;
  receivedBytes = 0;
  consumedBytes = 0;
  /** A CREDIT for the stream waits to be sent. */
  creditQueued = false;
  /** The handler has heard `end`. */
  endDelivered = false;

  constructor(owner: StreamOwner<CreditStream<Lane>>, lane: Lane, caller: Caller, own: boolean) {
    super(owner, caller, own);
    this.lane = lane;
  }

  write(chunk: Bytes): boolean {
    if (this.writeEnded || this.dead) return true;
    return this.owner.send(this, chunk);
  }

  closeWrite(): void {
    if (this.writeEnded || this.dead) return;
    this.writeEnded = true;
    this.owner.finish(this);
  }

  /** The peer takes no more of what is written, for now. */
  get peerPaused(): boolean {
    return this.sendCredit === 0;
  }

  /** Only a stream of which nothing more is wanted has to move on (see `Endings`). */
  get closePending(): boolean {
    return this.released;
  }

  /** Tells the handler of the peer's end, once everything before it has been delivered. */
  flushEnd(): void {
    if (!this.remoteClosed || this.endDelivered || this.dead || !this.drained) return;
    this.endDelivered = true;
    this.deliverEnd();
  }

  /** Calls the handler for the last time. */
  finish(): void {
    if (!this.closed && this.attached) this.deliverClose();
  }
}
