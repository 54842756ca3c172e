/**
 * An in-memory host: its ports and listeners.
 *
 * @module
 */

import { isIP } from "node:net";
import { SallyportError } from "../../errors.ts";
import { MemoryConn } from "./memory_conn.ts";
import type { Direction, MemoryLink } from "./memory_link.ts";
import type { VirtualTime } from "./memory_time.ts";
import type { MemoryWorld } from "./memory.ts";
import type {
  Address,
  Bytes,
  Conn,
  ConnectHandler,
  Connecting,
  ConnectOptions,
  DatagramOptions,
  DatagramSocket,
  HttpOptions,
  HttpServer,
  Listener,
  ListenOptions,
} from "../port.ts";
import { ConnectAttempt } from "../connect.ts";
import { dialError, type Faults, listenError, noPassedSockets } from "../shared.ts";
import { formatHostPort } from "../../wire/ip/host_port.ts";

/** First ephemeral port (RFC 6335). */
const FIRST_EPHEMERAL_PORT = 49_152;
/** UDP over IPv4 (RFC 768). */
const DATAGRAM_MAX_BYTES = 65_507;

/** Something bound to an address: a listener, an HTTP server, a datagram socket. */
interface Bound<T> {
  readonly address: Address;
  readonly owner: T;
  readonly shared: boolean;
}

/** Ports of one protocol. */
class Ports<T> {
  #bound: Bound<T>[] = [];
  #next = FIRST_EPHEMERAL_PORT;

  bind(host: string, port: number, owner: T, shared = false): Bound<T> {
    const bound = { address: { host, port: port === 0 ? this.freePort() : port }, owner, shared };
    const clash = this.#bound.some(({ address: other, shared: otherShared }) =>
      !(shared && otherShared) && other.port === bound.address.port &&
      (other.host === host || isWildcard(other.host) || isWildcard(host))
    );
    if (clash) throw listenError(bound.address, { code: "EADDRINUSE" });
    this.#bound.push(bound);
    return bound;
  }

  unbind(bound: Bound<T>): void {
    this.#bound = this.#bound.filter((other) => other !== bound);
  }

  find(to: Address): Bound<T> | undefined {
    return this.#bound.findLast(({ address: { host, port } }) =>
      port === to.port && (host === to.host || host === "::" || (host === "0.0.0.0" && isIP(to.host) === 4))
    );
  }

  freePort(): number {
    for (;;) {
      const port = this.#next;
      this.#next = port === 65_535 ? FIRST_EPHEMERAL_PORT : port + 1;
      if (!this.#bound.some(({ address }) => address.port === port)) return port;
    }
  }
}

function isWildcard(host: string): boolean {
  return host === "::" || host === "0.0.0.0";
}

function isLoopback(host: string): boolean {
  return host === "::1" || host.startsWith("127.");
}

/** Accepts incoming QUIC connections. */
interface QuicAcceptor {
  arrive(caller: QuicCaller): void;
}

/** The caller of a QUIC connection, and how to reach it. */
export interface QuicCaller {
  readonly way: Way;
  readonly from: Address;
  readonly to: Address;
}

/** A path: the link, and its source and destination addresses. */
export interface Way {
  readonly host: MemoryHost | undefined;
  readonly link: MemoryLink;
  readonly direction: Direction;
  readonly from: string;
  readonly to: string;
}

/** One host of the network. */
export class MemoryHost {
  readonly #world: MemoryWorld;
  readonly #address: string;
  readonly #streams: Ports<(conn: Conn) => void> = new Ports();
  readonly #servers: Ports<MemoryServer> = new Ports();
  readonly #datagrams: Ports<DatagramOptions> = new Ports();
  readonly #quic: Ports<QuicAcceptor> = new Ports();

  constructor(world: MemoryWorld, address: string) {
    this.#world = world;
    this.#address = address;
  }

  /** The address to bind for a caller's options; throws if invalid. */
  #own(options: { host: string; port: number }): string {
    const host = options.host === "localhost" ? "127.0.0.1" : options.host;
    if (host === this.#address || isWildcard(host) || isLoopback(host)) return host;
    throw listenError(options, { code: "EADDRNOTAVAIL" });
  }

  #wayTo(address: string): Way {
    const loop = isLoopback(address);
    const to = loop ? this.#address : address;
    return {
      host: this.#world.hosts.get(to),
      link: this.#world.link(this.#address, to),
      direction: this.#address <= to ? 0 : 1,
      from: loop ? address : this.#address,
      to: address,
    };
  }

  // deno-lint-ignore require-await -- exceptions must become rejections
  async listen(options: ListenOptions): Promise<Listener> {
    if (options.descriptor !== undefined) throw noPassedSockets("the network in memory has none");
    if (options.reusePort) {
      throw new SallyportError(
        "not_supported",
        "Cannot share a port: the network in memory has one process",
        {
          side: "config",
        },
      );
    }
    const bound = this.#streams.bind(this.#own(options), options.port, (conn) => options.accept(conn));
    return { address: bound.address, close: () => this.#streams.unbind(bound) };
  }

  /** Names are looked up here: the network in memory knows them. */
  connect(options: ConnectOptions, handler: ConnectHandler): Connecting {
    const { time, names } = this.#world;
    const attempt = new ConnectAttempt(handler, time.faults);
    if ("path" in options) {
      const why = `Cannot connect to unix:${options.path}: the network in memory has none`;
      attempt.failSoon(new SallyportError("not_supported", why, { side: "local" }));
      return attempt;
    }
    const name = options.host === "localhost" ? "127.0.0.1" : names.get(options.host) ?? options.host;
    if (isIP(name) === 0) time.soon(() => attempt.failed(dialError(options, { code: "ENOTFOUND" })));
    else {
      this.#connect(name, options.port, (conn) => {
        if (conn === null) attempt.failed(dialError(options, { code: "ECONNREFUSED" }));
        else attempt.connected(conn);
      });
    }
    return attempt;
  }

  /** Calls back with the connection, or with null if nothing listens; never calls back if the host doesn't exist. */
  #connect(address: string, port: number, done: (conn: MemoryConn | null) => void): void {
    const way = this.#wayTo(address);
    const from: Address = { host: way.from, port: this.#streams.freePort() };
    const to: Address = { host: way.to, port };
    const back: Direction = way.direction === 0 ? 1 : 0;
    way.link.carry(way.direction, 0, 0, () => {
      if (way.host === undefined) return;
      const listener = way.host.#streams.find(to);
      if (listener === undefined) {
        way.link.carry(back, 0, 0, () => done(null));
        return;
      }
      const [near, far] = MemoryConn.pair(way.link, way.direction, from, to);
      way.link.carry(back, 0, 0, () => done(near));
      try {
        listener.owner(far);
      } catch (thrown) {
        far.abort(this.#world.time.faults.report("accept", thrown));
      }
    });
  }

  /** The time shared by all hosts. */
  get time(): VirtualTime {
    return this.#world.time;
  }

  /** Accepts QUIC connections at an address; returns the address and a function to stop. */
  bindQuic(options: Address, acceptor: QuicAcceptor): { readonly address: Address; unbind(): void } {
    const bound = this.#quic.bind(this.#own(options), options.port, acceptor);
    return { address: bound.address, unbind: () => this.#quic.unbind(bound) };
  }

  /**
   * Sends a QUIC connection attempt to another host's address; no answer if nothing listens. Undefined for an unknown
   * name.
   */
  knockQuic({ host, port }: Address): Way | undefined {
    const name = host === "localhost" ? "127.0.0.1" : this.#world.names.get(host) ?? host;
    if (isIP(name) === 0) return undefined;
    const way = this.#wayTo(name);
    const caller = { way, from: { host: way.from, port: this.#quic.freePort() }, to: { host: way.to, port } };
    way.link.carry(way.direction, 0, 0, () => {
      if (way.host !== undefined) way.host.#quic.find(caller.to)?.owner.arrive(caller);
    });
    return way;
  }

  // deno-lint-ignore require-await -- exceptions must become rejections
  async bindDatagram(options: DatagramOptions): Promise<DatagramSocket> {
    const bound = this.#datagrams.bind(this.#own(options), options.port, options, options.shared);
    let closed = false;
    return {
      address: bound.address,
      waiting: 0,
      send: (data, to) => !closed && this.#sendDatagram(bound.address, data, to),
      sendMany: (data, to, count) => {
        let taken = 0;
        for (let i = 0; i < count && !closed; i++) {
          if (this.#sendDatagram(bound.address, data[i]!, to[i]!)) taken++;
        }
        return taken;
      },
      close: () => {
        closed = true;
        this.#datagrams.unbind(bound);
      },
    };
  }

  #sendDatagram(local: Address, data: Bytes, to: Address): boolean {
    if (data.length > DATAGRAM_MAX_BYTES || isIP(to.host) === 0) return false;
    const way = this.#wayTo(to.host);
    const from: Address = { host: way.from, port: local.port };
    const copy = data.slice();
    way.link.carryDatagram(way.direction, data.length, () => {
      const target = way.host === undefined ? undefined : way.host.#datagrams.find(to);
      if (target === undefined) return;
      try {
        // A copy for each arrival: a duplicate must not see what a handler did to the first.
        target.owner.receive(copy.slice(), from);
      } catch (thrown) {
        this.#world.time.faults.report("datagram", thrown);
      }
    });
    return true;
  }

  // deno-lint-ignore require-await -- exceptions must become rejections
  async serveHttp(options: HttpOptions): Promise<HttpServer> {
    const server = new MemoryServer(options, this.#world.time.faults);
    const bound = this.#servers.bind(this.#own(options), options.port, server);
    return {
      address: bound.address,
      close: (graceMs) => {
        this.#servers.unbind(bound);
        const { time } = this.#world;
        return new Promise((resolve) => {
          const timer = time.at(time.nowMs + graceMs, resolve);
          server.whenQuiet(() => {
            timer.cancel();
            resolve();
          });
        });
      },
    };
  }

  /** Passes a request to the server on a port of this host. */
  answer(request: Request, port: number): Promise<Response> {
    const bound = this.#servers.find({ host: this.#address, port }) ??
      this.#servers.find({ host: "127.0.0.1", port });
    if (bound === undefined) {
      const to = formatHostPort({ host: this.#address, port });
      throw new SallyportError("connection_refused", `Cannot connect to ${to}: connection refused`, {
        side: "network",
        retryable: true,
      });
    }
    return bound.owner.answer(request, { host: "127.0.0.1", port: this.#streams.freePort() });
  }
}

/** An HTTP server without a network: requests go straight to its handler. */
class MemoryServer {
  #options: HttpOptions;
  readonly #faults: Faults;
  #open = 0;
  #quiet: (() => void) | null = null;

  constructor(options: HttpOptions, faults: Faults) {
    this.#options = options;
    this.#faults = faults;
  }

  async answer(request: Request, remote: Address): Promise<Response> {
    this.#open++;
    try {
      return await this.#options.fetch(request, remote);
    } catch (thrown) {
      this.#faults.report("http_request", thrown);
      return new Response("internal error\n", { status: 500 });
    } finally {
      if (--this.#open === 0) this.#quiet?.();
    }
  }

  /** Calls `done` once no request is in progress. */
  whenQuiet(done: () => void): void {
    this.#quiet = done;
    if (this.#open === 0) done();
  }
}
