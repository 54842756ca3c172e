/**
 * An in-memory network with virtual time, for deterministic tests of everything above the port and for embedders
 * without sockets. Hosts are runtimes; any two are connected by a link with configurable behaviour.
 *
 * @module
 */

import { MemoryBudget } from "../../bytes/memory_budget.ts";
import { NO_SYSTEM_CIPHERS } from "../../crypto/system_ciphers.ts";
import { SallyportError } from "../../errors.ts";
import { VERSION } from "../../version.ts";
import { DEFAULT_LINK, type LinkSettings, MemoryLink } from "./memory_link.ts";
import { MemoryHost } from "./memory_host.ts";
import { memoryQuic } from "./memory_quic.ts";
import { seededRandom, VirtualTime } from "./memory_time.ts";
import { dialWithin } from "../connect.ts";
import type { Clock, Runtime } from "../port.ts";
import { unbracketed } from "../../wire/ip/host_port.ts";

export type { LinkSettings } from "./memory_link.ts";

/** Options of {@link createMemoryNetwork}. */
export interface MemoryNetworkOptions {
  /** Seed of all randomness. Defaults to 1. */
  readonly seed?: number;
  /** Default settings of links. */
  readonly link?: Partial<LinkSettings>;
}

/**
 * An in-memory network. Time advances only inside `advance`, `run`, `runUntilIdle` and `settle`. The same seed and the
 * same calls give the same events, to the byte.
 */
export interface MemoryNetwork {
  /** The clock shared by all its runtimes. */
  readonly clock: Clock;
  /** The runtime of the host with this IP address, by default "10.0.0.1"; every call returns the same host. */
  runtime(host?: string): Runtime;
  /** Makes `name` resolve to `host` on all hosts. */
  setName(name: string, host: string): void;
  /** Changes the settings of the link between two hosts (or a host's loopback). */
  setLink(a: string, b: string, settings: Partial<LinkSettings>): void;
  /** Cuts the link: streams stall, datagrams are lost, dials time out. Neither side is notified. */
  cut(a: string, b: string): void;
  /** Undoes `cut`; bytes sent by streams meanwhile arrive now. */
  heal(a: string, b: string): void;
  /** Breaks all connections between two hosts: both ends close with `connection_lost`. */
  reset(a: string, b: string): void;
  /** Sends a request to the `serveHttp` server at the URL's address or name. */
  fetch(url: string | URL, init?: RequestInit): Promise<Response>;
  /** Lets `durationMs` of virtual time pass. */
  advance(durationMs: number): Promise<void>;
  /** Lets virtual time pass until `nowMs()` is `untilMs`. */
  run(untilMs: number): Promise<void>;
  /** Lets time pass until no events are left. */
  runUntilIdle(): Promise<void>;
  /** Lets time pass only until `promise` settles; rejects if it can't, or hasn't by `limitMs`. */
  settle<T>(promise: Promise<T>, limitMs?: number): Promise<T>;
}

/** State shared by hosts: the hosts, and the links between them. */
export class MemoryWorld {
  readonly time: VirtualTime = new VirtualTime();
  readonly hosts: Map<string, MemoryHost> = new Map();
  readonly names: Map<string, string> = new Map();
  #links: Map<string, MemoryLink> = new Map();
  #random: () => number;
  #linkDefaults: LinkSettings;

  constructor(options: MemoryNetworkOptions) {
    this.#random = seededRandom(options.seed ?? 1);
    this.#linkDefaults = { ...DEFAULT_LINK, ...options.link };
  }

  /** The host with this address, created on first use. */
  host(address: string): MemoryHost {
    let host = this.hosts.get(address);
    if (host === undefined) this.hosts.set(address, host = new MemoryHost(this, address));
    return host;
  }

  /** The link between two hosts. */
  link(a: string, b: string): MemoryLink {
    const key = a < b ? `${a} ${b}` : `${b} ${a}`;
    let link = this.#links.get(key);
    if (link === undefined) {
      link = new MemoryLink(this.time, this.#random, this.#linkDefaults);
      this.#links.set(key, link);
    }
    return link;
  }
}

/** Creates an in-memory network. */
export function createMemoryNetwork(options: MemoryNetworkOptions = {}): MemoryNetwork {
  const world = new MemoryWorld(options);
  const { time } = world;
  const memories = new Map<string, MemoryBudget>();
  return {
    clock: time.clock,
    runtime(address = "10.0.0.1") {
      const host = world.host(address);
      const memory = memories.get(address) ?? new MemoryBudget((run) => time.clock.soon(run));
      memories.set(address, memory);
      const connect: Runtime["connect"] = (options, handler) => host.connect(options, handler);
      return {
        name: "memory",
        version: VERSION,
        capabilities: { reusePort: false, sharedDatagrams: "last", hardClose: true, passedSockets: false },
        clock: time.clock,
        descriptors: {
          limit: undefined,
          connectionsMax: undefined,
          acceptPauses: 0,
          open: () => undefined,
          watch() {},
        },
        memory,
        faults: time.faults,
        listen: (options) => host.listen(options),
        connect,
        dial: (options) => dialWithin(options, { clock: time.clock, connect }),
        dialUnix: (options) => dialWithin(options, { clock: time.clock, connect }),
        resolve: (name) => Promise.resolve([name]),
        listenUnix: ({ path }) =>
          Promise.reject(
            new SallyportError(
              "not_supported",
              `Cannot listen on unix:${path}: the network in memory has no unix sockets`,
              { side: "local" },
            ),
          ),
        bindDatagram: (options) => host.bindDatagram(options),
        serveHttp: (options) => host.serveHttp(options),
        quic: () => Promise.resolve(memoryQuic(host)),
        systemCiphers: () => NO_SYSTEM_CIPHERS,
      };
    },
    setName: (name, host) => void world.names.set(name, host),
    setLink(a, b, settings) {
      const link = world.link(a, b);
      link.settings = { ...link.settings, ...settings };
    },
    cut: (a, b) => world.link(a, b).cut(),
    heal: (a, b) => world.link(a, b).heal(),
    reset: (a, b) => world.link(a, b).reset(),
    async fetch(url, init) {
      const request = new Request(url, init);
      const { hostname, port, protocol } = new URL(request.url);
      const name = unbracketed(hostname);
      const host = world.host(world.names.get(name) ?? name);
      return await host.answer(request, port === "" ? (protocol === "https:" ? 443 : 80) : Number(port));
    },
    advance: (durationMs) => time.advance(durationMs),
    run: (untilMs) => time.run(untilMs),
    runUntilIdle: () => time.runUntilIdle(),
    settle: (promise, limitMs) => time.settle(promise, limitMs),
  };
}
