/**
 * A stream of a credit session: its two directions end one by one, and each side says how much it takes.
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import type { Caller } from "../host.ts";
import { StreamCore, type StreamOwner } from "../stream_core.ts";

/** A stream; made by {@link CreditSession}. The members marked internal belong to the session's rooms alone. */
export class CreditStream extends StreamCore<CreditStream> {
  /** The number that names the stream on the wire, never used twice in a session. */
  readonly id: number;

  /** Internal: the next stream in the ring. */
  nextReady: CreditStream | undefined;
  /** Internal: what the peer still takes. */
  sendCredit = 0;
  /** Internal: FIN stands behind what is queued in `outgoing`; or has been sent. */
  finPending = false;
  finSent = false;
  /** Internal: bytes that the peer may send in all, has sent, and that have left our memory. */
  grantedBytes = 0;
  receivedBytes = 0;
  consumedBytes = 0;
  /** Internal: a CREDIT for the stream waits to be sent. */
  creditQueued = false;
  /** Internal: the handler has heard `end`. */
  endDelivered = false;

  constructor(owner: StreamOwner<CreditStream>, id: number, caller: Caller, own: boolean) {
    super(owner, caller, own);
    this.id = id;
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

  /** Internal: for {@link Endings}: only a stream of which nothing more is wanted has to move on. */
  get closePending(): boolean {
    return this.released;
  }

  /** Internal: tells the handler of the peer's end, once everything before it has been delivered. */
  flushEnd(): void {
    if (!this.remoteClosed || this.endDelivered || this.dead || !this.drained) return;
    this.endDelivered = true;
    this.deliverEnd();
  }

  /** Internal: the last callback. */
  finish(): void {
    if (!this.closed && this.attached) this.deliverClose();
  }
}
