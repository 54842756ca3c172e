/**
 * Receive flow control of a credit session: a window for each stream, which grows as the stream consumes data, and a
 * session-wide window, which bounds the session's memory.
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import type { MemoryBudget } from "../../../bytes/memory_budget.ts";
import type { ChunkQueue } from "../../../bytes/chunk_queue.ts";
import { type ErrorCode, SallyportError } from "../../../errors.ts";
import type { MuxClock } from "../host.ts";
import { type StallingStream, StallWatch, WINDOWED_PATIENCE } from "../stall_watch.ts";

/** Credit dialect: initial credit of a session. It is part of the dialect; both ends assume it. */
export const CREDIT_SESSION_FIRST_BYTES = 1 * 1024 * 1024;
/** Credit dialect: initial credit of a stream. A hundred visitors that stall from the start fit a session's budget. */
export const CREDIT_STREAM_FIRST_BYTES = 128 * 1024;
/** Credit dialect: maximum window of a stream once it has shown that it consumes bytes. */
export const CREDIT_STREAM_WINDOW_BYTES = 4 * 1024 * 1024;

/** Stalled streams may together hold a quarter of the budget; the rest is left to the others. */
const SHARE = 4;

/** The flow control state of a stream. */
export interface WindowedStream extends StallingStream {
  readonly incoming: ChunkQueue;
  movedAtMs: number;
  /** Total bytes granted to the peer, received from it, and released from our memory. */
  grantedBytes: number;
  receivedBytes: number;
  consumedBytes: number;
  /** A CREDIT for the stream is queued. */
  creditQueued: boolean;
  /** Whether the peer sends no more, and whether the stream is over. */
  readonly remoteClosed: boolean;
  readonly dead: boolean;
}

/** Options of {@link ReceiveWindows}. */
interface ReceiveWindowsOptions<Stream> {
  readonly host: MuxClock;
  readonly budgetBytes: number;
  /** Memory budget of the process, of which the session gets a share. Defaults to the session's full budget. */
  readonly memory?: MemoryBudget;
  readonly streams: Iterable<Stream>;
  /** A CREDIT should be sent for a stream or the session. The amount is determined when it is sent. */
  grant(stream: Stream | undefined): void;
  /** Drops the stream; the session continues. */
  drop(stream: Stream, code: ErrorCode, why: string): void;
}

/** The received bytes of one session, and the credit still outstanding. */
export class ReceiveWindows<Stream extends WindowedStream> {
  readonly #options: ReceiveWindowsOptions<Stream>;
  /** Set while the session is nearly full; most sessions never need it. */
  #stall: StallWatch<Stream> | undefined;
  #heldBytes = 0;
  #heldStreams = 0;
  #grantedBytes = CREDIT_SESSION_FIRST_BYTES;
  #receivedBytes = 0;
  #consumedBytes = 0;
  #creditQueued = false;

  constructor(options: ReceiveWindowsOptions<Stream>) {
    this.#options = options;
  }

  /** Bytes that the session may hold; shrinks as the process runs out of memory. */
  get #budgetBytes(): number {
    const { memory, budgetBytes } = this.#options;
    return memory?.share(budgetBytes) ?? budgetBytes;
  }

  /** Starts the session: grants the peer the budget beyond the first bytes. */
  start(): void {
    this.#offerSession();
  }

  /** `byteLength` bytes were received, for `stream` if it is still open. Throws `frame_invalid`. */
  received(stream: Stream | undefined, byteLength: number): void {
    this.#receivedBytes += byteLength;
    if (this.#receivedBytes > this.#grantedBytes) throw overrun("session", this.#grantedBytes);
    if (stream === undefined) {
      this.#consume(byteLength);
      return;
    }
    stream.receivedBytes += byteLength;
    if (stream.receivedBytes > stream.grantedBytes) throw overrun("stream", stream.grantedBytes);
  }

  /** Queues a piece that `stream` doesn't consume now. */
  hold(stream: Stream, piece: Bytes): void {
    const { host, streams, drop } = this.#options;
    if (stream.incoming.byteLength === 0) {
      this.#heldStreams++;
      stream.movedAtMs = host.nowMs();
    }
    stream.incoming.push(piece);
    this.#heldBytes += piece.length;
    if (this.#stall !== undefined || this.#heldBytes < this.#budgetBytes * 3 / 4) return;
    const end = (stalled: Stream, why: string) => drop(stalled, "stream_overflow", why);
    this.#stall = new StallWatch(host, streams, end, WINDOWED_PATIENCE);
  }

  /** `byteLength` queued bytes have left `stream`'s queue. */
  release(stream: Stream, byteLength: number): void {
    if (stream.incoming.byteLength === 0) this.#heldStreams--;
    stream.movedAtMs = this.#options.host.nowMs();
    this.#letGo(byteLength);
    this.taken(stream, byteLength);
  }

  /** `byteLength` bytes of `stream` have been released from memory: the peer may send more. */
  taken(stream: Stream, byteLength: number): void {
    stream.consumedBytes += byteLength;
    this.#consume(byteLength);
    if (stream.creditQueued || stream.remoteClosed || stream.dead) return;
    if (this.#wanted(stream) - stream.grantedBytes < this.#windowOf(stream) / 2) return;
    stream.creditQueued = true;
    this.#options.grant(stream);
  }

  /** Drops the stream's queued data: it is over, or its data is no longer wanted. */
  forget(stream: Stream): void {
    const held = stream.incoming.byteLength;
    if (held === 0) return;
    stream.incoming.clear();
    this.#heldStreams--;
    this.#letGo(held);
    this.taken(stream, held);
  }

  /** The amount that a CREDIT sent now grants `stream` or the session; 0 for none. */
  takeGrant(stream: Stream | undefined): number {
    if (stream === undefined) {
      this.#creditQueued = false;
      const more = Math.max(0, Math.floor(this.#consumedBytes + this.#budgetBytes - this.#grantedBytes));
      this.#grantedBytes += more;
      return more;
    }
    stream.creditQueued = false;
    if (stream.dead || stream.remoteClosed) return 0;
    const more = Math.max(0, this.#wanted(stream) - stream.grantedBytes);
    stream.grantedBytes += more;
    return more;
  }

  /** Performs due work, and returns the time of the next call. */
  tick(nowMs: number): number {
    return this.#stall?.tick(nowMs) ?? Infinity;
  }

  #wanted(stream: Stream): number {
    return stream.consumedBytes + this.#windowOf(stream);
  }

  /** A stream that consumes bytes gets a large window; stalled streams get a small one each. */
  #windowOf(stream: Stream): number {
    const share = this.#budgetBytes / SHARE / Math.max(1, this.#heldStreams);
    const most = Math.min(share, CREDIT_STREAM_WINDOW_BYTES);
    const first = CREDIT_STREAM_FIRST_BYTES;
    return Math.floor(Math.max(first, Math.min(most, first + stream.consumedBytes)));
  }

  #consume(byteLength: number): void {
    this.#consumedBytes += byteLength;
    this.#offerSession();
  }

  #offerSession(): void {
    if (this.#creditQueued) return;
    const budgetBytes = this.#budgetBytes;
    // Of what unread bytes leave, lest the others wait for an offer that never gets large enough.
    const roomBytes = budgetBytes - (this.#receivedBytes - this.#consumedBytes);
    if (this.#consumedBytes + budgetBytes - this.#grantedBytes < Math.max(1, roomBytes / 4)) return;
    this.#creditQueued = true;
    this.#options.grant(undefined);
  }

  #letGo(byteLength: number): void {
    this.#heldBytes -= byteLength;
    if (this.#stall === undefined || this.#heldBytes > this.#budgetBytes / 2) return;
    this.#stall.end();
    this.#stall = undefined;
  }
}

function overrun(what: string, grantedBytes: number): SallyportError {
  return new SallyportError(
    "frame_invalid",
    `Cannot read session: the peer sent more on the ${what} than the ${grantedBytes} bytes granted`,
    { side: "peer" },
  );
}
