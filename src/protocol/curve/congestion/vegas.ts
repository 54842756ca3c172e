/**
 * Congestion control after TCP Vegas (Brakmo and Peterson, 1995): once per round trip it compares that period's minimum
 * round trip with the smallest known, estimates how many of its packets are queued, and keeps that number small.
 *
 * It differs from the paper in three ways. The bounds are a time as well as a number of packets, since below a
 * millisecond a round trip reflects schedulers, not queues. A loss without a queue counts as noise, as on a radio link,
 * until one packet in ten is lost: it doesn't reduce the window, so one percent of loss doesn't cost throughput. And a
 * queue that doesn't shrink with the window belongs to other traffic: the window then grows like NewReno's until that
 * queue is gone, so that it can coexist with loss-based flows.
 *
 * @module
 */
import {
  type AckInfo,
  type CongestionControl,
  INITIAL_WINDOW_PACKETS,
  type LossInfo,
  WINDOW_MAX_BYTES,
} from "./congestion.ts";

/** Own packets in the queue: below ALPHA the window grows, above BETA it shrinks. */
const ALPHA_PACKETS = 2;
const BETA_PACKETS = 4;
/** The same as times, for fast paths: minimum values of the bounds. */
const ALPHA_MS = 1;
const BETA_MS = 2;
/** Minimum window. */
const FLOOR_PACKETS = 8;
/** The minimum round trip expires after one to two of these: routes change. */
const BASE_WINDOW_MS = 30_000;
/** Slow start ends at a queue of an eighth of the round trip, within these bounds (after RFC 9406). */
const EXIT_MIN_MS = 3;
const EXIT_MAX_MS = 16;
/** Consecutive measurements that must all show the queue. */
const EXIT_SAMPLES = 8;
/** Smoothed loss rate: above HOLD the window doesn't grow, above SHRINK it follows the bytes that arrive. */
const LOSS_HOLD = 0.05;
const LOSS_SHRINK = 0.1;
/** The loss rate is smoothed over about this many packets. */
const LOSS_MEMORY_PACKETS = 400;
/** Round trips in which the window shrank but the queue didn't, before the queue is attributed to other traffic. */
const FOREIGN_EPOCHS = 6;
/** Below this round trip every loss counts: a window regrows quickly there, and buffers are small. */
const SHORT_MS = 5;
/** The window's factor at a loss with a queue. */
const BACKOFF = 0.75;

/** Delay-based congestion control. */
export class Vegas implements CongestionControl {
  readonly name = "vegas";
  #datagramBytes: number;
  #window: number;
  #slowStart = true;
  /** Minimum round trip, in two alternating periods. */
  #baseMs = Infinity;
  #olderBaseMs = Infinity;
  #baseSinceMs = -Infinity;
  // The current epoch: about a round trip.
  #epochEnd = 0;
  #epochMinMs = Infinity;
  #epochAcked = 0;
  #epochLost = 0;
  #limited = false;
  // Smallest of the last few measurements, for slow start.
  #recentMs = Infinity;
  #recentCount = 0;
  #lossShare = 0;
  #recoveryUntil = -1;
  /** Queue at the last epoch's end, in milliseconds. */
  #queueMs = 0;
  /** Consecutive epochs that shrank the window, and the queue at the first of them. */
  #shrinking = 0;
  #shrinkFromMs = 0;
  /** Largest queue since other traffic's queue was detected; 0 if there is none. */
  #foreignMs = 0;

  constructor(datagramBytes: number) {
    this.#datagramBytes = datagramBytes;
    this.#window = INITIAL_WINDOW_PACKETS * datagramBytes;
  }

  get windowBytes(): number {
    return this.#window;
  }

  get slowStart(): boolean {
    return this.#slowStart;
  }

  /** Whether other traffic has built a queue, so that the window grows like NewReno's. */
  get competing(): boolean {
    return this.#foreignMs > 0;
  }

  onAck(info: AckInfo): void {
    if (info.rttMs === info.rttMs) {
      this.#epochMinMs = Math.min(this.#epochMinMs, info.rttMs);
      this.#updateBase(info.nowMs, info.rttMs);
      if (this.#slowStart) this.#mayLeaveSlowStart(info.rttMs);
    }
    this.#epochAcked += info.packets;
    if (info.limited) this.#limited = true;
    if (this.#slowStart && info.limited) this.#setWindow(this.#window + info.bytes);
    if (info.largest >= this.#epochEnd && this.#epochMinMs < Infinity) {
      this.#endEpoch();
      this.#epochEnd = info.nextNumber;
    }
  }

  onLoss(info: LossInfo): void {
    this.#epochLost += info.packets;
    if (info.persistent) {
      this.#slowStart = false;
      this.#setWindow(FLOOR_PACKETS * this.#datagramBytes);
      return;
    }
    if (info.largest < this.#recoveryUntil || !this.#congested()) return;
    this.#recoveryUntil = info.nextNumber;
    this.#slowStart = false;
    this.#setWindow(BACKOFF * this.#window);
  }

  setDatagramBytes(size: number): void {
    this.#datagramBytes = size;
    this.#setWindow(this.#window);
  }

  reset(): void {
    this.#slowStart = true;
    this.#baseMs = this.#olderBaseMs = this.#epochMinMs = Infinity;
    this.#baseSinceMs = -Infinity;
    this.#lossShare =
      this.#queueMs =
      this.#foreignMs =
      this.#shrinking =
        0;
    this.#epochAcked = this.#epochLost = 0;
    this.#setWindow(INITIAL_WINDOW_PACKETS * this.#datagramBytes);
  }

  /** Whether a loss counts as congestion: there is a queue, or the round trip is short. */
  #congested(): boolean {
    const base = Math.min(this.#baseMs, this.#olderBaseMs);
    if (base === Infinity) return false;
    if (base < SHORT_MS) return true;
    const now = this.#epochMinMs < Infinity ? this.#epochMinMs - base : this.#queueMs;
    return Math.max(now, this.#queueMs) > exitMs(base);
  }

  #endEpoch(): void {
    const base = Math.min(this.#baseMs, this.#olderBaseMs);
    const rttMs = this.#epochMinMs;
    const queueMs = Math.max(0, rttMs - base);
    const packets = this.#window / this.#datagramBytes;
    const perMs = packets / rttMs;
    const queue = queueMs * perMs;
    const total = this.#epochAcked + this.#epochLost;
    const weight = Math.min(1, total / LOSS_MEMORY_PACKETS);
    if (total > 0) this.#lossShare += weight * (this.#epochLost / total - this.#lossShare);
    const mayGrow = this.#limited && this.#lossShare < LOSS_HOLD;
    const alpha = Math.max(ALPHA_PACKETS, ALPHA_MS * perMs);
    const beta = Math.max(BETA_PACKETS, BETA_MS * perMs);

    if (this.#lossShare > LOSS_SHRINK) {
      this.#slowStart = false;
      this.#setWindow(this.#window * (1 - Math.min(0.5, this.#lossShare)));
    } else if (this.#slowStart) {
      if (queueMs > exitMs(base)) this.#leaveSlowStart(base, rttMs);
    } else if (this.#foreignMs > 0) {
      this.#foreignMs = Math.max(this.#foreignMs, queueMs);
      if (queueMs < 0.1 * this.#foreignMs || queue < beta) this.#foreignMs = this.#shrinking = 0;
      else if (this.#limited) this.#setWindow(this.#window + this.#datagramBytes);
    } else if (queue > beta) {
      this.#shrink(packets, queue - beta, queueMs);
    } else {
      this.#shrinking = 0;
      if (queue < alpha && mayGrow) {
        this.#setWindow((packets + Math.max(1, packets / 32)) * this.#datagramBytes);
      }
    }
    this.#queueMs = queueMs;
    this.#epochMinMs = Infinity;
    this.#epochAcked = this.#epochLost = 0;
    this.#limited = false;
  }

  /** Checked within an epoch: waiting for its end would double the queue once more. */
  #mayLeaveSlowStart(rttMs: number): void {
    this.#recentMs = Math.min(this.#recentMs, rttMs);
    if (++this.#recentCount < EXIT_SAMPLES) return;
    const base = Math.min(this.#baseMs, this.#olderBaseMs);
    if (this.#recentMs - base > exitMs(base)) this.#leaveSlowStart(base, this.#recentMs);
    this.#recentMs = Infinity;
    this.#recentCount = 0;
  }

  /** Sets the window slightly above what the path held without a queue. */
  #leaveSlowStart(base: number, rttMs: number): void {
    this.#slowStart = false;
    this.#setWindow(this.#window * base / rttMs + ALPHA_PACKETS * this.#datagramBytes);
  }

  #shrink(packets: number, excess: number, queueMs: number): void {
    if (this.#shrinking === 0) this.#shrinkFromMs = queueMs;
    this.#shrinking++;
    if (this.#shrinking > FOREIGN_EPOCHS && queueMs >= 0.9 * this.#shrinkFromMs) this.#foreignMs = queueMs;
    // At most an eighth at a time: the round trip may have risen for reasons other than our queue.
    const step = Math.min(Math.max(1, excess / 2), packets / 8);
    this.#setWindow((packets - step) * this.#datagramBytes);
  }

  #setWindow(bytes: number): void {
    this.#window = Math.min(WINDOW_MAX_BYTES, Math.max(FLOOR_PACKETS * this.#datagramBytes, bytes));
  }

  #updateBase(nowMs: number, rttMs: number): void {
    if (nowMs - this.#baseSinceMs > BASE_WINDOW_MS) {
      this.#olderBaseMs = this.#baseMs;
      this.#baseMs = rttMs;
      this.#baseSinceMs = nowMs;
    } else if (rttMs < this.#baseMs) this.#baseMs = rttMs;
  }
}

function exitMs(baseMs: number): number {
  return Math.min(EXIT_MAX_MS, Math.max(EXIT_MIN_MS, baseMs / 8));
}
