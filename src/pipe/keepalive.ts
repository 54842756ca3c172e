/**
 * When a sodium-tcp session pings, and when it is closed (docs/protocols/pipe.md, Limits).
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";

/** sodium-tcp: a session without a byte from the peer for this time is closed (spec). */
export const PIPE_IDLE_MS = 180_000;
/** sodium-tcp: time of the first ping, and the range of the intervals after it (spec). */
export const PIPE_PING_FIRST_MS = 60_000;
export const PIPE_PING_MIN_MS = 60_000;
export const PIPE_PING_MAX_MS = 119_000;
/** sodium-tcp: this many pings without a pong close the session (spec). */
export const PIPE_PINGS_UNANSWERED_MAX = 3;

/** The keep-alive timing of one authenticated session. Times are monotonic milliseconds. */
export class Keepalive {
  readonly #random: (into: Bytes) => void;
  #heardMs: number;
  #pingMs: number;
  #unanswered = 0;

  constructor(nowMs: number, random: (into: Bytes) => void) {
    this.#random = random;
    this.#heardMs = nowMs;
    this.#pingMs = nowMs + PIPE_PING_FIRST_MS;
  }

  /** When to call {@link tick} next. */
  get deadlineMs(): number {
    return Math.min(this.#pingMs, this.#heardMs + PIPE_IDLE_MS);
  }

  /** Bytes from the peer have arrived. */
  heard(nowMs: number): void {
    this.#heardMs = nowMs;
  }

  /** A pong has arrived. */
  ponged(): void {
    this.#unanswered = 0;
  }

  /** True when a ping must be sent now. Throws `pong_missing` or `session_idle` when the session must be closed. */
  tick(nowMs: number): boolean {
    if (nowMs >= this.#heardMs + PIPE_IDLE_MS) {
      throw new SallyportError("session_idle", "The peer has been silent for 180 s", { side: "network" });
    }
    if (nowMs < this.#pingMs) return false;
    if (this.#unanswered >= PIPE_PINGS_UNANSWERED_MAX) {
      throw new SallyportError("pong_missing", `The peer left ${this.#unanswered} pings unanswered`, {
        side: "peer",
      });
    }
    this.#unanswered++;
    const draw = new Uint8Array(4);
    this.#random(draw);
    const gap = new DataView(draw.buffer).getUint32(0) % (PIPE_PING_MAX_MS - PIPE_PING_MIN_MS + 1);
    this.#pingMs = nowMs + PIPE_PING_MIN_MS + gap;
    return true;
  }
}
