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

/** So many are read within IDLE_WINDOW_MS; the others wait, while the other sessions of the process have their turn. */
export const IDLE_FRAMES_PER_WINDOW = 256;
/**
 * See IDLE_FRAMES_PER_WINDOW. Waiting for the next turn alone wouldn't do: a loop on Deno that always has one to run looks
 * for what the network has brought once in 61.
 */
export const IDLE_WINDOW_MS = 10;
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
  #windowLeft = IDLE_FRAMES_PER_WINDOW;
  #windowEndsMs: number;

  /** `nowMs` is the session's clock; it is asked only when the budget is used up. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
    this.#countedMs = nowMs();
    this.#windowEndsMs = this.#countedMs + IDLE_WINDOW_MS;
  }

  /** There were enough of them for now: what comes has to wait until {@link restEndsMs}. */
  get tired(): boolean {
    if (this.#windowLeft > 0) return false;
    const nowMs = this.#nowMs();
    if (nowMs < this.#windowEndsMs) return true;
    this.#windowLeft = IDLE_FRAMES_PER_WINDOW;
    this.#windowEndsMs = nowMs + IDLE_WINDOW_MS;
    return false;
  }

  /** When frames may be read again. */
  get restEndsMs(): number {
    return this.#windowEndsMs;
  }

  /** Counts a frame, or what costs as much as `cost` of them. Throws `limit_exceeded` where there were too many. */
  spend(cost = 1): void {
    this.#windowLeft -= cost;
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
