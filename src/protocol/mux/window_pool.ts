/**
 * Sizes the receive windows of a session's streams so that stalled streams can't use up the session's credit, whatever
 * they were granted before they stalled.
 *
 * @module
 */
import type { MuxClock } from "./host.ts";
import { SESSION_HELD_STALL_MS, type StallingStream, type StallPatience, StallWatch } from "./stall_watch.ts";

/** Windows beyond the first bytes share this part of a session's budget; from this many unread bytes on all are small. */
const POOL = 1 / 2;
/** A window takes at most this part of what the pool has left, so that late streams find room too. */
const SHARE = 1 / 6;
/** Smallest window while unread bytes fill the pool: 600 streams that stall then still leave room for others. */
const WINDOW_MIN_BYTES = 32 * 1024;
/** A session with more unread bytes than this part of its budget resets stalled streams, until a quarter is free again. */
const FULL = 7 / 8;
const RELIEVED = 3 / 4;

/** The session isn't stopped by a full budget, and slow streams have small windows: only stalled ones are reset. */
const PATIENCE: StallPatience = { stallMs: SESSION_HELD_STALL_MS, countsBefore: true, slowMs: Infinity };

/** The state of a stream that its session's pool keeps. */
export interface PooledStream extends StallingStream {
  /** What its grants take from the pool. */
  pooledBytes: number;
}

/** The windows of one session, and its unread bytes. */
export class WindowPool<Stream extends PooledStream> {
  readonly #clock: MuxClock;
  readonly #streams: Iterable<Stream>;
  readonly #drop: (stream: Stream, why: string) => void;
  readonly #firstBytes: number;
  readonly #windowMaxBytes: number;
  /** Set while the session is nearly full; most sessions never need it. */
  #stall: StallWatch<Stream> | undefined;
  #pooledBytes = 0;

  /**
   * @param drop resets a stream
   * @param firstBytes what each stream is granted when it opens
   * @param windowMaxBytes what a stream is granted at most
   */
  constructor(
    clock: MuxClock,
    streams: Iterable<Stream>,
    drop: (stream: Stream, why: string) => void,
    firstBytes: number,
    windowMaxBytes: number,
  ) {
    this.#clock = clock;
    this.#streams = streams;
    this.#drop = drop;
    this.#firstBytes = firstBytes;
    this.#windowMaxBytes = windowMaxBytes;
  }

  /** The window of a stream that has consumed so many bytes, in a session with this budget and these unread bytes. */
  windowOf(stream: Stream, consumedBytes: number, budgetBytes: number, unreadBytes: number): number {
    const poolBytes = budgetBytes * POOL;
    const freeBytes = Math.max(0, poolBytes - (this.#pooledBytes - stream.pooledBytes));
    const grown = this.#firstBytes + Math.min(consumedBytes, freeBytes * SHARE);
    const beside = Math.max(WINDOW_MIN_BYTES, (poolBytes - unreadBytes) * SHARE);
    return Math.floor(Math.min(grown, beside, this.#windowMaxBytes));
  }

  /** The peer may have so many bytes of the stream unread at our side; 0 once it can send no more. */
  granted(stream: Stream, outstandingBytes: number): void {
    const pooledBytes = Math.max(0, outstandingBytes - this.#firstBytes);
    this.#pooledBytes += pooledBytes - stream.pooledBytes;
    stream.pooledBytes = pooledBytes;
  }

  /** The session's unread bytes have changed. */
  check(budgetBytes: number, unreadBytes: number): void {
    if (this.#stall === undefined) {
      if (unreadBytes < budgetBytes * FULL) return;
      this.#stall = new StallWatch(this.#clock, this.#streams, this.#drop, PATIENCE);
    } else if (unreadBytes <= budgetBytes * RELIEVED) {
      this.#stall.end();
      this.#stall = undefined;
    }
  }

  /** Performs due work, and returns the time of the next call. */
  tick(nowMs: number): number {
    return this.#stall?.tick(nowMs) ?? Infinity;
  }
}
