/**
 * One visitor's stream inside a SniTun session: a {@link ByteStream} whose bytes travel in the session's frames.
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import { NO_PLACE } from "../../../bytes/roster.ts";
import type { Caller } from "../host.ts";
import { StreamCore, type StreamOwner } from "../stream_core.ts";

/** A stream, created by {@link MuxSession}. Its user sees a `SessionStream`; the other members are the session's. */
export class MuxStream extends StreamCore<MuxStream> {
  /** The 16 bytes that identify the stream on the wire. */
  readonly id: Bytes;

  /** The stream's last bytes came from the peer. */
  answered = false;
  /** The peer has sent PAUSE. */
  peerPaused = false;
  /** A CLOSE follows the data queued in `outgoing`. */
  closePending = false;
  /** The next stream in the ring. */
  nextReady: MuxStream | undefined;
  /** Whether the peer should be paused, and whether PAUSE has been sent. */
  wantsPause = false;
  pauseSent = false;
  flowQueued = false;
  /** Our unacknowledged PAUSEs, and bytes queued since the last PAUSE or its acknowledgement. */
  pausesUnseen = 0;
  overrunBytes = 0;
  /** Its place among the session's streams. */
  tablePlace = NO_PLACE;
  /** Another stream of the session in the same hash chain. */
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

  /** Makes the last two callbacks; `end` only if the peer ended cleanly. */
  finish(): void {
    if (this.closed || !this.attached) return;
    if (this.remoteClosed && this.error === undefined) this.deliverEnd();
    this.deliverClose();
  }
}
