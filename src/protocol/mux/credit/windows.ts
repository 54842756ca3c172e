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
import { type PooledStream, WindowPool } from "../window_pool.ts";

/** Credit dialect: initial credit of a session. It is part of the dialect; both ends assume it. */
export const CREDIT_SESSION_FIRST_BYTES = 1 * 1024 * 1024;
/** Credit dialect: initial credit of a stream. A hundred visitors that stall from the start fit a session's budget. */
export const CREDIT_STREAM_FIRST_BYTES = 128 * 1024;
/** Credit dialect: maximum window of a stream once it has shown that it consumes bytes. */
export const CREDIT_STREAM_WINDOW_BYTES = 4 * 1024 * 1024;

/** The flow control state of a stream. */
export interface WindowedStream extends PooledStream {
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
  readonly #pool: WindowPool<Stream>;
  #grantedBytes = CREDIT_SESSION_FIRST_BYTES;
  #receivedBytes = 0;
  #consumedBytes = 0;
  #creditQueued = false;

  constructor(options: ReceiveWindowsOptions<Stream>) {
    this.#options = options;
    const { host, streams } = options;
    const drop = (stream: Stream, why: string) => options.drop(stream, "stream_overflow", why);
    this.#pool = new WindowPool(host, streams, drop, CREDIT_STREAM_FIRST_BYTES, CREDIT_STREAM_WINDOW_BYTES);
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
    if (stream.incoming.byteLength === 0) stream.movedAtMs = this.#options.host.nowMs();
    stream.incoming.push(piece);
    this.#pool.check(this.#budgetBytes, this.#unreadBytes);
  }

  /** `byteLength` queued bytes have left `stream`'s queue. */
  release(stream: Stream, byteLength: number): void {
    stream.movedAtMs = this.#options.host.nowMs();
    this.taken(stream, byteLength);
  }

  /** `byteLength` bytes of `stream` have been released from memory: the peer may send more. */
  taken(stream: Stream, byteLength: number): void {
    stream.consumedBytes += byteLength;
    this.#consume(byteLength);
    if (stream.remoteClosed || stream.dead) return;
    const outstandingBytes = stream.grantedBytes - stream.consumedBytes;
    this.#pool.granted(stream, outstandingBytes);
    if (stream.creditQueued || outstandingBytes > this.#windowOf(stream) / 2) return;
    stream.creditQueued = true;
    this.#options.grant(stream);
  }

  /** Drops the stream's queued data: it is over, or its data is no longer wanted. */
  forget(stream: Stream): void {
    const held = stream.incoming.byteLength;
    if (stream.dead) this.ended(stream);
    if (held === 0) return;
    stream.incoming.clear();
    this.taken(stream, held);
  }

  /** The peer sends no more on the stream. */
  ended(stream: Stream): void {
    this.#pool.granted(stream, 0);
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
    const outstandingBytes = stream.grantedBytes - stream.consumedBytes;
    const more = Math.max(0, this.#windowOf(stream) - outstandingBytes);
    stream.grantedBytes += more;
    this.#pool.granted(stream, outstandingBytes + more);
    return more;
  }

  /** Performs due work, and returns the time of the next call. */
  tick(nowMs: number): number {
    return this.#pool.tick(nowMs);
  }

  /** Bytes that were received and have not been released from memory. */
  get #unreadBytes(): number {
    return this.#receivedBytes - this.#consumedBytes;
  }

  #windowOf(stream: Stream): number {
    return this.#pool.windowOf(stream, stream.consumedBytes, this.#budgetBytes, this.#unreadBytes);
  }

  #consume(byteLength: number): void {
    this.#consumedBytes += byteLength;
    this.#pool.check(this.#budgetBytes, this.#unreadBytes);
    this.#offerSession();
  }

  #offerSession(): void {
    if (this.#creditQueued) return;
    const budgetBytes = this.#budgetBytes;
    // Of what unread bytes leave, lest the others wait for an offer that never gets large enough.
    const roomBytes = budgetBytes - this.#unreadBytes;
    if (this.#consumedBytes + budgetBytes - this.#grantedBytes < Math.max(1, roomBytes / 4)) return;
    this.#creditQueued = true;
    this.#options.grant(undefined);
  }
}

function overrun(what: string, grantedBytes: number): SallyportError {
  return new SallyportError(
    "frame_invalid",
    `Cannot read session: the peer sent more on the ${what} than the ${grantedBytes} bytes granted`,
    { side: "peer" },
  );
}
