/**
 * One visitor's stream inside a SniTun session: a {@link ByteStream} whose bytes travel in the session's frames.
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import type { Caller } from "../host.ts";
import { StreamCore, type StreamOwner } from "../stream_core.ts";

/** A stream; made by {@link MuxSession}. The members marked internal belong to the session's rooms alone. */
export class MuxStream extends StreamCore<MuxStream> {
  /** The 16 bytes that name the stream on the wire. */
  readonly id: Bytes;

  /** Internal: the last bytes of the stream came from the peer. */
  answered = false;
  /** Internal: the peer said PAUSE. */
  peerPaused = false;
  /** Internal: a CLOSE stands behind what is queued in `outgoing`. */
  closePending = false;
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
  /** Internal: another stream of the session whose id starts alike. */
  nextAlike: MuxStream | undefined;

  constructor(owner: StreamOwner<MuxStream>, id: Bytes, caller: Caller, own: boolean) {
    super(owner, caller, own);
    this.id = id;
  }

  write(chunk: Bytes): boolean {
    if (this.writeEnded || this.dead || this.remoteClosed) return true;
    return this.owner.send(this, chunk);
  }

  closeWrite(): void {
    if (this.writeEnded || this.dead || this.remoteClosed) return;
    this.writeEnded = true;
    this.owner.finish(this);
  }

  /** Internal: the last two callbacks; `end` only where the peer's end was in order. */
  finish(): void {
    if (this.closed || !this.attached) return;
    if (this.remoteClosed && this.error === undefined) this.deliverEnd();
    this.deliverClose();
  }
}
