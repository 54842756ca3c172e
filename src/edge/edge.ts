/**
 * The edge: the public node to which agents and visitors connect.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { FernetRing } from "../crypto/fernet.ts";
import { SallyportError } from "../errors.ts";
import type { EdgeContext, EdgeTransport } from "../transport/edge_transport.ts";
import { snitunTransport } from "../transport/snitun/edge.ts";
import type { NetworkSet } from "../wire/ip/networks.ts";
import type { Address, Conn, Listener, Runtime, Timer } from "../runtime/port.ts";
import { reportFault } from "../telemetry/faults.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import { LogSampler } from "../telemetry/log_sampler.ts";
import { Metrics } from "../telemetry/metrics.ts";
import type { Tracer } from "../telemetry/tracing.ts";
import type { Session } from "../transport/port.ts";
import type { Tunnel } from "../tunnel/tunnel.ts";
import type { EdgeCluster } from "./cluster.ts";
import type { Authorize, EdgeTunnels } from "./agent_request.ts";
import { AgentRegistry } from "./agents.ts";
import { EdgeLedger } from "./ledger/ledger.ts";
import { PendingBudgets } from "./pending_budgets.ts";
import { type Accepts, ProtocolDetector, type ProtocolDetectorOptions } from "./protocol_detector.ts";
import { publicPorts, type PublicPortsOptions } from "./public_ports.ts";
import type { KeyUseStore } from "./used_keys.ts";
import { tracedAdmission } from "./traced_admission.ts";
import { Visitors } from "./visitors.ts";
import { SHUTDOWN_GRACE_MS } from "../transport/port.ts";
import { FIRST_BYTE_DEADLINE_MS, idleTicks, VISITOR_IDLE_TIMEOUT_MS } from "../transport/splice.ts";
import { StreamShares } from "../transport/stream_shares.ts";

/** A session whose token has expired is detected within this time. */
export const TOKEN_RECHECK_MS = 5_000;

/** Refusals of one kind that are logged individually per LOG_SAMPLE_INTERVAL_MS; further ones are counted. */
const LOGGED_REFUSALS = 10;

/** Options of {@link createEdge}. */
export interface EdgeOptions {
  /** The runtime. */
  readonly runtime: Runtime;
  /** The keys with which the session master makes tokens. */
  readonly ring: FernetRing;
  /** Logger. Defaults to no logging. */
  readonly log?: Logger;
  /** Metrics registry. Defaults to a new one. */
  readonly metrics?: Metrics;
  /** Tracer for agents' admissions and visitors' connections. Defaults to no tracing. */
  readonly tracer?: Tracer;
  /** Admission hook, called for an agent whose token is valid. */
  readonly authorize?: Authorize;
  /** Agents' limits and usage, connected to a session master by a {@link LedgerReporter}. Defaults to a new ledger. */
  readonly ledger?: EdgeLedger;
  /**
   * Transports for agents, such as {@link snitunTransport} and {@link sealedTransport}. Defaults to SniTun alone. On a
   * shared TCP port they are tried in this order.
   */
  readonly transports?: readonly EdgeTransport[];
  /** Lets agents send requests to the edge, and the edge to its agents. Requests are refused when absent. */
  readonly tunnels?: EdgeTunnels;
  /** The other nodes of the edge's cluster, if any: visitors of names they hold are forwarded to them. */
  readonly cluster?: EdgeCluster;
  /** Public TCP ports for agents whose token allows them. Defaults to none. */
  readonly publish?: PublicPortsOptions;
  /** Peers from these networks are trusted proxies and must send a PROXY header. It is refused from any other peer. */
  readonly proxyProtocolFrom?: NetworkSet;
  /** A visitor with no traffic in either direction is disconnected after this time. Defaults to an hour. */
  readonly idleTimeoutMs?: number;
  /** A visitor is disconnected if its endpoint hasn't sent a byte within this time. Defaults to 20 s; 0 disables it. */
  readonly answerTimeoutMs?: number;
  /**
   * Limit on streams from one source to one name, and on its connections to one public port. Defaults to 256; 0
   * disables it.
   */
  readonly streamsPerSource?: number;
  /** Record of used tokens, shared by edges with the same Fernet keys. Defaults to a record per edge. */
  readonly keyUses?: KeyUseStore;
}

/** Options of {@link Edge.listen}. */
export interface EdgeListenOptions {
  /** An IP address; `::` and `0.0.0.0` mean all interfaces. */
  readonly host: string;
  /** Port number; 0 picks any free port. */
  readonly port: number;
  /**
   * One TCP port for all connections, distinguished by the first byte (the default), or for one kind only: visitors,
   * agents, or the agents of one of the edge's transports, over TCP or UDP depending on the transport.
   */
  readonly accepts?: Accepts;
  /** Lets several processes share a TCP port (SO_REUSEPORT): the workers of one machine. */
  readonly reusePort?: boolean;
  /** File descriptor of a TCP socket that already listens, to accept on instead; host and port are then ignored. */
  readonly descriptor?: number;
}

/** A running edge. */
export interface Edge {
  /** Its metrics registry. */
  readonly metrics: Metrics;
  /** Number of agent sessions. */
  readonly sessions: number;
  /** Addresses it listens on. */
  readonly addresses: readonly Address[];
  /**
   * Opens a listener; may be called several times. Rejects with the errors of `Runtime.listen` or the transport, and
   * with `config_invalid` for a transport that the edge doesn't have.
   */
  listen(options: EdgeListenOptions): Promise<Listener>;
  /** The session of this edge that serves a canonical name, regardless of the other nodes of its cluster. */
  session(hostname: string): Session | undefined;
  /** Number of streams per source, for visitors who arrive through another node of the cluster. */
  readonly shares: StreamShares;
  /** Whether an agent serves this canonical name now. */
  serves(hostname: string): boolean;
  /** The tunnel to the agent that serves this canonical name, if {@link EdgeOptions.tunnels} has a router for it. */
  tunnel(hostname: string): Tunnel | undefined;
  /** Stops accepting, gives streams `graceMs` to finish, and closes the rest. */
  close(graceMs?: number): Promise<void>;
}

/**
 * Creates an edge. It doesn't listen until {@link Edge.listen} is called.
 *
 * @example
 * ```ts
 * const edge = createEdge({ runtime: await currentRuntime(), ring: new FernetRing([key]) });
 * await edge.listen({ host: "0.0.0.0", port: 8443 });
 * ```
 */
export function createEdge(options: EdgeOptions): Edge {
  return new EdgeNode(options);
}

/** Values of `accepts` for a TCP port shared by several kinds. */
const SHARED_PORTS: readonly Accepts[] = ["both", "agents", "visitors"];

/** A transport, and its host object at this edge. */
interface HostedTransport {
  readonly transport: EdgeTransport;
  readonly context: EdgeContext;
}

class EdgeNode implements Edge {
  readonly metrics: Metrics;
  readonly shares: StreamShares;
  readonly #runtime: Runtime;
  readonly #log: Logger;
  readonly #proxies: NetworkSet | undefined;
  readonly #agents: AgentRegistry;
  readonly #transports: readonly HostedTransport[];
  /** Listeners whose socket also carries their sessions. */
  readonly #ownSockets = new Set<Listener>();
  readonly #listeners = new Set<Listener>();
  readonly #pending: PendingBudgets;
  readonly #visitors: Visitors;
  readonly #sampler: LogSampler;
  #sweep: Timer | undefined;
  /** Whether it has stopped listening. */
  #closed = false;
  /** Whether it refuses everyone, including pending connections. */
  #refusing = false;

  constructor(options: EdgeOptions) {
    this.#runtime = options.runtime;
    this.#log = options.log ?? silentLogger;
    this.#proxies = options.proxyProtocolFrom;
    this.metrics = options.metrics ?? new Metrics({ runtime: options.runtime });
    const { clock } = options.runtime;
    const shares = this.shares = new StreamShares(options.streamsPerSource);
    this.#pending = new PendingBudgets(clock);
    this.#sampler = new LogSampler({ log: this.#log, clock, burst: LOGGED_REFUSALS });
    const { cluster } = options;
    this.#agents = new AgentRegistry({
      cluster,
      clock,
      ring: options.ring,
      log: this.#log,
      sampler: this.#sampler,
      metrics: this.metrics,
      authorize: options.authorize,
      ledger: options.ledger ?? new EdgeLedger({ clock: options.runtime.clock, ring: options.ring }),
      tunnels: options.publish === undefined ? options.tunnels : publicPorts({
        ...options.publish,
        runtime: this.#runtime,
        log: this.#log,
        metrics: this.metrics,
        shares,
        proxies: this.#proxies,
      }, options.tunnels),
      keyUses: options.keyUses,
    });
    this.#transports = (options.transports ?? [snitunTransport()]).map((transport) => ({
      transport,
      context: {
        runtime: options.runtime,
        metrics: this.metrics,
        admission: tracedAdmission(
          this.#agents.admission(transport.name),
          options.tracer,
          transport.name,
        ),
      },
    }));
    this.#visitors = new Visitors({
      clock,
      memory: options.runtime.memory,
      log: this.#log,
      sampler: this.#sampler,
      metrics: this.metrics,
      ...options.tracer === undefined ? {} : { tracer: options.tracer },
      shares,
      answerTimeoutMs: options.answerTimeoutMs ?? FIRST_BYTE_DEADLINE_MS,
      idleTicks: idleTicks(options.idleTimeoutMs ?? VISITOR_IDLE_TIMEOUT_MS),
      find: (name) => this.#agents.find(name) ?? cluster?.find(name),
      sharing: (name) => this.#agents.sharing(name),
      stale: (name) => cluster?.stale(name),
    });
  }

  get sessions(): number {
    return this.#agents.sessions;
  }

  get addresses(): readonly Address[] {
    return [...this.#listeners].map((listener) => listener.address);
  }

  session(hostname: string): Session | undefined {
    return this.#agents.find(hostname);
  }

  serves(hostname: string): boolean {
    return this.#agents.find(hostname) !== undefined;
  }

  tunnel(hostname: string): Tunnel | undefined {
    return this.#agents.findTunnel(hostname);
  }

  async listen(options: EdgeListenOptions): Promise<Listener> {
    const { host, port, accepts = "both", reusePort = false, descriptor } = options;
    const alone = this.#transports.find(({ transport }) => transport.name === accepts);
    if (alone === undefined && !SHARED_PORTS.includes(accepts)) {
      const why = `the edge has no such transport, only ${this.#names.join(", ")}`;
      throw new SallyportError("config_invalid", `Cannot listen for ${accepts} agents: ${why}`, {
        side: "config",
      });
    }
    const own = alone?.transport.listen?.({ host, port }, alone.context);
    const detector = this.#detectorOptions(accepts, alone);
    const opened = await (own ?? this.#runtime.listen({
      host,
      port,
      reusePort,
      peerSpeaks: true,
      ...descriptor === undefined ? {} : { descriptor },
      accept: (conn) => this.#accept(conn, detector),
    }));
    if (this.#closed) {
      opened.close();
      throw shutdown("Cannot listen");
    }
    const open = own === undefined ? this.#listeners : this.#ownSockets;
    const listener: Listener = {
      address: opened.address,
      close: () => {
        if (open.delete(listener)) opened.close();
      },
    };
    open.add(listener);
    if (this.#sweep === undefined) this.#sweepLater();
    return listener;
  }

  async close(graceMs: number = SHUTDOWN_GRACE_MS): Promise<void> {
    this.#closed = true;
    this.#sweep?.cancel();
    // By then connections in the backlog have been accepted; the system resets those that remain when the socket
    // closes.
    if (this.#agents.asksToMove(graceMs)) await new Promise((resolve) => void setImmediate(resolve));
    for (const listener of this.#listeners) listener.close();
    const transports = this.#transports.map(({ transport }) => transport.close?.(graceMs));
    // Visitors already connected are served until the agents have moved, through other nodes as well.
    const refuse = () => {
      this.#refusing = true;
      for (const conn of this.#pending.all()) conn.evict(shutdown("Cannot accept connection"));
    };
    await Promise.all([this.#agents.close(graceMs, refuse), ...transports]);
    this.#pending.close();
    // Their sockets also carry their sessions, so they are closed last.
    for (const listener of this.#ownSockets) listener.close();
    this.#sampler.flush();
  }

  get #names(): readonly string[] {
    return this.#transports.map(({ transport }) => transport.name);
  }

  #sweepLater(): void {
    this.#sweep = this.#runtime.clock.after(TOKEN_RECHECK_MS, () => {
      this.#agents.sweep();
      if (!this.#closed) this.#sweepLater();
    });
  }

  /** Options shared by all connections of one listener. */
  #detectorOptions(accepts: Accepts, alone: HostedTransport | undefined): ProtocolDetectorOptions {
    return {
      clock: this.#runtime.clock,
      accepts,
      alone: alone !== undefined,
      pending: this.#pending,
      visitors: this.#visitors,
      transport: (firstByte) => {
        const found = alone ??
          this.#transports.find(({ transport }) => transport.takes?.(firstByte) ?? false);
        return found && ((connection) => found.transport.accept?.(connection, found.context));
      },
      refused: (error, remote) => this.#refused(error, remote),
    };
  }

  #accept(conn: Conn, options: ProtocolDetectorOptions): void {
    const proxied = this.#proxies?.contains(conn.remote.host) ?? false;
    if (!this.#refusing && new ProtocolDetector(conn, proxied, options).start()) return;
    const reason = this.#refusing ? "shutdown" : "limit_exceeded";
    this.metrics.refused("connection", reason);
    const why = this.#refusing
      ? "the edge is shutting down"
      : "its source has too many unfinished connections";
    this.#sampler.info(
      `connection ${reason}`,
      { peer: conn.remote.host, reason, pending: this.#pending.size() },
      `Cannot accept connection: ${why}`,
    );
    conn.abort();
  }

  #refused(error: SallyportError, remote: Address): void {
    this.metrics.refused("connection", error.code);
    reportFault(error, { log: this.#log, metrics: this.metrics }, { peer: remote.host });
    const fields = { peer: remote.host, reason: error.code };
    // Health checks, port scans and dials that lost a race come and go without a byte.
    if (error.code === "connection_lost") this.#log.debug(fields, error.message);
    else this.#sampler.info(`connection ${error.code}`, fields, error.message);
  }
}

function shutdown(what: string): SallyportError {
  return new SallyportError("shutdown", `${what}: the edge is shutting down`, {
    side: "local",
    retryable: true,
  });
}
