/**
 * A stream of a credit session: its two directions close independently, and each side grants credit to the other.
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import type { Caller } from "../host.ts";
import { StreamCore, type StreamOwner } from "../stream_core.ts";

/**
 * A stream, created by {@link CreditEngine}. Its user sees a `SessionStream`; the other members are the session's.
 *
 * @typeParam Lane see {@link FrameChannel}
 */
export class CreditStream<Lane = unknown> extends StreamCore<CreditStream<Lane>> {
  /** The lane that carries its frames. */
  readonly lane: Lane;
  /** The next stream in the ring of streams with something to send. */
  nextReady: CreditStream<Lane> | undefined;
  /** Bytes that the peer still accepts. */
  sendCredit = 0;
  /** A FIN follows the data queued in `outgoing`, or has been sent. */
  finPending = false;
  finSent = false;
  /** Total bytes granted to the peer, received from it, and released from our memory. */
  grantedBytes = 0;
  receivedBytes = 0;
  consumedBytes = 0;
  /** What its grants take from the session's pool of windows. */
  pooledBytes = 0;
  /** A CREDIT for the stream is queued. */
  creditQueued = false;
  /** `end` has been delivered to the handler. */
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

  /** The peer accepts no more data for now. */
  get peerPaused(): boolean {
    return this.sendCredit === 0;
  }

  /** Only a released stream has to make progress (see `Endings`). */
  get closePending(): boolean {
    return this.released;
  }

  /** Signals the peer's end to the handler once everything before it has been delivered. */
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
