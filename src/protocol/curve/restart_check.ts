/**
 * Detects that a silent server has lost the connection's state. When nothing is acknowledged any more, either the path is
 * dead or the server was restarted; a HELLO tells them apart, since answering it needs no state that a restart loses.
 *
 * @module
 */
import type { CurveConnection } from "./connection.ts";

/** Unanswered probes before the first HELLO. */
const PROBES_MIN = 3;
/** Then a HELLO is sent this often, or every second round trip. */
const EVERY_MS = 500;
/** After this many answers while the connection is silent, the server has lost its state. */
const ANSWERS_MAX = 3;

/** Detects a server restart. */
export class RestartCheck {
  /** When {@link tick} is due; Infinity if no check is needed. */
  deadlineMs = Infinity;
  #waiting = false;
  #answers = 0;
  /** Packets that the connection had received when the check began. */
  #heard = 0;

  /** Returns what to do now: send a HELLO and a PING, or give up the connection. */
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

  /** The server has answered a HELLO; only one answer per HELLO counts. */
  answered(): void {
    if (this.#waiting) this.#answers++;
    this.#waiting = false;
  }
}
