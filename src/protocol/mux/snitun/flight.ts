/**
 * Limits a session's bytes in flight. Kernels would buffer megabytes, behind which the next small frame waits for
 * milliseconds; so pings are sent along with the data, and their pongs show how far the peer has read. The window is the
 * path's bandwidth-delay product, from its rate and minimum round trip, after BBR (Cardwell et al., 2016).
 *
 * @module
 */
import { type Bytes, startsWith } from "../../../bytes/bytes.ts";
import { CHANNEL_ID_BYTES, type Filler, newChannelId } from "../../../wire/snitun/snitun_frame.ts";

/**
 * Bounds for the bytes in flight in one direction of a session: other streams' small frames wait behind them.
 * Between the two, the window follows the path (flight.ts).
 */
export const FLIGHT_MIN_BYTES = 96 * 1024;
export const FLIGHT_MAX_BYTES = 32 * 1024 * 1024;
/** The path's round trip is measured anew this often. */
export const FLIGHT_PROBE_MS = 10_000;
/**
 * It is measured for at least this long: a pause at the other end, such as a collection of its memory, would otherwise be
 * taken for the path, and the window would fill with milliseconds of bulk.
 */
const PROBE_MIN_MS = 20;
/** A peer that answers no ping for this long is no longer waited for: TCP alone limits its bytes in flight. */
export const FLIGHT_PATIENCE_MS = 1_000;

/** Marks per window: frequent enough that the sender never waits for the last byte. */
const MARKS_PER_WINDOW = 4;
/**
 * For pure bulk traffic, a larger window costs less and delays no small frame: this many times the small window, but not
 * much more on a long path, or what the path carries in this time at its best, since both ends pass on hundreds of KiB in a
 * turn.
 */
const BULK_FACTOR = 4;
const BULK_MORE_MAX_BYTES = 2 * 1024 * 1024;
const BULK_MS = 1;
const BULK_MIN_BYTES = 768 * 1024;
/** A new stream, or a small frame of one that sends no bulk, keeps the window small for this many bytes. */
export const POLITE_BYTES = 16 * 1024 * 1024;
/** Small frames may exceed a full window by this. */
const HEADROOM_BYTES = 64 * 1024;
/** Slightly more than the path's capacity, to cover the distance between pongs. */
const GAIN = 1.25;
/**
 * On a shorter path the window grows within milliseconds. It needs no quick start there, and isn't kept for later: what
 * waits at both ends makes its round trip look longer than it is.
 */
const LONG_PATH_MS = 5;
/** At the start of a long path, so that the window doubles with each round trip (BBR's startup gain, 2 / ln 2). */
const START_GAIN = 2.89;
/** The start is over when the rate has grown by less than this factor in so many round trips in a row. */
const START_GROWTH = 1.25;
const START_ROUNDS = 3;
/** The maximum rate decays by this factor with each mark that shows the path's rate, on a short path with each. */
const RATE_DECAY = 0.98;
const COUNT_AT = 8;
/** Maximum marks in flight; a peer that answers none gets no more. */
const MARKS_MAX = 64;
/** Possible clock granularity. */
const CLOCK_STEP_MS = 0.01;

interface Mark {
  /** Bytes sent before it, and when it was sent. */
  readonly bytes: number;
  readonly atMs: number;
  /** The bytes before it filled the window or the connection: they show the path's rate, and not just the streams'. */
  readonly limited: boolean;
}

const NO_MARKS: Mark[] = [];

/** The bytes in flight in one direction of a session. Times are monotonic milliseconds. */
export class Flight {
  /** The first half of the marks' ids; the second counts the bytes before the mark. */
  #prefix: Bytes | undefined;
  #sentBytes = 0;
  #seenBytes = 0;
  #seenAtMs = 0;
  #markedBytes = 0;
  /** Marks in flight. */
  #marks: Mark[] = NO_MARKS;
  #bytesPerMs = 0;
  #leastRttMs = Infinity;
  /** When the round trip was last begun to be measured. */
  #probedAtMs = -Infinity;
  /** Since the last mark, the window or the connection was what limited the sender. */
  #limited = false;
  /** Until the rate stops growing, the window doubles. */
  #starting = true;
  /** The rate that the start has reached, the round trips since, and the bytes at which the next one ends. */
  #startBytesPerMs = 0;
  #startRounds = 0;
  #roundEndBytes = 0;
  /** While the round trip is probed: bytes sent before, whose marks waited behind our own queue. */
  #probedFrom: number | undefined;
  /** The peer doesn't answer: TCP alone limits the bytes in flight. */
  #blind = false;

  readonly #minBytes: number;
  #windowBytes: number;

  /** Byte count up to which the window stays small. */
  #politeUntil = POLITE_BYTES;

  /** @param minBytes the smallest window. */
  constructor(minBytes: number = FLIGHT_MIN_BYTES) {
    this.#minBytes = minBytes;
    this.#windowBytes = minBytes;
  }

  /** The window: bytes that may be in flight. */
  get windowBytes(): number {
    if (this.#probedFrom !== undefined) return this.#minBytes;
    return this.#sentBytes < this.#politeUntil ? this.#windowBytes : Math.max(
      Math.min(BULK_FACTOR * this.#windowBytes, this.#windowBytes + BULK_MORE_MAX_BYTES),
      BULK_MIN_BYTES,
      BULK_MS * this.#bytesPerMs,
    );
  }

  /** Bytes that may still be sent; negative if small frames have exceeded the window. */
  get roomBytes(): number {
    return this.#blind ? Infinity : this.windowBytes - (this.#sentBytes - this.#seenBytes);
  }

  /** Whether the window is full. */
  get full(): boolean {
    return this.roomBytes <= 0;
  }

  /** Whether not even a small frame may be sent. */
  get overfull(): boolean {
    return this.roomBytes <= -HEADROOM_BYTES;
  }

  /** Keeps the window small for a while, so that a new or sending stream doesn't wait behind a bulk transfer. */
  staySmall(): void {
    this.#politeUntil = this.#sentBytes + POLITE_BYTES;
  }

  /** Deadline for the oldest mark's pong; Infinity if there is no mark. */
  get patienceEndsMs(): number {
    return this.#blind || this.#marks.length === 0 ? Infinity : this.#marks[0].atMs + FLIGHT_PATIENCE_MS;
  }

  /** `byteLength` bytes of payload have been sent. */
  sent(byteLength: number): void {
    this.#sentBytes += byteLength;
    // Half a window, as in TCP: streams are told to go on in steps, so a busy window is seldom quite full.
    // A window kept small to measure the round trip says nothing about the rate.
    if (this.#limited || this.#probedFrom !== undefined) return;
    this.#limited = 2 * (this.#sentBytes - this.#seenBytes) > this.windowBytes;
  }

  /** The connection accepts no more bytes for now. */
  connectionFull(): void {
    this.#limited = true;
  }

  /** Whether a mark should be sent now: part of the window is unmarked, or nothing else would reopen it. */
  get markDue(): boolean {
    const unmarked = this.#sentBytes - this.#markedBytes;
    if (unmarked === 0 || this.#marks.length >= MARKS_MAX) return false;
    return unmarked >= this.windowBytes / MARKS_PER_WINDOW || (this.full && this.#marks.length === 0);
  }

  /** Returns the id of a mark sent now. Its first eight bytes are random at first: no other ping begins with them. */
  mark(nowMs: number, random: Filler): Bytes {
    this.#prefix ??= newChannelId(random).slice(0, COUNT_AT);
    if (this.#marks.length === 0) {
      this.#marks = [];
      // Nothing was in flight until now, so the time before says nothing about the rate.
      this.#seenAtMs = nowMs;
    }
    this.#markedBytes = this.#sentBytes;
    this.#marks.push({ bytes: this.#sentBytes, atMs: nowMs, limited: this.#limited });
    this.#limited = false;
    const id = new Uint8Array(CHANNEL_ID_BYTES);
    id.set(this.#prefix);
    new DataView(id.buffer).setFloat64(COUNT_AT, this.#sentBytes);
    return id;
  }

  /** Handles a pong. Returns whether it was a mark's. */
  pong(id: Bytes, nowMs: number): boolean {
    const prefix = this.#prefix;
    if (prefix === undefined || !startsWith(id, prefix)) return false;
    const bytes = new DataView(id.buffer, id.byteOffset).getFloat64(COUNT_AT);
    // A peer that forges a mark harms only its own window.
    if (!(bytes > this.#seenBytes && bytes <= this.#markedBytes)) return true;
    let mark: Mark | undefined;
    while (this.#marks.length > 0 && this.#marks[0].bytes <= bytes) mark = this.#marks.shift();
    if (mark !== undefined) this.#measure(mark, nowMs);
    this.#seenBytes = bytes;
    this.#seenAtMs = nowMs;
    this.#blind = false;
    return true;
  }

  /** Stops waiting for a peer that doesn't answer. Returns whether that was due. */
  tick(nowMs: number): boolean {
    if (nowMs < this.patienceEndsMs) return false;
    this.#blind = true;
    return true;
  }

  #measure(mark: Mark, nowMs: number): void {
    const rttMs = nowMs - mark.atMs;
    if (nowMs >= this.#probedAtMs + FLIGHT_PROBE_MS) {
      this.#leastRttMs = Infinity;
      this.#probedAtMs = nowMs;
      // Our own queue hides the path's round trip, so it is drained now and then to measure again. The first mark had none.
      if (this.#seenBytes > 0) {
        this.#probedFrom = this.#sentBytes;
        return;
      }
    }
    if (this.#probedFrom !== undefined && mark.bytes <= this.#probedFrom) return;
    this.#leastRttMs = Math.min(this.#leastRttMs, rttMs);
    if (this.#probedFrom !== undefined && nowMs < this.#probedAtMs + PROBE_MIN_MS) return;
    this.#probedFrom = undefined;
    const sinceMs = Math.max(nowMs - this.#seenAtMs, rttMs / MARKS_PER_WINDOW, CLOCK_STEP_MS);
    const isLong = this.#leastRttMs >= LONG_PATH_MS;
    const kept = isLong && !mark.limited ? this.#bytesPerMs : this.#bytesPerMs * RATE_DECAY;
    this.#bytesPerMs = Math.max((mark.bytes - this.#seenBytes) / sinceMs, kept);
    if (this.#starting && mark.limited && mark.bytes >= this.#roundEndBytes) this.#endRound();
    const wanted = (this.#starting && isLong ? START_GAIN : GAIN) * this.#bytesPerMs * this.#leastRttMs;
    this.#windowBytes = Math.min(FLIGHT_MAX_BYTES, Math.max(this.#minBytes, wanted));
  }

  /** A round trip of the start is over: bytes sent when the last one ended have been seen. */
  #endRound(): void {
    this.#roundEndBytes = this.#sentBytes;
    if (this.#bytesPerMs >= START_GROWTH * this.#startBytesPerMs) {
      this.#startBytesPerMs = this.#bytesPerMs;
      this.#startRounds = 0;
    } else if (++this.#startRounds >= START_ROUNDS) this.#starting = false;
  }
}
