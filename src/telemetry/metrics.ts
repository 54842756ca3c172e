/**
 * Metrics in Prometheus' text format. Each {@link Metrics} has its own registry, so several edges fit in one process;
 * data paths update plain numbers, which are read on each scrape.
 *
 * @module
 */

import type { MemoryBudget } from "../bytes/memory_budget.ts";
import process from "node:process";
import { AggregatorRegistry, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Boundary, ErrorCode } from "../errors.ts";
import type { Clock, Descriptors, Timer } from "../runtime/port.ts";
import { VERSION } from "../version.ts";

/** A metric as listed in the documentation. */
export interface MetricInfo {
  /** Its Prometheus name. */
  readonly name: string;
  /** Its type. */
  readonly type: "counter" | "gauge" | "histogram";
  /** Its description, one sentence. */
  readonly help: string;
  /** The names of its labels. */
  readonly labels: readonly string[];
}

/** A metric whose labels' names are known to the type checker. */
interface LabelledMetric<Label extends string> extends MetricInfo {
  readonly labels: readonly Label[];
}

/** The configuration with which prom-client creates a metric in a registry. */
export function metricConfig<Label extends string>(
  { name, help, labels }: LabelledMetric<Label>,
  registry: Registry,
): {
  readonly name: string;
  readonly help: string;
  readonly labelNames: readonly Label[];
  readonly registers: Registry[];
} {
  return { name, help, labelNames: labels, registers: [registry] };
}

/** A metric with its values, as returned by prom-client. */
export interface MeasuredMetric {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly values: readonly {
    readonly value: number;
    readonly labels: Readonly<Record<string, string | number>>;
    /** For histograms: the series of the value, `NAME_bucket`, `NAME_sum` or `NAME_count`. */
    readonly metricName?: string;
  }[];
}

const SESSION_LABELS = ["protocol_version", "cipher", "transport"] as const;

const INFO = {
  sessions: {
    name: "sallyport_sessions",
    type: "gauge",
    help: "Sessions that are open",
    labels: SESSION_LABELS,
  },
  handshakes: {
    name: "sallyport_handshakes_total",
    type: "counter",
    help: "Handshakes that led to a session",
    labels: SESSION_LABELS,
  },
  transportAttempts: {
    name: "sallyport_transport_attempts_total",
    type: "counter",
    help:
      "An agent's attempts to open a session, by transport and outcome (won, failed; lost to a faster one)",
    labels: ["transport", "outcome"],
  },
  sessionEnds: {
    name: "sallyport_session_ends_total",
    type: "counter",
    help: "Sessions that ended, by reason (an error code; closed is an orderly end)",
    labels: ["reason"],
  },
  streams: {
    name: "sallyport_streams",
    type: "gauge",
    help: "Visitors' streams that are open",
    labels: [],
  },
  streamsTotal: {
    name: "sallyport_streams_total",
    type: "counter",
    help: "Visitors' streams opened",
    labels: [],
  },
  forwarded: {
    name: "sallyport_forwarded_visitors_total",
    type: "counter",
    help:
      "Visitors that were forwarded between nodes of a cluster, by direction (out to another node, in from one)",
    labels: ["direction"],
  },
  clusterNodes: {
    name: "sallyport_cluster_nodes",
    type: "gauge",
    help: "Live nodes of the cluster known to this edge, including itself",
    labels: [],
  },
  clusterLinks: {
    name: "sallyport_cluster_links",
    type: "gauge",
    help: "Links to and from other nodes of the cluster",
    labels: [],
  },
  directoryUp: {
    name: "sallyport_cluster_directory_up",
    type: "gauge",
    help: "1 if the cluster's directory answered the last request, otherwise 0",
    labels: [],
  },
  publicPorts: {
    name: "sallyport_public_ports",
    type: "gauge",
    help: "Public TCP ports that agents hold",
    labels: [],
  },
  bytes: {
    name: "sallyport_bytes_total",
    type: "counter",
    help: "Payload bytes carried, by direction (to_agent, to_visitor)",
    labels: ["direction"],
  },
  refusals: {
    name: "sallyport_refusals_total",
    type: "counter",
    help:
      "Refusals, by what was refused (visitor, agent, connection, stream, public port) and reason (an error code)",
    labels: ["what", "reason"],
  },
  internalErrors: {
    name: "sallyport_internal_errors_total",
    type: "counter",
    help:
      "Faults of this program or of an embedder's callback, by the boundary that caught them; the log has the stack",
    labels: ["where"],
  },
  tokensIssued: {
    name: "sallyport_tokens_issued_total",
    type: "counter",
    help: "Tokens that the session master issued",
    labels: ["protocol_version", "cipher"],
  },
  masterRequests: {
    name: "sallyport_master_requests_total",
    type: "counter",
    help: "Requests that the session master answered, by route (its path, or other) and status",
    labels: ["route", "status"],
  },
  webhookAttempts: {
    name: "sallyport_webhook_attempts_total",
    type: "counter",
    help: "Attempts to deliver an event to a webhook, by outcome (delivered, retried, failed for good)",
    labels: ["outcome"],
  },
  pipeTransfers: {
    name: "sallyport_pipe_transfers_total",
    type: "counter",
    help: "Transfers by pipe send that reached the edge, by outcome (received, failed, too_large, refused)",
    labels: ["outcome"],
  },
  loopDelay: {
    name: "sallyport_loop_delay_seconds",
    type: "histogram",
    help: "Delay of a timer, set twice a second, beyond the requested time",
    labels: [],
  },
  buildInfo: {
    name: "sallyport_build_info",
    type: "gauge",
    help: "Always 1; the labels are the versions of this program and its runtime",
    labels: ["version", "runtime", "runtime_version"],
  },
  lostLines: {
    name: "sallyport_log_lines_lost_total",
    type: "counter",
    help: "Lines of output that were lost because they weren't read or couldn't be written",
    labels: [],
  },
  acceptPauses: {
    name: "sallyport_accept_paused_total",
    type: "counter",
    help: "Times that accepting connections was paused because file descriptors were running out",
    labels: [],
  },
  openFiles: {
    name: "process_open_fds",
    type: "gauge",
    help: "Open file descriptors; 0 if the system doesn't report them",
    labels: [],
  },
  maxFiles: {
    name: "process_max_fds",
    type: "gauge",
    help: "Maximum number of open file descriptors; 0 if the system doesn't report it",
    labels: [],
  },
  heldBytes: {
    name: "sallyport_memory_held_bytes",
    type: "gauge",
    help: "Bytes queued in streams, sockets and buffers",
    labels: [],
  },
  heldBytesMax: {
    name: "sallyport_memory_held_bytes_max",
    type: "gauge",
    help: "Limit for queued bytes, beyond which the fullest stream is reset; 0 for no limit",
    labels: [],
  },
  memoryEvictions: {
    name: "sallyport_memory_evictions_total",
    type: "counter",
    help: "Streams that were reset because queued bytes exceeded the limit and theirs were the most",
    labels: [],
  },
  memory: {
    name: "process_resident_memory_bytes",
    type: "gauge",
    help: "Resident memory of the process",
    labels: [],
  },
  started: {
    name: "process_start_time_seconds",
    type: "gauge",
    help: "When the process started, in seconds since 1970",
    labels: [],
  },
} as const satisfies Record<string, MetricInfo>;

/** The metrics of every {@link Metrics}; modules add theirs with {@link Metrics.group}. */
export const METRICS: readonly MetricInfo[] = Object.values(INFO);

/** Interval at which the event loop's delay is measured. */
const LOOP_DELAY_INTERVAL_MS = 500;
const LOOP_DELAY_BUCKETS_S = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];

/** Labels of sessions in metrics; few values each, none of them chosen by a peer. */
export interface SessionLabels {
  /** SniTun's version; undefined, and an empty label, for other transports. */
  readonly protocolVersion: number | undefined;
  /** `aes-cbc`, `aes-gcm`, `aes-gcm-siv`. */
  readonly cipher: string;
  /** `snitun`, `sealed`, `curve` or `quic`. */
  readonly transport: string;
}

/** What can be refused: a visitor, an agent, an unidentified connection, a stream inside a session, a public port. */
export type Refusable = "visitor" | "agent" | "connection" | "stream" | "port";

/** A class of metrics defined by a transport or another module; see {@link Metrics.group}. */
export type MetricGroup<Group> = new (registry: Registry) => Group;

/** Options of {@link Metrics}; `runtime` is reported in `sallyport_build_info`. */
export interface MetricsOptions {
  /** Its name and version, and its count of file descriptors. */
  readonly runtime?: {
    readonly name: string;
    readonly version: string;
    readonly descriptors?: Pick<Descriptors, "limit" | "acceptPauses" | "open">;
    readonly memory?: Pick<MemoryBudget, "heldBytes" | "limitBytes" | "evictions">;
  };
  /** Returns the number of lost output lines. */
  readonly lostLines?: () => number;
}

function sessionLabels(labels: SessionLabels): Record<(typeof SESSION_LABELS)[number], string> {
  return {
    protocol_version: labels.protocolVersion === undefined ? "" : String(labels.protocolVersion),
    cipher: labels.cipher,
    transport: labels.transport,
  };
}

/**
 * The counters of one process. {@link METRICS} lists the resulting metrics.
 *
 * @example
 * ```ts
 * const metrics = new Metrics({ runtime });
 * metrics.bytesToAgent += chunk.length;
 * metrics.refused("agent", "token_expired");
 * const text = await metrics.render();
 * ```
 */
export class Metrics {
  /** Payload bytes from visitors towards agents; incremented by data paths. */
  bytesToAgent = 0;
  /** Payload bytes from agents towards visitors; incremented by data paths. */
  bytesToVisitor = 0;
  /** Streams that are open now. */
  streamsOpen = 0;
  /** Public ports that are open now. */
  publicPorts = 0;
  /** Total number of streams opened. */
  streamsTotal = 0;
  /** The content type of the response to a scrape. */
  readonly contentType: string;

  readonly #registry = new Registry();
  readonly #groups = new Map<MetricGroup<unknown>, unknown>();
  #others: (() => Promise<readonly unknown[]>) | undefined;
  readonly #sessions: Gauge<(typeof SESSION_LABELS)[number]>;
  readonly #handshakes: Counter<(typeof SESSION_LABELS)[number]>;
  readonly #transportAttempts: Counter<"transport" | "outcome">;
  readonly #sessionEnds: Counter<"reason">;
  readonly #refusals: Counter<"what" | "reason">;
  readonly #forwarded: Counter;
  readonly #internalErrors: Counter<"where">;
  readonly #pipeTransfers: Counter<"outcome">;
  readonly #tokensIssued: Counter<"protocol_version" | "cipher">;
  readonly #masterRequests: Counter<"route" | "status">;
  readonly #webhookAttempts: Counter<"outcome">;
  readonly #loopDelay: Histogram;

  /** Creates a separate registry; nothing is measured yet. */
  constructor(options: MetricsOptions = {}) {
    const { runtime, lostLines = () => 0 } = options;
    this.contentType = this.#registry.contentType;
    const config = <Label extends string>(info: LabelledMetric<Label>) => metricConfig(info, this.#registry);
    this.#sessions = new Gauge(config(INFO.sessions));
    this.#handshakes = new Counter(config(INFO.handshakes));
    this.#transportAttempts = new Counter(config(INFO.transportAttempts));
    this.#sessionEnds = new Counter(config(INFO.sessionEnds));
    this.#refusals = new Counter(config(INFO.refusals));
    this.#forwarded = new Counter(config(INFO.forwarded));
    this.#internalErrors = new Counter(config(INFO.internalErrors));
    this.#pipeTransfers = new Counter(config(INFO.pipeTransfers));
    this.#tokensIssued = new Counter(config(INFO.tokensIssued));
    this.#masterRequests = new Counter(config(INFO.masterRequests));
    this.#webhookAttempts = new Counter(config(INFO.webhookAttempts));
    this.#loopDelay = new Histogram({ ...config(INFO.loopDelay), buckets: LOOP_DELAY_BUCKETS_S });

    this.#readGauge(INFO.streams, () => this.streamsOpen);
    this.#readGauge(INFO.publicPorts, () => this.publicPorts);
    this.#readCounter(INFO.streamsTotal, () => this.streamsTotal);
    const bytes = () => [this.bytesToAgent, this.bytesToVisitor];
    new Counter({
      ...config(INFO.bytes),
      collect() {
        const [toAgent, toVisitor] = bytes();
        this.reset();
        this.inc({ direction: "to_agent" }, toAgent);
        this.inc({ direction: "to_visitor" }, toVisitor);
      },
    });

    new Gauge({ ...config(INFO.buildInfo), aggregator: "first" }).set({
      version: VERSION,
      runtime: runtime?.name ?? "unknown",
      runtime_version: runtime?.version ?? "unknown",
    }, 1);
    new Gauge({ ...config(INFO.started), aggregator: "min" }).set(
      Math.round(Date.now() / 1000 - process.uptime()),
    );
    this.#readCounter(INFO.lostLines, lostLines);
    this.#readGauge(INFO.memory, () => process.memoryUsage().rss);
    const { descriptors, memory } = runtime ?? {};
    new Gauge(config(INFO.maxFiles)).set(descriptors?.limit ?? 0);
    this.#readGauge(INFO.openFiles, () => descriptors?.open() ?? 0);
    this.#readCounter(INFO.acceptPauses, () => descriptors?.acceptPauses ?? 0);
    this.#readGauge(INFO.heldBytes, () => memory?.heldBytes ?? 0);
    this.#readGauge(
      INFO.heldBytesMax,
      () => memory === undefined || memory.limitBytes === Infinity ? 0 : memory.limitBytes,
    );
    this.#readCounter(INFO.memoryEvictions, () => memory?.evictions ?? 0);
  }

  /** Registers a gauge whose value is read at each scrape. */
  #readGauge(info: LabelledMetric<never>, read: () => number): void {
    new Gauge({
      ...metricConfig(info, this.#registry),
      collect() {
        this.set(read());
      },
    });
  }

  /** Registers a counter whose value is read at each scrape. */
  #readCounter(info: LabelledMetric<never>, read: () => number): void {
    new Counter({
      ...metricConfig(info, this.#registry),
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }

  /** The metrics of one module, in this registry from the first call on. */
  group<Group>(Kind: MetricGroup<Group>): Group {
    let group = this.#groups.get(Kind) as Group | undefined;
    if (group === undefined) {
      group = new Kind(this.#registry);
      this.#groups.set(Kind, group);
    }
    return group;
  }

  /** Counts a session opened by a handshake. */
  sessionOpened(labels: SessionLabels): void {
    const named = sessionLabels(labels);
    this.#sessions.inc(named);
    this.#handshakes.inc(named);
  }

  /**
   * Counts the end of a session counted by `sessionOpened`, with the same labels; see `sessionEnded` for the reason.
   */
  sessionClosed(labels: SessionLabels): void {
    this.#sessions.dec(sessionLabels(labels));
  }

  /** Counts the outcome of an agent's attempt to open a session: it won, it failed, or another transport was faster. */
  transportAttempted(transport: string, outcome: "won" | "failed" | "lost"): void {
    this.#transportAttempts.inc({ transport, outcome });
  }

  /** Counts the end of a session by reason; `closed` is an orderly end. */
  sessionEnded(reason: ErrorCode): void {
    this.#sessionEnds.inc({ reason });
  }

  /** Counts the start of a visitor's stream. */
  streamOpened(): void {
    this.streamsOpen++;
    this.streamsTotal++;
  }

  /** Counts the end of a visitor's stream. */
  streamClosed(): void {
    this.streamsOpen--;
  }

  /** Counts a public port granted to an agent. */
  publicPortOpened(): void {
    this.publicPorts++;
  }

  /** Counts a public port that was released or revoked. */
  publicPortClosed(): void {
    this.publicPorts--;
  }

  /** Measures a cluster from now on; `state` returns this process's view of it. */
  watchCluster(
    state: () => { readonly size: number; readonly links: number; readonly directoryAnswers: boolean },
  ): void {
    const gauge = (info: MetricInfo, aggregator: "max" | "sum" | "min", value: () => number) =>
      new Gauge({
        ...metricConfig(info, this.#registry),
        aggregator,
        collect() {
          this.set(value());
        },
      });
    gauge(INFO.clusterNodes, "max", () => state().size);
    gauge(INFO.clusterLinks, "sum", () => state().links);
    gauge(INFO.directoryUp, "min", () => state().directoryAnswers ? 1 : 0);
  }

  /** Counts a visitor forwarded to or from another node of the cluster. */
  visitorForwarded(direction: "in" | "out"): void {
    this.#forwarded.inc({ direction });
  }

  /** Counts a refusal before service. */
  refused(what: Refusable, reason: ErrorCode): void {
    this.#refusals.inc({ what, reason });
  }

  /** Counts an internal fault caught by a boundary; `reportFault` calls it. */
  internalError(where: Boundary): void {
    this.#internalErrors.inc({ where });
  }

  /** Counts a transfer of version 1 at the edge. */
  pipeTransfer(outcome: "received" | "failed" | "too_large" | "refused"): void {
    this.#pipeTransfers.inc({ outcome });
  }

  /** Counts a token issued by the session master. */
  tokenIssued(protocolVersion: number, cipher: string): void {
    this.#tokensIssued.inc({ protocol_version: String(protocolVersion), cipher });
  }

  /** Counts a response of the session master. `route` is one of its own paths or `other`, never the client's input. */
  masterRequest(route: string, status: number): void {
    this.#masterRequests.inc({ route, status: String(status) });
  }

  /** Counts the outcome of an attempt to send to a webhook. */
  webhookAttempt(outcome: "delivered" | "retried" | "failed"): void {
    this.#webhookAttempts.inc({ outcome });
  }

  /**
   * Measures the delay of the event loop, by the drift of a timer twice a second, until the returned timer is
   * cancelled. The same on every runtime, unlike `perf_hooks`.
   */
  startLoopDelay(clock: Clock): Timer {
    let cancelled = false;
    let timer: Timer;
    const measure = (dueMs: number) => {
      if (cancelled) return;
      this.#loopDelay.observe(Math.max(0, clock.nowMs() - dueMs) / 1000);
      next();
    };
    const next = () => {
      const dueMs = clock.nowMs() + LOOP_DELAY_INTERVAL_MS;
      timer = clock.after(LOOP_DELAY_INTERVAL_MS, () => measure(dueMs));
    };
    next();
    return {
      cancel: () => {
        cancelled = true;
        timer.cancel();
      },
    };
  }

  /** All metrics in Prometheus' text format, version 0.0.4. */
  async render(): Promise<string> {
    return await (await this.#whole()).metrics();
  }

  /** All metrics as data. */
  async collect(): Promise<readonly MeasuredMetric[]> {
    return await (await this.#whole()).getMetricsAsJSON() as unknown as readonly MeasuredMetric[];
  }

  async #whole(): Promise<Pick<Registry, "metrics" | "getMetricsAsJSON">> {
    if (this.#others === undefined) return this.#registry;
    return AggregatorRegistry.aggregate([await this.measured(), ...await this.#others()] as object[]);
  }

  /** All measurements, as data for {@link addOthers} in another process. */
  measured(): Promise<unknown> {
    return this.#registry.getMetricsAsJSON();
  }

  /** From now on {@link render} includes the sums over other processes: `others` returns their `measured()`. */
  addOthers(others: () => Promise<readonly unknown[]>): void {
    this.#others = others;
  }
}
