/**
 * A limit on no-op frames: pings, pauses, frames for closed streams. Each costs the receiver time that other sessions of
 * the process wait for, so a peer that sends too many loses its session.
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

/** Counts one session's frames. */
export class FrameBudget {
  readonly #clock: Pick<MuxClock, "nowMs">;
  #left = IDLE_FRAMES_BURST;
  #countedMs: number;
  #windowLeft = IDLE_FRAMES_PER_WINDOW;
  #windowEndsMs: number;

  /** @param clock the session's; it is read only when the budget is used up */
  constructor(clock: Pick<MuxClock, "nowMs">) {
    this.#clock = clock;
    this.#countedMs = clock.nowMs();
    this.#windowEndsMs = this.#countedMs + IDLE_WINDOW_MS;
  }

  /** The budget is used up for now: further frames have to wait until {@link restEndsMs}. */
  get tired(): boolean {
    if (this.#windowLeft > 0) return false;
    const nowMs = this.#clock.nowMs();
    if (nowMs < this.#windowEndsMs) return true;
    this.#windowLeft = IDLE_FRAMES_PER_WINDOW;
    this.#windowEndsMs = nowMs + IDLE_WINDOW_MS;
    return false;
  }

  /** When frames may be read again. */
  get restEndsMs(): number {
    return this.#windowEndsMs;
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
}
