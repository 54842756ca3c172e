/**
 * What curve connections count, for `/metrics`.
 *
 * @module
 */
import type { CurveListener } from "./socket_listener.ts";
import { CurveStats } from "../../protocol/curve/stats.ts";
import type { CurveCounts, CurveSource } from "../../telemetry/metrics_curve.ts";
import type { CurveSession } from "./session.ts";

/** The counters of a listening socket: all its connections', past and present, and its own. */
export function curveListenerSource(listener: CurveListener): CurveSource {
  return {
    counts: () => {
      const { cookiesIssued, cookiesRefused, initsRefused } = listener.stats;
      return { ...listener.totals(), cookiesIssued, cookiesRefused, initsRefused };
    },
    gauges: function* () {
      for (const connection of listener.connections) if (connection.admitted) yield connection.gauges;
    },
  };
}

/** The counters of an agent's sessions, past and present. */
export class CurveSessionsSource implements CurveSource {
  readonly #past = new CurveStats();
  readonly #sessions = new Set<CurveSession>();

  /** A session stands. */
  add(session: CurveSession): void {
    this.#settle();
    this.#sessions.add(session);
  }

  #settle(): void {
    for (const session of this.#sessions) {
      if (!session.over) continue;
      this.#sessions.delete(session);
      this.#past.add(session.stats);
    }
  }

  counts(): CurveCounts {
    this.#settle();
    const sum = new CurveStats();
    sum.add(this.#past);
    for (const { stats } of this.#sessions) sum.add(stats);
    return { ...sum, cookiesIssued: 0, cookiesRefused: 0, initsRefused: 0 };
  }

  *gauges(): Iterable<CurveSession["gauges"]> {
    this.#settle();
    for (const { gauges } of this.#sessions) yield gauges;
  }
}
