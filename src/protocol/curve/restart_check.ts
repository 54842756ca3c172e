/**
 * Whether a silent server has forgotten the connection. When nothing is acknowledged any more, either the path is dead
 * or the server was started anew; a HELLO tells them apart, since its answer needs nothing that a restart has wiped.
 *
 * @module
 */
import type { CurveConnection } from "./connection.ts";

/** It is asked after this many probes in vain. */
const PROBES_MIN = 3;
/** Then this often, or in every second round trip. */
const EVERY_MS = 500;
/** So many answers while the connection is silent, and the server has forgotten it. */
const ANSWERS_MAX = 3;

/** Finds out whether the server was restarted. */
export class RestartCheck {
  /** When {@link tick} wants to be called; Infinity while there is nothing to ask. */
  deadlineMs = Infinity;
  #waiting = false;
  #answers = 0;
  /** Packets that the connection had received when the asking began. */
  #heard = 0;

  /** Time has passed. Says what to do now: send a HELLO and a PING, or give the connection up. */
  tick(connection: CurveConnection, nowMs: number): "wait" | "ask" | "give up" {
    const { probesInVain, stats } = connection;
    if (probesInVain < PROBES_MIN) {
      this.deadlineMs = Infinity;
      return "wait";
    }
    if (this.deadlineMs === Infinity || stats.packetsReceived !== this.#heard) {
      this.#heard = stats.packetsReceived;
      this.#answers = 0;
      this.deadlineMs = Math.min(nowMs, this.deadlineMs);
    }
    if (nowMs < this.deadlineMs) return "wait";
    if (this.#answers >= ANSWERS_MAX) return "give up";
    this.deadlineMs = nowMs + Math.max(EVERY_MS, 2 * connection.gauges.rttSmoothedMs);
    this.#waiting = true;
    return "ask";
  }

  /** The server has answered a HELLO; one answer for each counts. */
  answered(): void {
    if (this.#waiting) this.#answers++;
    this.#waiting = false;
  }
}
