/**
 * The daemon handles connections from its sources through their whole life: authenticate, register, serve, deregister.
 * They run concurrently, so that a slow one delays no other.
 *
 * @module
 */
import { TunnelLease } from "../../cluster/lease.ts";
import type { TunnelRegistry } from "../../cluster/registry.ts";
import { internalError, SallyportError } from "../../errors.ts";
import type { Clock, Timer } from "../../runtime/port.ts";
import { type LogFields, type Logger, silentLogger } from "../../telemetry/log.ts";
import { reportFault } from "../../telemetry/faults.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { PendingTunnel } from "./pending_tunnel.ts";
import { checkMethods } from "../auth/negotiate.ts";
import type { Authenticator } from "../auth/port.ts";
import { type Carrier, closeWhenQuiet } from "../carriers/carrier.ts";
import type { Router } from "../requests/router.ts";
import type { TunnelSink, TunnelSource } from "./source.ts";
import { Tunnel } from "../tunnel.ts";
import { SHUTDOWN_GRACE_MS } from "../../transport/port.ts";

/** Tunnels: time for the peer to read a refusal before the connection is closed. */
export const TUNNEL_FAREWELL_MS = 2_000;
/** Tunnels: maximum delay in detecting an expired proof if the clock was changed meanwhile. */
export const TUNNEL_EXPIRY_CHECK_MS = 60_000;
/** Tunnels: connections of a daemon that aren't authenticated yet; beyond it new ones are closed. */
export const TUNNEL_PENDING_MAX = 1_024;

/** Events of a tunnel, in this order for each tunnel; none for refused peers. */
export type TunnelEvent =
  | { readonly kind: "connected"; readonly tunnel: Tunnel }
  /** `method` is the authenticator's; undefined if the source authenticated it. */
  | { readonly kind: "authenticated"; readonly tunnel: Tunnel; readonly method: string | undefined }
  /** It is no longer registered. */
  | { readonly kind: "disconnected"; readonly tunnel: Tunnel; readonly reason: SallyportError };

/** Options of {@link createTunnelDaemon}. */
export interface TunnelDaemonOptions {
  readonly clock: Clock;
  /** Accepted authentication methods; at least one. */
  readonly authenticators: readonly Authenticator[];
  /** Serves the requests of the tunnels that are authenticated here. */
  readonly router: Router;
  /** Registry of tunnels. Defaults to none. It isn't closed. */
  readonly registry?: TunnelRegistry;
  /** The node name in the registry. Defaults to "". */
  readonly node?: string;
  /** Logger. Defaults to no logging. */
  readonly log?: Logger;
  /** Called with events of tunnels. */
  event?(event: TunnelEvent): void;
  /** Called with the reason for each refusal, for counting. */
  refused?(error: SallyportError): void;
  /** Metrics for faults of callbacks and services. Defaults to none. */
  readonly metrics?: Metrics;
}

/** A running daemon. */
export interface TunnelDaemon {
  /** The established tunnels. */
  readonly tunnels: Iterable<Tunnel>;
  /** The newest of this daemon's tunnels with this name. */
  find(name: string): Tunnel | undefined;
  /** Starts accepting from this source. Throws `shutdown` after `close`. */
  attach(source: TunnelSource): void;
  /** Stops accepting from this source; its tunnels stay. */
  detach(source: TunnelSource): void;
  /**
   * Stops accepting, gives streams `graceMs` to finish, then closes every tunnel. Resolves when all are deregistered.
   */
  close(graceMs?: number): Promise<void>;
}

/**
 * Creates a daemon; attach sources to it. Throws `config_invalid` for unusable authenticators.
 *
 * @example
 * ```ts const daemon = createTunnelDaemon({   clock: runtime.clock,   authenticators: [tokenAuthenticator({ ring })],
 * router: createRouter({ "/proxy-tcp": tcpProxy({ runtime }) }),   registry: createMemoryRegistry({ clock:
 * runtime.clock }),   event: ({ kind, tunnel }) => console.log(kind, tunnel.name), }); daemon.attach(source);
 * ```
 */
export function createTunnelDaemon(options: TunnelDaemonOptions): TunnelDaemon {
  return new Daemon(options);
}

class Daemon implements TunnelDaemon, TunnelSink {
  readonly #options: TunnelDaemonOptions;
  readonly #log: Logger;
  readonly #sources = new Set<TunnelSource>();
  readonly #pending = new Set<PendingTunnel>();
  /** Established tunnels, each with its end: newest last. */
  readonly #tunnels = new Map<Tunnel, Promise<void>>();
  /** The newest tunnel of each name. */
  readonly #byName = new Map<string, Tunnel>();
  #closed = false;

  constructor(options: TunnelDaemonOptions) {
    checkMethods(options.authenticators);
    this.#options = options;
    this.#log = options.log ?? silentLogger;
  }

  get tunnels(): Iterable<Tunnel> {
    return this.#tunnels.keys();
  }

  find(name: string): Tunnel | undefined {
    return this.#byName.get(name);
  }

  attach(source: TunnelSource): void {
    if (this.#closed) throw shutdown();
    if (this.#sources.has(source)) return;
    this.#sources.add(source);
    source.start(this);
  }

  detach(source: TunnelSource): void {
    if (this.#sources.delete(source)) source.stop();
  }

  async close(graceMs: number = SHUTDOWN_GRACE_MS): Promise<void> {
    this.#closed = true;
    for (const source of [...this.#sources]) this.detach(source);
    for (const pending of this.#pending) pending.close(shutdown());
    for (const tunnel of this.#tunnels.keys()) void tunnel.drain(shutdown(), graceMs);
    await Promise.all(this.#tunnels.values());
  }

  // From the sources, which know it as a TunnelSink.

  carrier(carrier: Carrier): void {
    if (this.#closed || this.#pending.size >= TUNNEL_PENDING_MAX) {
      const crowded = new SallyportError("limit_exceeded", "Cannot accept tunnel: too many are unfinished", {
        side: "local",
      });
      const error = this.#closed ? shutdown() : crowded;
      this.#options.refused?.(error);
      return carrier.close(error);
    }
    const { authenticators, clock } = this.#options;
    const pending = new PendingTunnel({ carrier, authenticators, clock });
    this.#pending.add(pending);
    void this.#welcome(pending);
  }

  tunnel(tunnel: Tunnel): void {
    if (this.#closed) return tunnel.close(shutdown());
    this.#keep(tunnel, undefined, () => {});
  }

  async #welcome(pending: PendingTunnel): Promise<void> {
    try {
      const peer = await pending.verified;
      if (this.#closed) throw shutdown();
      const { clock, router, log, metrics } = this.#options;
      const { name, attributes, method } = peer;
      const tunnel = new Tunnel({
        carrier: pending,
        clock,
        router,
        name,
        ...attributes === undefined ? {} : { attributes },
        ...log === undefined ? {} : { log },
        ...metrics === undefined ? {} : { metrics },
      });
      // Registered before it serves; requests wait until then.
      this.#keep(tunnel, method, () => pending.handOn());
      if (peer.validUntilS !== undefined) this.#expire(tunnel, peer.validUntilS);
    } catch (thrown) {
      const error = internalError("authorize", thrown);
      this.#fault(error);
      this.#options.refused?.(error);
      const { transport, remote } = pending;
      this.#log.info({ transport, peer: remote.host, reason: error.code }, error.message);
      // The reason stays local; the refusal itself was sent in the stream, which may still be read.
      const reason = new SallyportError("unauthorized", "Cannot keep tunnel: it isn't authenticated", {
        side: "local",
      });
      await closeWhenQuiet(pending, this.#options.clock, reason, TUNNEL_FAREWELL_MS);
    } finally {
      this.#pending.delete(pending);
    }
  }

  #keep(tunnel: Tunnel, method: string | undefined, serve: () => void): void {
    this.#byName.set(tunnel.name, tunnel);
    this.#tunnels.set(tunnel, this.#live(tunnel, method, serve));
  }

  #forget(tunnel: Tunnel): void {
    this.#tunnels.delete(tunnel);
    if (this.#byName.get(tunnel.name) !== tunnel) return;
    const next = [...this.#tunnels.keys()].findLast(({ name }) => name === tunnel.name);
    if (next === undefined) this.#byName.delete(tunnel.name);
    else this.#byName.set(tunnel.name, next);
  }

  /** Closes a tunnel whose proof has expired; checked periodically, since clocks may be changed. */
  #expire(tunnel: Tunnel, validUntilS: number): void {
    const { clock } = this.#options;
    let timer: Timer | undefined;
    const look = () => {
      const leftMs = validUntilS * 1000 - clock.wallMs();
      if (leftMs >= 0) return timer = clock.after(Math.min(leftMs + 1, TUNNEL_EXPIRY_CHECK_MS), look);
      tunnel.close(
        new SallyportError("token_expired", "Cannot keep tunnel: its token has expired", { side: "peer" }),
      );
    };
    look();
    void tunnel.closed.then(() => timer?.cancel());
  }

  /** A tunnel's life from here on; never rejects. */
  async #live(tunnel: Tunnel, method: string | undefined, serve: () => void): Promise<void> {
    const { registry, node = "", clock } = this.#options;
    const { id, name, transport, attributes } = tunnel;
    const record = { id, name, node, transport, attributes };
    const lease = registry && new TunnelLease({ registry, record, clock, log: this.#log });
    await lease?.start();
    this.#tell({ kind: "connected", tunnel });
    this.#tell({ kind: "authenticated", tunnel, method });
    serve();
    const reason = await tunnel.closed;
    await lease?.leave();
    this.#forget(tunnel);
    this.#tell({ kind: "disconnected", tunnel, reason });
  }

  #fault(error: SallyportError, fields: LogFields = {}): void {
    reportFault(error, { log: this.#log, metrics: this.#options.metrics }, fields);
  }

  #tell(event: TunnelEvent): void {
    const { name, transport, remote, id } = event.tunnel;
    this.#log.info({ tunnel: name, tunnel_id: id, transport, peer: remote.host }, `tunnel ${event.kind}`);
    try {
      this.#options.event?.(event);
    } catch (error) {
      this.#fault(internalError("callback", error), { tunnel: name });
    }
  }
}

function shutdown(): SallyportError {
  return new SallyportError("shutdown", "Cannot keep tunnel: the daemon is shutting down", {
    side: "local",
    retryable: true,
  });
}
