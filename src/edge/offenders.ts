/**
 * Agents whose session was ended because it broke the protocol. They are refused for a while, longer each time, so that
 * they can't do it again a thousand times a second.
 *
 * @module
 */
import { type ErrorCode, SallyportError } from "../errors.ts";

/** An agent whose session broke the protocol is refused for this long; doubled each time it does it again. */
export const PENALTY_FIRST_MS = 1_000;
/** The longest penalty. */
export const PENALTY_MAX_MS = 60_000;
/** An agent that hasn't broken the protocol for this long after its penalty starts anew. */
export const PENALTY_REMEMBERED_MS = 60_000;
/** Agents remembered for breaking the protocol; beyond this number the one that did it first is forgotten. */
export const OFFENDERS_MAX = 10_000;

/** Ends of a session that no honest agent causes, on however bad a network. */
const OFFENCES: ReadonlySet<ErrorCode> = new Set(["cipher_failed", "frame_invalid", "limit_exceeded"]);

interface Penalty {
  readonly untilMs: number;
  readonly lengthMs: number;
}

/** Remembers agents until their penalty is forgotten, in bounded memory. Times are monotonic milliseconds. */
export class Offenders {
  /** In the order of their last offence. */
  readonly #penalties = new Map<string, Penalty>();

  /** Throws `limit_exceeded` during an agent's penalty. */
  check(agent: string, nowMs: number): void {
    const leftMs = (this.#penalties.get(agent)?.untilMs ?? -Infinity) - nowMs;
    if (leftMs <= 0) return;
    throw new SallyportError(
      "limit_exceeded",
      `Cannot open session: the agent's last one broke the protocol; it may return in ${
        Math.ceil(leftMs / 1000)
      } s`,
      { side: "peer", retryable: true },
    );
  }

  /** An agent's session is over. Returns the length of its penalty if it broke the protocol. */
  ended(agent: string, { code, side }: SallyportError, nowMs: number): number | undefined {
    if (side !== "peer" || !OFFENCES.has(code)) return undefined;
    const last = this.#penalties.get(agent);
    const again = last !== undefined && nowMs < last.untilMs + PENALTY_REMEMBERED_MS;
    const lengthMs = again ? Math.min(2 * last.lengthMs, PENALTY_MAX_MS) : PENALTY_FIRST_MS;
    this.#penalties.delete(agent);
    const [first] = this.#penalties.keys();
    if (this.#penalties.size >= OFFENDERS_MAX && first !== undefined) this.#penalties.delete(first);
    this.#penalties.set(agent, { untilMs: nowMs + lengthMs, lengthMs });
    return lengthMs;
  }

  /** Forgets what no longer counts. */
  sweep(nowMs: number): void {
    for (const [agent, { untilMs }] of this.#penalties) {
      if (nowMs >= untilMs + PENALTY_REMEMBERED_MS) this.#penalties.delete(agent);
    }
  }
}
