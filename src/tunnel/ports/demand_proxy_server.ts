/**
 * The demand proxy's server: leases public TCP ports of a range to clients, and forwards connections there to them,
 * each as a separate request (docs/protocols/snocat.md, Demand proxy). It works over any {@link Carrier}.
 *
 * A lease lasts as long as the stream that requested it. Connections open at its end continue.
 *
 * @module
 */
import { errorCode, errorMessage, SallyportError } from "../../errors.ts";
import type {
  Address,
  Bytes,
  ByteStream,
  ByteStreamHandler,
  Conn,
  Listener,
  Timer,
} from "../../runtime/port.ts";
import type { Runtime } from "../../runtime/port.ts";
import { type Logger, silentLogger } from "../../telemetry/log.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import { LogSampler } from "../../telemetry/log_sampler.ts";
import type { StreamShares } from "../../transport/stream_shares.ts";
import { splice } from "../../transport/splice.ts";
import type { NetworkSet } from "../../wire/ip/networks.ts";
import {
  DEMAND_FAREWELL_BYTES,
  demandFrame,
  type DemandRefusal,
  type DemandTarget,
  encodeGrant,
  encodeRefusal,
  parseDemand,
  type PublicAddress,
  wantsReasons,
} from "../../wire/snocat/demand_proxy.ts";
import type { PortLease, PortLeases } from "./port_leases.ts";
import { ProxiedVisitor } from "./proxied_visitor.ts";
import { DEMAND_IDLE_TICKS } from "../requests/tcp_proxy.ts";
import { DEMAND_DEADLINE_MS } from "../../wire/snocat/demand_proxy.ts";

/**
 * Demand proxy: deadline for opening a visitor's stream to the client. Longer than a request's answer may take, since a
 * peer may allow no more streams for a while.
 */
export const DEMAND_OPEN_DEADLINE_MS = 30_000;
/** Public connections of one lease, including those whose stream to the client isn't open yet. */
export const DEMAND_CONNECTIONS_MAX = 1_024;
/**
 * A public connection is closed if the endpoint sends nothing in the first minute; if one side never sends anything, in
 * 90 to 120 s, regardless of the idle timeout.
 */
export const DEMAND_ANSWER_DEADLINE_MS = 60_000;
/** Ports that one client may hold at once. */
export const DEMAND_LEASES_PER_CLIENT_MAX = 16;

/** Options of {@link DemandProxy}. */
interface DemandProxyOptions {
  /** The runtime. */
  readonly runtime: Runtime;
  /** The available ports; several proxies may share them. */
  readonly leases: PortLeases;
  /** The one address on which public ports listen: an IP address in text, `::` for every interface. */
  readonly host: string;
  /** The address announced to clients instead of the listening one: behind NAT, or for a wildcard. */
  readonly publicHost?: string;
  /** Logger. Defaults to no logging. */
  readonly log?: Logger;
  /** Limits connections of one source to one port. Defaults to no limit. */
  readonly shares?: StreamShares;
  /** Connections from these networks must begin with a PROXY header. Defaults to none. */
  readonly proxies?: NetworkSet | undefined;
  /** Metrics of ports, connections to them, and refusals. */
  readonly metrics?: Metrics;
}

/** A client requesting a port, and how to reach it. */
export interface DemandClient {
  /** Groups ports for counting: the same object for all requests of one client, such as its carrier. */
  readonly owner: object;
  /** The client's name, for logs. */
  readonly name: string;
  /** The target of public connections, from the client's point of view. */
  readonly target: DemandTarget;
  /** Opens a stream to the target through the client, for a visitor; rejects if the client refuses. */
  open(target: DemandTarget, visitor: Address): Promise<ByteStream>;
  /**
   * Checks whether the client may have this port; undefined means any. Throws the reason for a refusal. Defaults to
   * allowing it.
   */
  allow?(wishedPort: number | undefined): void;
  /** Ports that it may hold at once. Defaults to `DEMAND_LEASES_PER_CLIENT_MAX`, which is also the maximum. */
  readonly portsMax?: number;
  /** Reserves the client's ports for this name as long as others are free, see {@link PortLeases.lease}. */
  readonly holder?: string;
}

/** Serves demands for public ports. */
export class DemandProxy {
  readonly #options: DemandProxyOptions;
  readonly #log: Logger;
  readonly #leases = new Set<Lease>();
  readonly #held = new WeakMap<object, number>();

  constructor(options: DemandProxyOptions) {
    this.#options = options;
    this.#log = options.log ?? silentLogger;
  }

  /** Number of current leases. */
  get leases(): number {
    return this.#leases.size;
  }

  /** Serves a demand: `stream` is its request's, accepted, and nothing of it has been read. */
  serve(stream: ByteStream, client: DemandClient): void {
    const log = this.#log.child({ client: client.name });
    const lease = new Lease(this.#options, client, stream, log, {
      claim: () => {
        const held = this.#held.get(client.owner) ?? 0;
        if (held >= Math.min(client.portsMax ?? Infinity, DEMAND_LEASES_PER_CLIENT_MAX)) {
          const message = `Cannot lease a public port: the client already holds ${held}`;
          throw new SallyportError("limit_exceeded", message, { side: "peer" });
        }
        this.#held.set(client.owner, held + 1);
      },
      unclaim: () => void this.#held.set(client.owner, (this.#held.get(client.owner) ?? 1) - 1),
      over: () => void this.#leases.delete(lease),
    });
    this.#leases.add(lease);
    stream.attach(lease);
  }

  /** Revokes a client's ports, as {@link DemandProxy.close} does with all. */
  release(owner: object, why: string): void {
    for (const lease of [...this.#leases]) if (lease.owner === owner) lease.end(why);
  }

  /** Revokes every port: no new connections are accepted, and open ones continue. */
  close(): void {
    for (const lease of [...this.#leases]) lease.end("the server is stopping");
  }
}

/** A lease's interface to its proxy. */
interface LeaseHost {
  /** One more port for the client; throws `limit_exceeded`. */
  claim(): void;
  unclaim(): void;
  over(): void;
}

/** One demand, from its first byte to the end of its lease; handles the demand's stream. */
class Lease implements ByteStreamHandler {
  readonly #options: DemandProxyOptions;
  readonly #client: DemandClient;
  readonly #stream: ByteStream;
  readonly #log: Logger;
  readonly #sampler: LogSampler;
  readonly #host: LeaseHost;
  readonly #frame = demandFrame();
  readonly #timer: Timer;
  #state: "asking" | "opening" | "leased" | "over" = "asking";
  #port: PortLease<Listener> | undefined;
  #farewellBytes = 0;
  /** Whether the client has released the port; otherwise the port is lost and stays reserved for it. */
  #unwanted = false;
  #connections = 0;
  #reasons = false;

  constructor(
    options: DemandProxyOptions,
    client: DemandClient,
    stream: ByteStream,
    log: Logger,
    host: LeaseHost,
  ) {
    this.#options = options;
    this.#client = client;
    this.#stream = stream;
    this.#log = log;
    this.#sampler = new LogSampler({ log, clock: options.runtime.clock });
    this.#host = host;
    this.#timer = options.runtime.clock.after(DEMAND_DEADLINE_MS, () => {
      const message = `Cannot serve demand: it isn't complete after ${DEMAND_DEADLINE_MS} ms`;
      this.#fail(new SallyportError("deadline_exceeded", message, { side: "peer" }));
    });
  }

  get owner(): object {
    return this.#client.owner;
  }

  data(chunk: Bytes): void {
    let taken = 0;
    if (this.#state === "asking") {
      try {
        taken = this.#frame.push(chunk);
        const { body } = this.#frame;
        if (body === undefined) return;
        this.#timer.cancel();
        this.#reasons = wantsReasons(body);
        this.#open(parseDemand(body));
      } catch (error) {
        return this.#fail(error);
      }
    }
    this.#farewellBytes += chunk.length - taken;
    if (this.#farewellBytes >= DEMAND_FAREWELL_BYTES) {
      this.#unwanted = true;
      this.end("the client returned it");
    }
  }

  end(why?: string): void {
    if (this.#state === "over") return;
    if (this.#state === "leased") this.#stream.write(new Uint8Array(DEMAND_FAREWELL_BYTES));
    this.#over(why ?? "the client ended its request");
    this.#stream.release();
  }

  drain(): void {}

  close(error?: Error): void {
    this.#over(error === undefined ? "its stream ended" : errorMessage(error));
  }

  #open(wished: number | undefined): void {
    this.#state = "opening";
    const { runtime, leases, host } = this.#options;
    const leased = this.#permitted(wished)
      ? leases.lease(
        (port) => runtime.listen({ host, port, accept: (conn) => this.#accept(conn) }),
        wished,
        this.#client.holder,
      )
      : Promise.resolve(undefined);
    leased.then((port) => this.#granted(port), (error) => {
      this.#host.unclaim();
      this.#refuse(error);
    });
  }

  /** Whether the client may request this; refuses it if not. */
  #permitted(wished: number | undefined): boolean {
    try {
      this.#client.allow?.(wished);
      this.#host.claim();
      return true;
    } catch (error) {
      this.#refuse(error);
      return false;
    }
  }

  #granted(port: PortLease<Listener> | undefined): void {
    if (port === undefined) return;
    this.#port = port;
    // The client may have left while the port was being opened.
    if (this.#state !== "opening") return this.#giveBack();
    this.#state = "leased";
    const { address } = port.opened;
    const told: PublicAddress = { host: this.#options.publicHost ?? address.host, port: address.port };
    this.#options.metrics?.publicPortOpened();
    this.#log.info({ port: port.port, ...this.#target() }, "public port opened");
    this.#stream.write(encodeGrant([told]));
  }

  #refuse(error: unknown): void {
    this.#refused(error);
    if (this.#state === "over") return;
    this.#over(undefined);
    this.#stream.write(this.#reasons ? encodeRefusal(reasonOf(error)) : encodeGrant(undefined));
    this.#stream.release();
  }

  /** The request itself is invalid. */
  #fail(error: unknown): void {
    this.#refused(error);
    this.#over(undefined);
    this.#stream.abort(error instanceof Error ? error : undefined);
  }

  #refused(error: unknown): void {
    this.#options.metrics?.refused("port", errorCode(error));
    this.#log.warn({ ...this.#target(), reason: errorCode(error) }, errorMessage(error));
  }

  #over(why: string | undefined): void {
    if (this.#state === "over") return;
    this.#state = "over";
    this.#timer.cancel();
    this.#sampler.flush();
    if (this.#port !== undefined) {
      this.#options.metrics?.publicPortClosed();
      this.#log.info({ port: this.#port.port, ...this.#target() }, `public port closed: ${why}`);
      this.#giveBack();
    }
    this.#host.over();
  }

  #giveBack(): void {
    this.#port?.opened.close();
    this.#port?.free(!this.#unwanted);
    this.#port = undefined;
    this.#host.unclaim();
  }

  #target(): { readonly target: string } {
    const { host, port } = this.#client.target;
    return { target: `${host ?? "localhost"}:${port}` };
  }

  /** Handles a public connection. Its end never closes the port. */
  #accept(conn: Conn): void {
    const { proxies, runtime } = this.#options;
    if (this.#state !== "leased" || this.#connections >= DEMAND_CONNECTIONS_MAX) {
      return this.#turnAway(
        conn,
        conn.remote,
        tooMany(`the port already has ${this.#connections} connections`),
      );
    }
    this.#connections++;
    if (proxies?.contains(conn.remote.host) !== true) return this.#admit(conn, conn.remote);
    new ProxiedVisitor(conn, runtime.clock, {
      named: (visitor, rest) => this.#admit(conn, visitor, rest),
      failed: (error) => {
        this.#connections--;
        this.#turnAway(conn, conn.remote, error);
      },
    });
  }

  /** The connection's visitor is known; it is counted among the port's connections. */
  #admit(conn: Conn, visitor: Address, received?: Bytes): void {
    const waiting = new Waiting();
    conn.pause();
    conn.attach(waiting);
    if (this.#options.shares?.enter(this, visitor.host) === false) {
      this.#connections--;
      return this.#turnAway(conn, visitor, tooMany("its source already has too many"));
    }
    void this.#join(conn, waiting, visitor, received);
  }

  #turnAway(conn: Conn, visitor: Address, error: SallyportError): void {
    const { code } = error;
    this.#options.metrics?.refused("visitor", code);
    this.#sampler.warn(code, { visitor: visitor.host, reason: code }, error.message);
    conn.abort(error);
  }

  async #join(conn: Conn, waiting: Waiting, remote: Address, received: Bytes | undefined): Promise<void> {
    const { metrics, runtime: { clock, memory } } = this.#options;
    const visitor = remote.host;
    metrics?.streamOpened();
    const done = (): void => {
      this.#connections--;
      this.#options.shares?.leave(this, visitor);
      metrics?.streamClosed();
    };
    // Always a promise, since an exception here would not be caught.
    const opening = Promise.try(() => this.#client.open(this.#client.target, remote));
    const late = Promise.withResolvers<never>();
    const timer = clock.after(DEMAND_OPEN_DEADLINE_MS, () => {
      const message = `Cannot reach client: no stream to it in ${DEMAND_OPEN_DEADLINE_MS / 1000} s`;
      late.reject(new SallyportError("deadline_exceeded", message, { side: "peer", retryable: true }));
    });
    let stream: ByteStream;
    try {
      stream = await Promise.race([opening, late.promise]);
    } catch (error) {
      metrics?.refused("visitor", errorCode(error));
      const reason = errorCode(error);
      this.#sampler.warn(reason, { visitor, ...this.#target(), reason }, errorMessage(error));
      done();
      conn.abort(error instanceof Error ? error : undefined);
      // A stream that opens too late is dropped.
      return void opening.then(drop, () => {});
    } finally {
      timer.cancel();
    }
    if (waiting.closed) {
      done();
      return drop(stream);
    }
    const idleTicks = DEMAND_IDLE_TICKS;
    const firstByteMs = DEMAND_ANSWER_DEADLINE_MS;
    const sides = { visitorSide: conn, agentSide: stream, stream };
    splice({ ...sides, clock, memory, idleTicks, firstByteMs, meter: metrics, done }, received);
    conn.resume();
  }
}

function tooMany(why: string): SallyportError {
  return new SallyportError("limit_exceeded", `Cannot accept connection: ${why}`, { side: "local" });
}

function drop(stream: ByteStream): void {
  stream.attach(new Waiting());
  stream.abort();
}

/** The refusal code sent to the client. */
function reasonOf(error: unknown): DemandRefusal {
  const code = errorCode(error);
  return code === "access_denied" || code === "address_in_use" ? code : "limit_exceeded";
}

/** Holds a connection until the stream to the client is open. */
class Waiting implements ByteStreamHandler {
  closed = false;
  data(): void {}
  end(): void {}
  drain(): void {}
  close(): void {
    this.closed = true;
  }
}
