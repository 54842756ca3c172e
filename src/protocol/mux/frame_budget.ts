/**
 * A bound on frames that do no work: pings, pauses, frames for streams that are gone. Each costs the receiver time that
 * other sessions of the process wait for, so a peer that sends many of them loses its session.
 *
 * @module
 */
import { SallyportError } from "../../errors.ts";

/** Such frames that a session takes in a second. Honest peers stay far below it: races of closing streams, some pauses. */
export const IDLE_FRAMES_PER_SECOND = 10_000;
/** And as many at once: what a peer sends after it, or this process, was stopped for a while. */
export const IDLE_FRAMES_BURST = 20_000;

/** So many are read in one turn; then the other sessions of the process have theirs. */
export const IDLE_FRAMES_PER_TURN = 256;
/**
 * What a stream that an agent opens at an edge costs, in such frames: it is an object on both sides, and most edges refuse
 * it. Edges open one for each visitor, agents a few for requests of their own.
 */
export const AGENT_OPEN_COST = 4;

/** Counts one session's frames. */
export class FrameBudget {
  readonly #nowMs: () => number;
  #left = IDLE_FRAMES_BURST;
  #countedMs: number;
  #turnLeft = IDLE_FRAMES_PER_TURN;

  /** `nowMs` is the session's clock; it is asked only when the budget is used up. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
    this.#countedMs = nowMs();
  }

  /** This turn has had enough of them. */
  get tired(): boolean {
    return this.#turnLeft <= 0;
  }

  /** A new turn begins. */
  rested(): void {
    this.#turnLeft = IDLE_FRAMES_PER_TURN;
  }

  /** Counts a frame, or what costs as much as `cost` of them. Throws `limit_exceeded` where there were too many. */
  spend(cost = 1): void {
    this.#turnLeft -= cost;
    this.#left -= cost;
    if (this.#left >= 0) return;
    const nowMs = this.#nowMs();
    const earned = Math.floor((nowMs - this.#countedMs) / 1000 * IDLE_FRAMES_PER_SECOND);
    this.#countedMs = nowMs;
    this.#left = Math.min(earned, IDLE_FRAMES_BURST) - cost;
    if (this.#left >= 0) return;
    throw new SallyportError(
      "limit_exceeded",
      `Session ended: the peer sends more than ${IDLE_FRAMES_PER_SECOND} frames a second that do no work`,
      { side: "peer" },
    );
  }
}
