/**
 * How much of a session may be on its way. Kernels would take megabytes into their buffers, behind which the next
 * small frame waits for milliseconds; so pings go along with the data, and their pongs say how far the peer has read.
 * The window is twice what the path holds by its rate and its least round trip, after BBR (Cardwell et al., 2016).
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { FLIGHT_MAX_BYTES, FLIGHT_MIN_BYTES, FLIGHT_PATIENCE_MS, FLIGHT_PROBE_MS } from "../limits.ts";
import { CHANNEL_ID_BYTES } from "../wire/snitun_frame.ts";

/** Marks in one window: the pongs come often enough for the sender never to wait for the last byte. */
const MARKS_PER_WINDOW = 4;
/** A rate that was once reached is believed a little less with each mark. */
const RATE_DECAY = 0.98;
const COUNT_AT = 8;

/** The bytes on their way, of one direction of a session. Times are monotonic milliseconds. */
export class Flight {
  /** The first half of the marks' ids; the second counts the bytes before the mark. */
  #prefix: Bytes | undefined;
  #sentBytes = 0;
  #seenBytes = 0;
  #seenAtMs = 0;
  #markedBytes = 0;
  /** Marks on their way: bytes before them, and when they left. */
  #marks: { bytes: number; atMs: number }[] = [];
  #bytesPerMs = 0;
  #leastRttMs = Infinity;
  #probeAtMs = 0;
  /** The peer doesn't answer: TCP alone limits what is on its way. */
  #blind = false;

  /** What may be on its way. */
  windowBytes = FLIGHT_MIN_BYTES;

  /** Whether as much is on its way as may be. */
  get full(): boolean {
    return !this.#blind && this.#sentBytes - this.#seenBytes >= this.windowBytes;
  }

  /** Until when the oldest mark's pong is waited for; Infinity where none is. */
  get patienceEndsMs(): number {
    return this.#blind || this.#marks.length === 0 ? Infinity : this.#marks[0].atMs + FLIGHT_PATIENCE_MS;
  }

  /** `byteLength` bytes of payload have been sent; says whether a mark should follow them. */
  sent(byteLength: number): boolean {
    this.#sentBytes += byteLength;
    return this.#sentBytes - this.#markedBytes >= this.windowBytes / MARKS_PER_WINDOW;
  }

  /** The id of a mark that goes out now. `newPrefix` makes eight bytes that no other ping begins with. */
  mark(nowMs: number, newPrefix: () => Bytes): Bytes {
    this.#prefix ??= newPrefix().slice(0, COUNT_AT);
    if (this.#marks.length === 0) this.#seenAtMs = Math.max(this.#seenAtMs, nowMs);
    this.#markedBytes = this.#sentBytes;
    this.#marks.push({ bytes: this.#sentBytes, atMs: nowMs });
    const id = new Uint8Array(CHANNEL_ID_BYTES);
    id.set(this.#prefix);
    new DataView(id.buffer).setFloat64(COUNT_AT, this.#sentBytes);
    return id;
  }

  /** A pong came; says whether it was a mark's. */
  pong(id: Bytes, nowMs: number): boolean {
    const prefix = this.#prefix;
    if (prefix === undefined || !prefix.every((byte, i) => byte === id[i])) return false;
    const bytes = new DataView(id.buffer, id.byteOffset).getFloat64(COUNT_AT);
    // Marks come back in order; whoever invents one has only its own window to lose.
    while (this.#marks.length > 0 && this.#marks[0].bytes <= bytes) this.#seen(this.#marks.shift()!, nowMs);
    this.#blind = false;
    return true;
  }

  /** Stops waiting for a peer that doesn't answer; says whether that was due. */
  tick(nowMs: number): boolean {
    if (nowMs < this.patienceEndsMs) return false;
    this.#blind = true;
    this.#marks = [];
    return true;
  }

  #seen(mark: { bytes: number; atMs: number }, nowMs: number): void {
    const rttMs = nowMs - mark.atMs;
    const sinceMs = Math.max(nowMs - Math.max(this.#seenAtMs, 0), 0.01);
    const rate = (mark.bytes - this.#seenBytes) / Math.max(sinceMs, rttMs / MARKS_PER_WINDOW);
    this.#bytesPerMs = Math.max(rate, this.#bytesPerMs * RATE_DECAY);
    this.#seenBytes = mark.bytes;
    this.#seenAtMs = nowMs;
    if (nowMs >= this.#probeAtMs) {
      // Our own queue hides the path's round trip: drain it now and then, and look again.
      this.#leastRttMs = Infinity;
      this.#probeAtMs = nowMs + FLIGHT_PROBE_MS;
      this.windowBytes = FLIGHT_MIN_BYTES;
      return;
    }
    this.#leastRttMs = Math.min(this.#leastRttMs, rttMs);
    const wanted = 2 * this.#bytesPerMs * this.#leastRttMs;
    this.windowBytes = Math.min(FLIGHT_MAX_BYTES, Math.max(FLIGHT_MIN_BYTES, wanted));
  }
}
