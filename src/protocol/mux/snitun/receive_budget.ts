/**
 * Flow control for received data that streams don't consume at once: PAUSE and RESUME at the watermarks, a session-wide
 * budget enforced by not reading the session's socket, throttling.
 *
 * @module
 */
import type { Bytes } from "../../../bytes/bytes.ts";
import type { MemoryBudget } from "../../../bytes/memory_budget.ts";
import type { ErrorCode } from "../../../errors.ts";
import type { MuxHost } from "../host.ts";
import type { MuxOptions } from "./session.ts";
import { SESSION_HELD_STALL_MS, SESSION_STALL_MS, type StallPatience, StallWatch } from "../stall_watch.ts";
import type { MuxStream } from "./stream.ts";
import { type QueueLimits, SESSION_RECEIVE_BUDGET_BYTES } from "../queue_limits.ts";

/** A peer that sends this much on a stream after having seen a PAUSE loses the stream. */
export const PAUSE_OVERRUN_BYTES = 8 * 1024 * 1024;
/**
 * The same before it is known to have seen the PAUSE. Data buffered in both kernels is already sent: 36 MiB if Linux is
 * tuned for long fat links, part of which a stream served meanwhile gets through.
 */
export const PAUSE_UNSEEN_BYTES = 24 * 1024 * 1024;
/**
 * What a session holds of such bytes, all streams together, before it stops reading its socket: streams that are paused
 * at about the same time share what is on the way.
 */
export const SESSION_OVERRUN_BYTES = 24 * 1024 * 1024;
/** A frame of at least this size counts for throttling (spec). */
export const THROTTLED_FRAME_BYTES = 8 * 1024;

/** No stream is paused below this, however little is left of the budget. */
const PAUSE_MIN_BYTES = 32 * 1024;
/** A stream may use this fraction of the remaining budget before it is paused: a hundred stalled ones fit. */
const PAUSE_SHARE = 384;
/** A session that is full reads again from this part of its budget on, so that it isn't stopped for every chunk. */
const RELIEVED = 7 / 8;

/** Without PAUSE a single visitor fills the session, so it gets time; with it, many have to stall. */
const PATIENCE_V0: StallPatience = { stallMs: SESSION_STALL_MS, countsBefore: false, slowMs: Infinity };
const PATIENCE: StallPatience = {
  stallMs: SESSION_HELD_STALL_MS,
  countsBefore: true,
  slowMs: SESSION_STALL_MS,
};

/** Receives the events of a {@link ReceiveBudget}; implemented by the session. */
interface ReceiveBudgetEvents {
  readonly protocolVersion: number;
  /** The streams of the session. */
  readonly all: Iterable<MuxStream>;
  /** Stops (true) or resumes (false) reading the peer's bytes. */
  holdReading(hold: boolean): void;
  /** `stream.wantsPause` has changed. */
  changePause(stream: MuxStream): void;
  /** Drops the stream; the session continues. */
  drop(stream: MuxStream, code: ErrorCode, why: string): void;
}

/** The received bytes that one session holds. */
export class ReceiveBudget {
  readonly #host: MuxHost;
  readonly #events: ReceiveBudgetEvents;
  readonly #queues: QueueLimits;
  readonly #mostBytes: number;
  readonly #memory: MemoryBudget;
  readonly #largeFramesPerSecond: number;
  #heldBytes = 0;
  /** The streams' `overrunBytes` together. */
  #overrunBytes = 0;
  /** Reading is stopped while this is set; most sessions never need it. */
  #stall: StallWatch<MuxStream> | undefined;
  /** When the large frames received so far are within the permitted rate. */
  #throttledUntilMs = 0;
  #throttled = false;

  constructor(options: MuxOptions, queues: QueueLimits, events: ReceiveBudgetEvents) {
    this.#host = options.host;
    this.#events = events;
    this.#queues = queues;
    this.#mostBytes = options.receiveBudgetBytes ?? SESSION_RECEIVE_BUDGET_BYTES;
    this.#memory = options.scratch.blocks.memory;
    this.#largeFramesPerSecond = options.largeFramesPerSecond ?? 0;
  }

  /** Bytes that the session may hold; shrinks as the process runs out of memory. */
  get #budgetBytes(): number {
    return this.#memory.share(this.#mostBytes);
  }

  /** Queues a piece that `stream` doesn't consume now. */
  hold(stream: MuxStream, piece: Bytes): void {
    if (stream.incoming.byteLength === 0) stream.movedAtMs = this.#host.nowMs();
    stream.incoming.push(piece);
    this.#heldBytes += piece.length;
    if (stream.pauseSent) {
      stream.overrunBytes += piece.length;
      this.#overrunBytes += piece.length;
    }
    const held = stream.incoming.byteLength;
    const { protocolVersion } = this.#events;
    const maxBytes = protocolVersion === 0 ? this.#queues.incomingMaxBytesV0 : this.#queues.incomingMaxBytes;
    const mayOverrun = stream.pausesUnseen > 0 ? PAUSE_UNSEEN_BYTES : PAUSE_OVERRUN_BYTES;
    if (held > maxBytes || stream.overrunBytes > mayOverrun) {
      this.#events.drop(
        stream,
        "stream_overflow",
        held > maxBytes
          ? `Cannot keep stream: ${held} bytes are queued, at most ${maxBytes} are allowed`
          : `Cannot keep stream: the peer sent ${stream.overrunBytes} bytes after PAUSE`,
      );
      return;
    }
    if (protocolVersion > 0 && !stream.wantsPause && held >= this.#pauseAtBytes()) {
      stream.wantsPause = true;
      this.#events.changePause(stream);
    }
    if (this.#stall === undefined && this.#isFull) this.#stopReading();
  }

  #stopReading(): void {
    const drop = (stalled: MuxStream, why: string) => this.#events.drop(stalled, "stream_overflow", why);
    const patience = this.#events.protocolVersion === 0 ? PATIENCE_V0 : PATIENCE;
    this.#stall = new StallWatch(this.#host, this.#events.all, drop, patience);
    this.#updateReading();
  }

  /** `byteLength` bytes have left `stream`'s queue. */
  release(stream: MuxStream, byteLength: number): void {
    this.#heldBytes -= byteLength;
    stream.movedAtMs = this.#host.nowMs();
    const resumeAt = Math.min(this.#queues.incomingLowBytes, this.#pauseAtBytes() / 4);
    if (stream.wantsPause && stream.incoming.byteLength <= resumeAt) {
      stream.wantsPause = false;
      this.#events.changePause(stream);
    }
    this.#reopen();
  }

  /** Counts the stream's overrun from now on: its last flow frame has been sent, or its PAUSE acknowledged. */
  forgive(stream: MuxStream): void {
    this.#overrunBytes -= stream.overrunBytes;
    stream.overrunBytes = 0;
    this.#reopen();
  }

  /** Drops the stream's queued data: it is over. */
  forget(stream: MuxStream): void {
    this.forgive(stream);
    const held = stream.incoming.byteLength;
    if (held === 0) return;
    stream.incoming.clear();
    this.#heldBytes -= held;
    this.#reopen();
  }

  /** A DATA frame begins; large ones count (docs/protocols/snitun.md, Behaviour, throttling). */
  throttle(size: number): void {
    const rate = this.#largeFramesPerSecond;
    if (rate === 0 || size < THROTTLED_FRAME_BYTES) return;
    const now = this.#host.nowMs();
    this.#throttledUntilMs = Math.max(this.#throttledUntilMs, now) + 1000 / rate;
    // One second's worth may arrive at once.
    if (this.#throttled || this.#throttledUntilMs - now <= 1000) return;
    this.#throttled = true;
    this.#updateReading();
    this.#host.arm(this.#throttledUntilMs - 1000);
  }

  /** Performs due work, and returns the time of the next call. */
  tick(nowMs: number): number {
    if (this.#throttled && nowMs >= this.#throttledUntilMs - 1000) {
      this.#throttled = false;
      this.#updateReading();
    }
    return Math.min(
      this.#throttled ? this.#throttledUntilMs - 1000 : Infinity,
      this.#stall?.tick(nowMs) ?? Infinity,
    );
  }

  /** Streams are paused sooner as the budget shrinks, so that stalled visitors don't block others. */
  #pauseAtBytes(): number {
    const share = (this.#budgetBytes - this.#heldBytes) / PAUSE_SHARE;
    return Math.min(this.#queues.incomingHighBytes, Math.max(PAUSE_MIN_BYTES, share));
  }

  get #overrunMaxBytes(): number {
    return Math.min(SESSION_OVERRUN_BYTES, this.#budgetBytes / 2);
  }

  get #isFull(): boolean {
    return this.#heldBytes >= this.#budgetBytes || this.#overrunBytes > this.#overrunMaxBytes;
  }

  get #isRelieved(): boolean {
    return this.#heldBytes <= this.#budgetBytes * RELIEVED &&
      this.#overrunBytes <= this.#overrunMaxBytes * RELIEVED;
  }

  #reopen(): void {
    if (this.#stall === undefined || !this.#isRelieved) return;
    this.#stall.end();
    this.#stall = undefined;
    this.#updateReading();
  }

  #updateReading(): void {
    this.#events.holdReading(this.#throttled || this.#stall !== undefined);
  }
}
