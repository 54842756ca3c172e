/**
 * The metrics of the curve transport: sums over all connections of a process, computed at each scrape.
 *
 * @module
 */
import { Counter, Gauge, type Registry } from "prom-client";
import { CurveStats } from "../../protocol/curve/stats.ts";
import { metricConfig, type MetricInfo } from "../../telemetry/metrics.ts";
import type { CurveSession } from "./session.ts";
import type { CurveListener } from "./socket_listener.ts";

/** Counters of connections, past and present; they only increase. */
interface CurveCounts {
  readonly packetsSent: number;
  readonly packetsReceived: number;
  readonly packetsLost: number;
  readonly bytesResent: number;
  readonly duplicates: number;
  readonly reordered: number;
  readonly replays: number;
  readonly forgeries: number;
  readonly pathMoves: number;
  readonly cookiesIssued: number;
  readonly cookiesRefused: number;
  readonly initsRefused: number;
  readonly passed: number;
}

/** The current state of one connection. */
interface CurveState {
  readonly rttLastMs: number;
  readonly rttMinMs: number;
  readonly rttSmoothedMs: number;
  readonly windowBytes: number;
  readonly inFlightBytes: number;
}

/** A socket or an agent that has connections. */
export interface CurveSource {
  counts(): CurveCounts;
  gauges(): Iterable<CurveState>;
}

const COUNTERS: readonly (MetricInfo & { readonly of: keyof CurveCounts })[] = ([
  ["packetsSent", "packets_sent", "Packets sent in curve connections"],
  ["packetsReceived", "packets_received", "Genuine packets received in curve connections"],
  ["packetsLost", "packets_lost", "Packets of curve connections declared lost"],
  ["bytesResent", "resent_bytes", "Bytes of streams sent more than once in curve connections"],
  ["duplicates", "duplicates", "Stream frames without new bytes in curve connections"],
  ["reordered", "reordered", "Packets of curve connections that arrived after a later one"],
  ["replays", "replays", "Packets of curve connections whose number was seen before or is too old"],
  ["forgeries", "forgeries", "Packets for curve connections that did not decrypt"],
  ["pathMoves", "path_moves", "Changes of a peer's address in curve connections"],
  ["cookiesIssued", "cookies_issued", "Cookies issued to clients that ask for a curve connection"],
  [
    "cookiesRefused",
    "cookies_refused",
    "Cookies of the curve transport refused as forged, expired or foreign",
  ],
  [
    "initsRefused",
    "handshakes_refused",
    "Handshakes of the curve transport with a good cookie that were forged, or exceeded the quota of one address",
  ],
  ["passed", "passed_datagrams", "Datagrams of the curve transport passed to the worker that they are for"],
] as const).map(([of, name, help]) => ({
  of,
  name: `sallyport_curve_${name}_total`,
  type: "counter",
  help,
  labels: [],
}));

const ROUND_TRIP: MetricInfo = {
  name: "sallyport_curve_round_trip_seconds",
  type: "gauge",
  help:
    "Round-trip times of curve sessions: the minimum over all (min), and the means of their latest (last) and smoothed values",
  labels: ["stat"],
};
const WINDOW: MetricInfo = {
  name: "sallyport_curve_window_bytes",
  type: "gauge",
  help: "Sum of the congestion windows of all curve sessions",
  labels: [],
};
const IN_FLIGHT: MetricInfo = {
  name: "sallyport_curve_in_flight_bytes",
  type: "gauge",
  help: "Bytes in flight of all curve sessions together",
  labels: [],
};

/** Every metric that {@link CurveMetrics} writes. */
export const CURVE_METRICS: readonly MetricInfo[] = [
  ...COUNTERS.map(({ name, type, help, labels }) => ({ name, type, help, labels })),
  ROUND_TRIP,
  WINDOW,
  IN_FLIGHT,
];

/** Adds each of `counts` to `sums`. */
function addCounts(sums: Map<keyof CurveCounts, number>, counts: CurveCounts): void {
  for (const { of } of COUNTERS) sums.set(of, (sums.get(of) ?? 0) + counts[of]);
}

/** Sums the sources of a process: listening sockets, agents. */
export class CurveMetrics {
  readonly #sources = new Set<CurveSource>();
  /** Final counts of the sources that have been removed. */
  readonly #gone = new Map<keyof CurveCounts, number>();
  #scraped: { readonly counts: Map<keyof CurveCounts, number>; readonly states: CurveState[] } | undefined;

  constructor(registry: Registry) {
    for (const info of COUNTERS) {
      const sum = () => this.#scrape().counts.get(info.of) ?? 0;
      new Counter({
        ...metricConfig(info, registry),
        collect() {
          this.reset();
          this.inc(sum());
        },
      });
    }
    const states = () => this.#scrape().states;
    new Gauge({
      ...metricConfig(ROUND_TRIP, registry),
      collect() {
        this.reset();
        const all = states().filter(({ rttMinMs }) => rttMinMs > 0);
        if (all.length === 0) return;
        const mean = (of: "rttLastMs" | "rttSmoothedMs") =>
          all.reduce((sum, state) => sum + state[of], 0) / all.length / 1000;
        this.set({ stat: "last" }, mean("rttLastMs"));
        this.set(
          { stat: "min" },
          all.reduce((least, { rttMinMs }) => Math.min(least, rttMinMs), Infinity) / 1000,
        );
        this.set({ stat: "smoothed" }, mean("rttSmoothedMs"));
      },
    });
    for (const [info, of] of [[WINDOW, "windowBytes"], [IN_FLIGHT, "inFlightBytes"]] as const) {
      new Gauge({
        ...metricConfig(info, registry),
        collect() {
          this.set(states().reduce((sum, state) => sum + state[of], 0));
        },
      });
    }
  }

  /** Adds a source. The returned function removes it and keeps its counts. */
  add(source: CurveSource): () => void {
    this.#sources.add(source);
    return () => {
      if (!this.#sources.delete(source)) return;
      addCounts(this.#gone, source.counts());
    };
  }

  /** What the sources have now. All metrics are collected in one turn, and share one pass over the connections. */
  #scrape(): {
    readonly counts: ReadonlyMap<keyof CurveCounts, number>;
    readonly states: readonly CurveState[];
  } {
    if (this.#scraped !== undefined) return this.#scraped;
    const counts = new Map(this.#gone);
    const states: CurveState[] = [];
    for (const source of this.#sources) {
      addCounts(counts, source.counts());
      for (const state of source.gauges()) states.push(state);
    }
    queueMicrotask(() => this.#scraped = undefined);
    return this.#scraped = { counts, states };
  }
}

/** The counters of a listening socket and of all its connections, past and present. */
export function curveListenerSource(listener: CurveListener): CurveSource {
  return {
    counts: () => {
      const { cookiesIssued, cookiesRefused, initsRefused, passed } = listener.stats;
      return { ...listener.totals(), cookiesIssued, cookiesRefused, initsRefused, passed };
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

  /** A session has opened. */
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
    return { ...sum, cookiesIssued: 0, cookiesRefused: 0, initsRefused: 0, passed: 0 };
  }

  *gauges(): Iterable<CurveSession["gauges"]> {
    this.#settle();
    for (const { gauges } of this.#sessions) yield gauges;
  }
}
