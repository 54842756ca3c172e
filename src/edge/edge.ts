/**
 * The edge: the public node at which agents and visitors arrive.
 *
 * @module
 */
import type { FernetRing } from "../crypto/fernet.ts";
import type { CurveListener } from "../transport/curve/socket_listener.ts";
import { SallyportError } from "../errors.ts";
import { type NetworkSet, sourceOf } from "../wire/ip/networks.ts";
import type { Address, Bytes, Conn, Listener, Runtime, Timer } from "../runtime/port.ts";
import type { QuicIdentity } from "../runtime/quic_port.ts";
import { reportFault } from "../telemetry/faults.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import { Metrics } from "../telemetry/metrics.ts";
import { type CurveIdentity, listenForCurve } from "../transport/curve/accept.ts";
import { CURVE } from "../transport/curve/session.ts";
import { curveListenerSource } from "../transport/curve/metrics.ts";
import type { AcceptSealedOptions, OlderProtocol } from "../transport/sealed/accept.ts";
import type { Session } from "../transport/port.ts";
import type { Tunnel } from "../tunnel/tunnel.ts";
import type { EdgeCluster } from "./cluster.ts";
import { listenForQuic } from "../transport/quic/accept.ts";
import { QUIC } from "../transport/quic/options.ts";
import type { Authorize, EdgeTunnels } from "./agent_request.ts";
import { AgentRegistry, type SealedKey } from "./agents.ts";
import { type Accepts, type Arrival, Entrance } from "./protocol_detector.ts";
import { publicPorts, type PublicPortsOptions } from "./public_ports.ts";
import type { KeyUseStore } from "./used_keys.ts";
import { welcomeVisitor } from "./visitors.ts";
import type { QueueLimits } from "../protocol/mux/queue_limits.ts";
import { PENDING_CONNECTIONS_MAX, PENDING_PER_SOURCE_MAX } from "../runtime/port.ts";
import { SHUTDOWN_GRACE_MS } from "../transport/port.ts";
import { idleTicks, VISITOR_IDLE_TIMEOUT_MS } from "../transport/splice.ts";

/** A session whose token has expired is found within this time. */
export const TOKEN_RECHECK_MS = 5_000;

/** What {@link createEdge} takes. */
export interface EdgeOptions {
  /** The runtime below. */
  readonly runtime: Runtime;
  /** The keys with which the session master makes tokens. */
  readonly ring: FernetRing;
  /** Where it logs; nowhere when absent. */
  readonly log?: Logger;
  /** What it counts with; its own when absent. */
  readonly metrics?: Metrics;
  /** Has the last say about an agent whose token is good. */
  readonly authorize?: Authorize;
  /** Lets agents in by the sealed transport too, which knows the edge by this key. */
  readonly sealed?: SealedKey;
  /** Takes what comes to a listener for sealed agents alone and isn't one's: transfers of version 1. */
  readonly older?: OlderProtocol;
  /** Lets agents in by the curve transport, which knows the edge by this key, where {@link Edge.listenCurve} says. */
  readonly curve?: CurveIdentity;
  /** Lets agents ask for streams of their own, and the edge ask its agents; refused when absent. */
  readonly tunnels?: EdgeTunnels;
  /** Lets agents in by the QUIC transport, which knows the edge by this certificate, where {@link Edge.listenQuic} says. */
  readonly quic?: QuicIdentity;
  /** The other nodes, where the edge belongs to a cluster: visitors of names that they hold are forwarded. */
  readonly cluster?: EdgeCluster;
  /** Public TCP ports for agents whose token allows them; none when absent. */
  readonly publish?: PublicPortsOptions;
  /** Peers from these networks are proxies: they must send a PROXY header, which is believed. Nobody else may. */
  readonly proxyProtocolFrom?: NetworkSet;
  /** A visitor without a byte either way is ended after this time; an hour when absent. */
  readonly idleTimeoutMs?: number;
  /** Where edges with the same Fernet keys note together which tokens have been used; each by itself when absent. */
  readonly keyUses?: KeyUseStore;
  /** SniTun's queue figures; the reference's when absent. */
  readonly queueLimits?: QueueLimits;
  /** Frames of 8 KiB or more that an agent may send a second; 0 or absent for no limit. */
  readonly throttling?: number;
}

/** What {@link Edge.listen} takes. */
export interface EdgeListenOptions {
  /** An IP address; `::` and `0.0.0.0` are all of them. */
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** One port for all, told apart by the first byte (the default), or for one kind alone. */
  readonly accepts?: Accepts;
  /** Lets several processes share the port (SO_REUSEPORT): the workers of one machine. */
  readonly reusePort?: boolean;
}

/** A running edge. */
export interface Edge {
  /** What it counts with; its own when absent. */
  readonly metrics: Metrics;
  /** Sessions of agents. */
  readonly sessions: number;
  /** Where it listens. */
  readonly addresses: readonly Address[];
  /** Opens a listener; may be called several times. Rejects as `Runtime.listen`, and with `config_invalid` for sealed
   * agents where there is no key for them. */
  listen(options: EdgeListenOptions): Promise<Listener>;
  /** Opens a UDP socket for agents by the curve transport; may be called several times. Rejects as
   * `Runtime.bindDatagram`, and with `config_invalid` where there is no key for it. */
  listenCurve(options: Address): Promise<Listener>;
  /** Opens a UDP socket for agents by the QUIC transport; may be called several times. Rejects as `Quic.listen`, with
   * `not_supported` where the runtime has no QUIC, and with `config_invalid` where there is no certificate for it. */
  listenQuic(options: Address): Promise<Listener>;
  /** The session of this edge that serves a canonical name, whatever the other nodes of its cluster hold. */
  session(hostname: string): Session | undefined;
  /** Whether an agent serves this canonical name now. */
  serves(hostname: string): boolean;
  /** The tunnel to the agent that serves this canonical name, where {@link EdgeOptions.tunnels} has a router for it. */
  tunnel(hostname: string): Tunnel | undefined;
  /** Stops accepting, lets streams finish for `graceMs`, ends the rest. */
  close(graceMs?: number): Promise<void>;
}

/**
 * Makes an edge. It listens nowhere until told to.
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

class EdgeNode implements Edge {
  readonly metrics: Metrics;
  readonly #runtime: Runtime;
  readonly #log: Logger;
  readonly #proxies: NetworkSet | undefined;
  readonly #agents: AgentRegistry;
  readonly #cluster: EdgeCluster | undefined;
  readonly #hasSealed: boolean;
  readonly #idleTicks: number;
  readonly #queueLimits: QueueLimits | undefined;
  readonly #older: OlderProtocol | undefined;
  readonly #curve: CurveIdentity | undefined;
  readonly #curveListeners = new Set<CurveListener>();
  /** Sockets that are their sessions' too. */
  readonly #datagramClosers: (() => void)[] = [];
  readonly #quic: QuicIdentity | undefined;
  readonly #listeners = new Set<Listener>();
  /** Connections that haven't been routed or admitted yet, and how many there are from one source. */
  readonly #pending = new Set<Conn>();
  readonly #pendingFrom = new Map<string, number>();
  #sweep: Timer | undefined;
  #closed = false;

  constructor(options: EdgeOptions) {
    this.#runtime = options.runtime;
    this.#log = options.log ?? silentLogger;
    this.#proxies = options.proxyProtocolFrom;
    this.metrics = options.metrics ?? new Metrics({ runtime: options.runtime });
    this.#hasSealed = options.sealed !== undefined;
    this.#older = options.older;
    this.#curve = options.curve;
    this.#quic = options.quic;
    this.#queueLimits = options.queueLimits;
    this.#idleTicks = idleTicks(options.idleTimeoutMs ?? VISITOR_IDLE_TIMEOUT_MS);
    this.#cluster = options.cluster;
    this.#agents = new AgentRegistry({
      cluster: options.cluster,
      clock: options.runtime.clock,
      ring: options.ring,
      log: this.#log,
      metrics: this.metrics,
      authorize: options.authorize,
      sealed: options.sealed,
      tunnels: options.publish === undefined ? options.tunnels : publicPorts({
        ...options.publish,
        runtime: this.#runtime,
        log: this.#log,
        metrics: this.metrics,
      }, options.tunnels),
      aeadSource: options.runtime,
      keyUses: options.keyUses,
      queueLimits: options.queueLimits,
      largeFramesPerSecond: options.throttling,
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

  async listen({ host, port, accepts = "both", reusePort = false }: EdgeListenOptions): Promise<Listener> {
    if (accepts === "sealed" && !this.#hasSealed) {
      throw new SallyportError("config_invalid", "Cannot listen for sealed agents: the edge has no key", {
        side: "config",
      });
    }
    const opened = await this.#runtime.listen({
      host,
      port,
      reusePort,
      accept: (conn) => this.#accept(conn, accepts),
    });
    if (this.#closed) {
      opened.close();
      throw shutdown("Cannot listen");
    }
    const listener: Listener = {
      address: opened.address,
      close: () => {
        this.#listeners.delete(listener);
        opened.close();
      },
    };
    this.#listeners.add(listener);
    if (this.#sweep === undefined) this.#sweepLater();
    return listener;
  }

  async listenCurve({ host, port }: Address): Promise<Listener> {
    if (this.#curve === undefined) {
      throw new SallyportError("config_invalid", "Cannot listen for curve agents: the edge has no key", {
        side: "config",
      });
    }
    const opened = await listenForCurve({
      runtime: this.#runtime,
      host,
      port,
      ...this.#curve,
      ...this.#agents.gate(CURVE),
    });
    if (this.#closed) {
      opened.close();
      throw shutdown("Cannot listen");
    }
    const uncount = this.metrics.curve.add(curveListenerSource(opened));
    const listener: Listener = {
      address: opened.address,
      close: () => {
        if (!this.#curveListeners.delete(opened)) return;
        uncount();
        opened.close();
      },
    };
    this.#curveListeners.add(opened);
    this.#datagramClosers.push(() => listener.close());
    if (this.#sweep === undefined) this.#sweepLater();
    return listener;
  }

  async listenQuic({ host, port }: Address): Promise<Listener> {
    if (this.#quic === undefined) {
      const why = "Cannot listen for QUIC agents: the edge has no certificate";
      throw new SallyportError("config_invalid", why, { side: "config" });
    }
    const listener = await listenForQuic({
      runtime: this.#runtime,
      host,
      port,
      identity: this.#quic,
      queueLimits: this.#queueLimits,
      ...this.#agents.gate(QUIC),
    });
    if (this.#closed) {
      listener.close();
      throw shutdown("Cannot listen");
    }
    this.#datagramClosers.push(() => listener.close());
    if (this.#sweep === undefined) this.#sweepLater();
    return listener;
  }

  async close(graceMs: number = SHUTDOWN_GRACE_MS): Promise<void> {
    this.#closed = true;
    this.#sweep?.cancel();
    for (const listener of this.#listeners) listener.close();
    for (const conn of this.#pending) conn.abort(shutdown("Cannot accept connection"));
    await Promise.all([this.#agents.close(graceMs), this.#older?.close(graceMs)]);
    // Their sockets are their sessions' too, so they go last.
    for (const close of this.#datagramClosers) close();
  }

  #sweepLater(): void {
    this.#sweep = this.#runtime.clock.after(TOKEN_RECHECK_MS, () => {
      this.#agents.sweep();
      if (!this.#closed) this.#sweepLater();
    });
  }

  #accept(conn: Conn, accepts: Accepts): void {
    const source = sourceOf(conn.remote.host);
    const fromSource = this.#pendingFrom.get(source) ?? 0;
    const proxied = this.#proxies?.contains(conn.remote.host) ?? false;
    // A proxy's connections come from one address; only what comes directly is counted by it.
    const crowded = !proxied && fromSource >= PENDING_PER_SOURCE_MAX;
    if (this.#closed || crowded || this.#pending.size >= PENDING_CONNECTIONS_MAX) {
      const reason = this.#closed ? "shutdown" : "limit_exceeded";
      this.metrics.refused("connection", reason);
      // Not at info: whoever floods the edge shouldn't flood its log too; the metric tells.
      this.#log.debug(
        { peer: conn.remote.host, reason, pending: this.#pending.size },
        `Cannot accept connection: ${this.#closed ? "the edge is shutting down" : "too many are unfinished"}`,
      );
      conn.abort();
      return;
    }
    const older = accepts === "sealed" ? this.#older : undefined;
    this.#pending.add(conn);
    this.#pendingFrom.set(source, fromSource + 1);
    new Entrance({
      conn,
      clock: this.#runtime.clock,
      accepts,
      proxied,
      settled: () => this.#settled(conn, source),
      visitor: (arrival) =>
        welcomeVisitor(arrival, {
          clock: this.#runtime.clock,
          log: this.#log,
          metrics: this.metrics,
          idleTicks: this.#idleTicks,
          find: (name) => this.#agents.find(name) ?? this.#cluster?.find(name),
          stale: (name) => this.#cluster?.stale(name),
        }),
      agent: (arrival) => this.#agents.welcome(arrival),
      ...this.#hasSealed
        ? { sealed: (arrival) => this.#agents.welcomeSealed(arrival, older && olderFor(older, arrival)) }
        : {},
      refused: (error, remote) => this.#refused(error, remote),
    });
  }

  #settled(conn: Conn, source: string): void {
    if (!this.#pending.delete(conn)) return;
    const left = (this.#pendingFrom.get(source) ?? 1) - 1;
    if (left === 0) this.#pendingFrom.delete(source);
    else this.#pendingFrom.set(source, left);
  }

  #refused(error: SallyportError, remote: Address): void {
    this.metrics.refused("connection", error.code);
    reportFault(error, { log: this.#log, metrics: this.metrics }, { peer: remote.host });
    // Health checks, port scans and dials that lost a race come and go without a byte.
    const log = error.code === "connection_lost" ? "debug" : "info";
    this.#log[log]({ peer: remote.host, reason: error.code }, error.message);
  }
}

function shutdown(what: string): SallyportError {
  return new SallyportError("shutdown", `${what}: the edge is shutting down`, {
    side: "local",
    retryable: true,
  });
}

/** Version 1 for one arrival, which is settled when it is taken. */
function olderFor(older: OlderProtocol, { remote, settled }: Arrival): AcceptSealedOptions["older"] {
  const take = (conn: Conn, first: Bytes) => older.take(conn, first, remote) && (settled(), true);
  return { firstBytes: older.firstBytes, take };
}
