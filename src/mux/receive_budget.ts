/**
 * Flow control for what a session receives and its streams don't take at once: PAUSE and RESUME at the watermarks, a
 * budget over all streams that holds by not reading the session's socket, throttling.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { ErrorCode } from "../errors.ts";
import * as limits from "../limits.ts";
import type { MuxHost } from "./host.ts";
import type { MuxStream } from "./stream.ts";

/** However little is left of the budget, no stream is paused below this. */
const PAUSE_MIN_BYTES = 32 * 1024;
/** A stream may take this part of what is left of the budget before it is paused: a hundred stalled ones fit. */
const PAUSE_SHARE = 256;

/** What a {@link ReceiveBudget} works with. */
export interface ReceiveBudgetOptions {
  readonly host: MuxHost;
  readonly queues: limits.QueueLimits;
  readonly protocolVersion: number;
  readonly budgetBytes: number;
  readonly largeFramesPerSecond: number;
  readonly streams: ReadonlySet<MuxStream>;
  /** `stream.wantsPause` has changed. */
  changePause(stream: MuxStream): void;
  /** The stream must go, the session stays. */
  drop(stream: MuxStream, code: ErrorCode, why: string): void;
}

/** The received bytes that one session holds. */
export class ReceiveBudget {
  readonly #options: ReceiveBudgetOptions;
  readonly #maxBytes: number;
  #heldBytes = 0;
  /** Not reading since; undefined while the budget isn't used up. */
  #fullSinceMs: number | undefined;
  #stalled: Map<MuxStream, number> | undefined;
  /** When the large frames that came have been paid for, at the permitted rate. */
  #throttledUntilMs = 0;
  #throttled = false;

  constructor(options: ReceiveBudgetOptions) {
    this.#options = options;
    this.#maxBytes = options.protocolVersion === 0
      ? options.queues.incomingMaxBytesV0
      : options.queues.incomingMaxBytes;
  }

  /** Keeps a piece that `stream` doesn't take now. */
  hold(stream: MuxStream, piece: Bytes): void {
    stream.incoming.push(piece);
    this.#heldBytes += piece.length;
    const held = stream.incoming.byteLength;
    const mayOverrun = stream.pausesUnseen > 0 ? limits.PAUSE_UNSEEN_BYTES : limits.PAUSE_OVERRUN_BYTES;
    if (held > this.#maxBytes || stream.overrunBytes > mayOverrun) {
      this.#options.drop(
        stream,
        "stream_overflow",
        held > this.#maxBytes
          ? `Cannot hold stream: ${held} bytes wait, at most ${this.#maxBytes} may`
          : `Cannot hold stream: the peer sent ${stream.overrunBytes} bytes after PAUSE`,
      );
      return;
    }
    if (this.#options.protocolVersion > 0 && !stream.wantsPause && held >= this.#pauseAtBytes()) {
      stream.wantsPause = true;
      this.#options.changePause(stream);
    }
    if (this.#fullSinceMs === undefined && this.#heldBytes >= this.#options.budgetBytes) {
      this.#watchForStall(this.#options.host.nowMs());
      this.#updateReading();
    }
  }

  /** `byteLength` bytes have left `stream`'s queue. */
  release(stream: MuxStream, byteLength: number): void {
    this.#heldBytes -= byteLength;
    const resumeAt = Math.min(this.#options.queues.incomingLowBytes, this.#pauseAtBytes() / 4);
    if (stream.wantsPause && stream.incoming.byteLength <= resumeAt) {
      stream.wantsPause = false;
      this.#options.changePause(stream);
    }
    this.#reopen();
  }

  /** The stream is over: what it held is dropped. */
  forget(stream: MuxStream): void {
    const held = stream.incoming.byteLength;
    if (held === 0) return;
    stream.incoming.clear();
    this.#heldBytes -= held;
    this.#reopen();
  }

  /** A DATA frame begins; large ones count (spec: snitun.md, Behaviour, throttling). */
  throttle(size: number): void {
    const rate = this.#options.largeFramesPerSecond;
    if (rate === 0 || size < limits.THROTTLED_FRAME_BYTES) return;
    const now = this.#options.host.nowMs();
    this.#throttledUntilMs = Math.max(this.#throttledUntilMs, now) + 1000 / rate;
    // A second's worth may come at once.
    if (this.#throttled || this.#throttledUntilMs - now <= 1000) return;
    this.#throttled = true;
    this.#updateReading();
    this.#options.host.arm(this.#throttledUntilMs - 1000);
  }

  /** Does what is due; says when it wants to be called again. */
  tick(nowMs: number): number {
    if (this.#throttled && nowMs >= this.#throttledUntilMs - 1000) {
      this.#throttled = false;
      this.#updateReading();
    }
    if (this.#fullSinceMs !== undefined && nowMs >= this.#fullSinceMs + limits.SESSION_STALL_MS) {
      this.#breakStall();
      if (this.#fullSinceMs !== undefined) this.#watchForStall(nowMs);
    }
    return Math.min(
      this.#throttled ? this.#throttledUntilMs - 1000 : Infinity,
      this.#fullSinceMs === undefined ? Infinity : this.#fullSinceMs + limits.SESSION_STALL_MS,
    );
  }

  /** The less is left, the sooner a stream is paused, so that stalled visitors don't stop their neighbours. */
  #pauseAtBytes(): number {
    const share = (this.#options.budgetBytes - this.#heldBytes) / PAUSE_SHARE;
    return Math.min(this.#options.queues.incomingHighBytes, Math.max(PAUSE_MIN_BYTES, share));
  }

  #watchForStall(nowMs: number): void {
    this.#fullSinceMs = nowMs;
    this.#stalled = new Map();
    for (const stream of this.#options.streams) {
      if (stream.incoming.byteLength > 0) this.#stalled.set(stream, stream.deliveredBytes);
    }
    this.#options.host.arm(nowMs + limits.SESSION_STALL_MS);
  }

  /** Whoever took nothing in all that time goes, the fullest first, until the others can go on. */
  #breakStall(): void {
    const stuck = [...this.#stalled ?? []]
      .filter(([stream, delivered]) => stream.incoming.byteLength > 0 && stream.deliveredBytes === delivered)
      .map(([stream]) => stream)
      .sort((a, b) => b.incoming.byteLength - a.incoming.byteLength);
    for (const stream of stuck) {
      if (this.#fullSinceMs === undefined) return;
      this.#options.drop(
        stream,
        "stream_overflow",
        `Cannot hold stream: it took nothing for ${
          limits.SESSION_STALL_MS / 1000
        } s while the session was full`,
      );
    }
  }

  #reopen(): void {
    if (this.#fullSinceMs === undefined || this.#heldBytes > this.#options.budgetBytes / 2) return;
    this.#fullSinceMs = undefined;
    this.#stalled = undefined;
    this.#updateReading();
  }

  #updateReading(): void {
    this.#options.host.holdReading(this.#throttled || this.#fullSinceMs !== undefined);
  }
}
