/**
 * Limits on what does no work: no-op frames (pings, pauses, frames for closed streams) and wasted payload (bytes of closed
 * or paused streams). Both cost the receiver time that other sessions of the process wait for, so a session rests when it
 * has read some of either. A peer that sends too many no-op frames loses its session.
 *
 * @module
 */
import { SallyportError } from "../../errors.ts";
import type { MuxClock } from "./host.ts";

/** No-op frames that a session accepts per second. Honest peers stay far below it: close races, some pauses. */
export const IDLE_FRAMES_PER_SECOND = 10_000;
/** Burst of no-op frames that is accepted, such as after the peer or this process was suspended for a while. */
export const IDLE_FRAMES_BURST = 20_000;

/** No-op frames read within IDLE_WINDOW_MS; the rest wait while the other sessions of the process have their turn. */
export const IDLE_FRAMES_PER_WINDOW = 256;
/**
 * See IDLE_FRAMES_PER_WINDOW. Waiting only for the next turn isn't enough: a Deno event loop that always has a turn to
 * run polls the network only once in 61 turns.
 */
export const IDLE_WINDOW_MS = 10;
/**
 * Cost, in no-op frames, of a stream that an agent opens at an edge: it allocates an object on both sides, and most edges
 * refuse it. Edges open one for each visitor, agents a few for their own requests.
 */
export const AGENT_OPEN_COST = 4;

/**
 * Wasted payload that a session reads at full speed: what an honest peer has on the way when its stream is paused or
 * closed. Payload that a stream takes earns as much again.
 */
export const WASTE_BURST_BYTES = 4 * 1024 * 1024;
/**
 * The most that a session may have earned: what a long, fast path holds. An attacker has to spend as much on honest
 * bytes.
 */
export const WASTE_EARNED_MAX_BYTES = 64 * 1024 * 1024;
/** Beyond it the sessions of a transport take turns in reading wasted payload, so much per second together. */
export const WASTE_BYTES_PER_SECOND = 64 * 1024 * 1024;
/** Wasted payload of one turn; what has arrived with it is read, too. */
const WASTE_TURN_BYTES = 256 * 1024;

/** The turns in which sessions read wasted payload. */
export class WasteTurns {
  #freeAtMs = -Infinity;

  /** A session has read so many bytes. Returns when it may read on: after the others that are waiting. */
  next(byteLength: number, nowMs: number): number {
    this.#freeAtMs = Math.max(this.#freeAtMs, nowMs) + byteLength * 1000 / WASTE_BYTES_PER_SECOND;
    return this.#freeAtMs;
  }
}

/** Counts one session's frames. */
export class FrameBudget {
  readonly #clock: Pick<MuxClock, "nowMs">;
  readonly #turns: WasteTurns;
  /** Wasted payload that may still be read at full speed; negative within a turn. */
  #wasteLeftBytes = WASTE_BURST_BYTES;
  /** When the next bytes may be read. */
  #turnAtMs = -Infinity;
  #left = IDLE_FRAMES_BURST;
  #countedMs: number;
  #windowLeft = IDLE_FRAMES_PER_WINDOW;
  #windowEndsMs: number;

  /**
   * @param clock the session's; it is read only when a budget is used up
   * @param turns shared with the other sessions. Defaults to none.
   */
  constructor(clock: Pick<MuxClock, "nowMs">, turns: WasteTurns = new WasteTurns()) {
    this.#clock = clock;
    this.#turns = turns;
    this.#countedMs = clock.nowMs();
    this.#windowEndsMs = this.#countedMs + IDLE_WINDOW_MS;
  }

  /** Too many frames for now: further ones have to wait until {@link restEndsMs}. */
  get tired(): boolean {
    if (this.#windowLeft > 0) return false;
    const nowMs = this.#clock.nowMs();
    if (nowMs < this.#windowEndsMs) return true;
    this.#windowLeft = IDLE_FRAMES_PER_WINDOW;
    this.#windowEndsMs = nowMs + IDLE_WINDOW_MS;
    return false;
  }

  /** Too much was wasted: bytes that arrive have to wait until {@link restEndsMs}. */
  get wasteful(): boolean {
    return this.#turnAtMs > -Infinity && this.#clock.nowMs() < this.#turnAtMs;
  }

  /** When frames may be read again. */
  get restEndsMs(): number {
    return this.#windowLeft > 0 ? this.#turnAtMs : Math.max(this.#turnAtMs, this.#windowEndsMs);
  }

  /** Counts a frame, or an event that costs as much as `cost` frames. Throws `limit_exceeded` if there were too many. */
  spend(cost = 1): void {
    this.#windowLeft -= cost;
    this.#left -= cost;
    if (this.#left >= 0) return;
    const nowMs = this.#clock.nowMs();
    const earned = Math.floor((nowMs - this.#countedMs) / 1000 * IDLE_FRAMES_PER_SECOND);
    this.#countedMs = nowMs;
    this.#left = Math.min(earned, IDLE_FRAMES_BURST) - cost;
    if (this.#left >= 0) return;
    throw new SallyportError(
      "limit_exceeded",
      `Session ended: the peer sends more than ${IDLE_FRAMES_PER_SECOND} frames a second that do nothing`,
      { side: "peer" },
    );
  }

  /** Counts payload that no stream takes. */
  waste(byteLength: number): void {
    this.#wasteLeftBytes -= byteLength;
    if (this.#wasteLeftBytes > -WASTE_TURN_BYTES) return;
    this.#turnAtMs = this.#turns.next(-this.#wasteLeftBytes, this.#clock.nowMs());
    this.#wasteLeftBytes = 0;
  }

  /** Counts payload that a stream has taken. */
  earn(byteLength: number): void {
    this.#wasteLeftBytes = Math.min(this.#wasteLeftBytes + byteLength, WASTE_EARNED_MAX_BYTES);
  }
}
