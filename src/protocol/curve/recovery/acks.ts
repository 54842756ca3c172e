/**
 * Decides which packets to acknowledge, and when.
 *
 * @module
 */
import { ACK_RANGES_MAX } from "../../../wire/curve/curve_frame.ts";
import { RangeSet } from "../range_set.ts";
import { MAX_ACK_DELAY_MS } from "./rtt.ts";

/** An ACK is sent for every this many ack-eliciting packets. */
const PACKETS_PER_ACK = 2;
/** One in this many packets that contain only an ACK of several ranges elicits an acknowledgement itself. */
const PING_EVERY = 16;
const PING_RANGES = 8;

/** Received packet numbers of one direction. */
export class AckTracker {
  readonly ranges = new RangeSet();
  #largest = -1;
  #largestAtMs = 0;
  /** Ack-eliciting packets since the last ACK. */
  #waiting = 0;
  #atOnce = false;
  #dueMs = Infinity;
  #bare = 0;
  /** Packets that arrived after a later one. */
  reordered = 0;

  /** A packet was opened for the first time. */
  received(number: number, eliciting: boolean, nowMs: number): void {
    this.ranges.add(number, number + 1);
    if (this.ranges.size > ACK_RANGES_MAX) this.ranges.dropLowest();
    const inOrder = number === this.#largest + 1;
    if (number > this.#largest) {
      this.#largest = number;
      this.#largestAtMs = nowMs;
    } else this.reordered++;
    if (!eliciting) return;
    this.#waiting++;
    if (!inOrder || this.#waiting >= PACKETS_PER_ACK) this.#atOnce = true;
    else this.#dueMs = Math.min(this.#dueMs, nowMs + MAX_ACK_DELAY_MS);
  }

  /** Whether there is something new to acknowledge; an ACK is added to the next packet. */
  get pending(): boolean {
    return this.#waiting > 0 && this.ranges.size > 0;
  }

  /** Whether an ACK must be sent now, even alone. */
  due(nowMs: number): boolean {
    return this.pending && (this.#atOnce || nowMs >= this.#dueMs);
  }

  /** When an ACK is due; −Infinity for now. */
  get dueMs(): number {
    return !this.pending ? Infinity : this.#atOnce ? -Infinity : this.#dueMs;
  }

  /** The highest number that an ACK written now acknowledges. */
  get largest(): number {
    return this.ranges.size === 0 ? -1 : this.ranges.end(this.ranges.size - 1) - 1;
  }

  /** How long the largest number has waited, in µs. */
  delayUs(nowMs: number): number {
    return Math.max(0, Math.round((nowMs - this.#largestAtMs) * 1000));
  }

  /** An ACK was written. Returns whether its packet, if it carries nothing else, should elicit one in return. */
  written(alone: boolean): boolean {
    this.#waiting = 0;
    this.#atOnce = false;
    this.#dueMs = Infinity;
    this.#bare = alone ? this.#bare + 1 : 0;
    return alone && this.ranges.size >= PING_RANGES && this.#bare % PING_EVERY === 0;
  }

  /** The peer knows that everything up to `number` was received. */
  confirmed(number: number): void {
    this.ranges.dropBelow(number + 1);
  }
}
