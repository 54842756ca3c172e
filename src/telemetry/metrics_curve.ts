/**
 * The metrics of the curve transport: sums over all of a process's connections, read when somebody scrapes.
 *
 * @module
 */
import { Counter, Gauge, type Registry } from "prom-client";
import type { MetricInfo } from "./metrics.ts";

/** Counters of connections, past and present; plain numbers that only rise. */
export interface CurveCounts {
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
}

/** How one connection does now. */
export interface CurveState {
  readonly rttLastMs: number;
  readonly rttMinMs: number;
  readonly rttSmoothedMs: number;
  readonly windowBytes: number;
  readonly inFlightBytes: number;
}

/** Something with connections. */
export interface CurveSource {
  counts(): CurveCounts;
  gauges(): Iterable<CurveState>;
}

const COUNTERS: readonly (MetricInfo & { readonly of: keyof CurveCounts })[] = ([
  ["packetsSent", "packets_sent", "Packets sent in curve connections"],
  ["packetsReceived", "packets_received", "Genuine packets received in curve connections"],
  ["packetsLost", "packets_lost", "Packets of curve connections given up as lost"],
  ["bytesResent", "resent_bytes", "Bytes of streams sent more than once in curve connections"],
  ["duplicates", "duplicates", "Pieces of streams that brought nothing new in curve connections"],
  ["reordered", "reordered", "Packets of curve connections that came behind a later one"],
  ["replays", "replays", "Packets of curve connections whose number was seen before or is too old"],
  ["forgeries", "forgeries", "Packets for curve connections that didn't decrypt"],
  ["pathMoves", "path_moves", "Changes of a peer's address in curve connections"],
  ["cookiesIssued", "cookies_issued", "Cookies issued to whoever wants a curve connection"],
  [
    "cookiesRefused",
    "cookies_refused",
    "Cookies of the curve transport that were forged, expired or foreign",
  ],
  [
    "initsRefused",
    "handshakes_refused",
    "Handshakes of the curve transport with a good cookie that weren't genuine, or beyond what one address may have",
  ],
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
  help: "Round trips of curve sessions: the least of any (min), and means of their last and smoothed ones",
  labels: ["stat"],
};
const WINDOW: MetricInfo = {
  name: "sallyport_curve_window_bytes",
  type: "gauge",
  help: "Congestion windows of all curve sessions together",
  labels: [],
};
const IN_FLIGHT: MetricInfo = {
  name: "sallyport_curve_in_flight_bytes",
  type: "gauge",
  help: "Bytes of all curve sessions that are on their way",
  labels: [],
};

/** Every metric that {@link CurveMetrics} writes. */
export const CURVE_METRICS: readonly MetricInfo[] = [
  ...COUNTERS.map(({ name, type, help, labels }) => ({ name, type, help, labels })),
  ROUND_TRIP,
  WINDOW,
  IN_FLIGHT,
];

/** The sources of a process's curve metrics. */
export class CurveMetrics {
  readonly #sources = new Set<CurveSource>();
  /** What sources that are gone had counted. */
  readonly #gone = new Map<keyof CurveCounts, number>();

  constructor(registry: Registry) {
    const registers = [registry];
    for (const { of, name, help } of COUNTERS) {
      const sum = () => this.#sum(of);
      new Counter({
        name,
        help,
        registers,
        collect() {
          this.reset();
          this.inc(sum());
        },
      });
    }
    const states = () => this.#states();
    const { name, help } = ROUND_TRIP;
    new Gauge({
      name,
      help,
      labelNames: ["stat"],
      registers,
      collect() {
        this.reset();
        const all = states().filter(({ rttMinMs }) => rttMinMs > 0);
        if (all.length === 0) return;
        const mean = (of: "rttLastMs" | "rttSmoothedMs") =>
          all.reduce((sum, state) => sum + state[of], 0) / all.length / 1000;
        this.set({ stat: "last" }, mean("rttLastMs"));
        this.set({ stat: "min" }, Math.min(...all.map(({ rttMinMs }) => rttMinMs)) / 1000);
        this.set({ stat: "smoothed" }, mean("rttSmoothedMs"));
      },
    });
    for (const [info, of] of [[WINDOW, "windowBytes"], [IN_FLIGHT, "inFlightBytes"]] as const) {
      new Gauge({
        name: info.name,
        help: info.help,
        registers,
        collect() {
          this.set(states().reduce((sum, state) => sum + state[of], 0));
        },
      });
    }
  }

  /** Counts a source in; the answer lets it go, and keeps what it has counted. */
  add(source: CurveSource): () => void {
    this.#sources.add(source);
    return () => {
      if (!this.#sources.delete(source)) return;
      const counts = source.counts();
      for (const { of } of COUNTERS) this.#gone.set(of, (this.#gone.get(of) ?? 0) + counts[of]);
    };
  }

  #states(): CurveState[] {
    return [...this.#sources].flatMap((source) => [...source.gauges()]);
  }

  #sum(of: keyof CurveCounts): number {
    let sum = this.#gone.get(of) ?? 0;
    for (const source of this.#sources) sum += source.counts()[of];
    return sum;
  }
}
