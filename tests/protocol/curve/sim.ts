/** A datagram network in virtual time: links with rate, delay, buffer, loss, reordering and duplication; a NAT. */
import { MemoryBudget } from "../../../src/bytes/memory_budget.ts";
import { NO_SYSTEM_CIPHERS } from "../../../src/crypto/system_ciphers.ts";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import type { Address, DatagramOptions, DatagramSocket, Runtime } from "../../../src/runtime/port.ts";
import { seeded } from "../../support/seeded.ts";
import { VirtualClock } from "../../support/virtual_clock.ts";

export interface LinkOptions {
  readonly delayMs: number;
  /** Bytes per millisecond; absent: any. */
  readonly rate?: number;
  /** Bytes that may wait for their turn; what comes when they are there is lost. */
  readonly bufferBytes?: number;
  readonly loss?: number;
  readonly duplicate?: number;
  /** Share of datagrams that take up to this much longer. */
  readonly reorder?: number;
  readonly reorderMs?: number;
  /** Larger datagrams vanish. */
  readonly mtu?: number;
}

/** IPv4's and UDP's heads. */
const HEADS = 28;

/** One direction of a link. */
export class Link {
  options: LinkOptions;
  down = false;
  delivered = 0;
  dropped = 0;
  /** Largest wait for the link so far, reset by whoever reads it. */
  maxQueueBytes = 0;
  readonly #clock: VirtualClock;
  readonly #random: () => number;
  #freeMs = 0;
  /** Waits seen, in bytes, for an average. */
  samples: number[] = [];

  constructor(clock: VirtualClock, options: LinkOptions, seed: number) {
    this.#clock = clock;
    this.options = options;
    this.#random = seeded(seed);
  }

  send(size: number, deliver: () => void): void {
    const {
      rate,
      bufferBytes = Infinity,
      loss = 0,
      duplicate = 0,
      reorder = 0,
      reorderMs = 0,
      mtu = 65_535,
    } = this.options;
    if (this.down || size > mtu || this.#random() < loss) return void this.dropped++;
    const nowMs = this.#clock.nowMs();
    let leaveMs = nowMs;
    if (rate !== undefined) {
      const queued = Math.max(0, this.#freeMs - nowMs) * rate;
      this.samples.push(queued);
      if (queued + size > bufferBytes) return void this.dropped++;
      this.maxQueueBytes = Math.max(this.maxQueueBytes, queued);
      leaveMs = this.#freeMs = Math.max(nowMs, this.#freeMs) + (size + HEADS) / rate;
    }
    const copies = this.#random() < duplicate ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const late = this.#random() < reorder ? this.#random() * reorderMs : 0;
      this.#clock.after(leaveMs - nowMs + this.options.delayMs + late, () => {
        this.delivered++;
        deliver();
      });
    }
  }
}

/** A datagram on its way, for tests that look at or keep what passes. */
export interface Passing {
  readonly data: Bytes;
  readonly from: Address;
  readonly to: Address;
}

interface Bound extends DatagramSocket {
  receive(data: Bytes, from: Address): void;
}

/** Hosts and the links between them. What host `a` sends goes out over `up`, comes back over `down`; others are direct. */
export class VirtualNetwork {
  readonly clock = new VirtualClock({ nowMs: 1_000 });
  /** By the client's host. */
  readonly links = new Map<string, { up: Link; down: Link }>();
  /** Sees every datagram before its link; says false to have it vanish. */
  watch: ((datagram: Passing) => boolean) | undefined;
  /** What a NAT makes of source addresses: `host:port` → address. */
  readonly nat = new Map<string, Address>();
  sent = 0;
  readonly #sockets = new Map<string, Bound>();
  #nextPort = 40_000;

  /** The runtime of a host. */
  runtime(host: string): Runtime {
    return {
      name: "memory",
      version: "0",
      capabilities: { reusePort: false, sharedDatagrams: "last", hardClose: false, passedSockets: false },
      clock: this.clock,
      descriptors: {
        limit: undefined,
        connectionsMax: undefined,
        acceptPauses: 0,
        open: () => undefined,
        watch() {},
      },
      memory: new MemoryBudget(),
      faults: { handle() {} },
      bindDatagram: (options: DatagramOptions) => Promise.resolve(this.bind(host, options)),
      listen: () => Promise.reject(new Error("no TCP here")),
      dial: () => Promise.reject(new Error("no TCP here")),
      connect: () => {
        throw new Error("no TCP here");
      },
      listenUnix: () => Promise.reject(new Error("no unix sockets here")),
      dialUnix: () => Promise.reject(new Error("no unix sockets here")),
      resolve: (name: string) => Promise.resolve([name]),
      serveHttp: () => Promise.reject(new Error("no HTTP here")),
      quic: () => Promise.reject(new Error("no QUIC here")),
      systemCiphers: () => NO_SYSTEM_CIPHERS,
    } as Runtime;
  }

  /** Connects a client's host. */
  link(host: string, up: LinkOptions, down: LinkOptions = up, seed = 1): { up: Link; down: Link } {
    const links = { up: new Link(this.clock, up, seed), down: new Link(this.clock, down, seed + 1) };
    this.links.set(host, links);
    return links;
  }

  bind(host: string, options: DatagramOptions): DatagramSocket {
    const address = { host, port: options.port === 0 ? this.#nextPort++ : options.port };
    const key = `${host}:${address.port}`;
    const socket: Bound = {
      address,
      waiting: 0,
      receive: (data, from) => options.receive(data, from),
      send: (data, to) => {
        this.#send({ data: data.slice(), from: this.nat.get(key) ?? address, to }, host);
        return true;
      },
      sendMany: (data, to, count) => {
        for (let i = 0; i < count; i++) socket.send(data[i]!, to[i]!);
        return count;
      },
      close: () => void this.#sockets.delete(key),
    };
    this.#sockets.set(key, socket);
    return socket;
  }

  /** Puts a datagram on the wire, as anybody can. */
  inject(datagram: Passing): void {
    this.#deliver(datagram);
  }

  #send(datagram: Passing, senderHost: string): void {
    this.sent++;
    if (this.watch !== undefined && !this.watch(datagram)) return;
    const link = this.links.get(senderHost)?.up ?? this.links.get(this.#behind(datagram.to).host)?.down;
    if (link === undefined) this.clock.after(0, () => this.#deliver(datagram));
    else link.send(datagram.data.length, () => this.#deliver(datagram));
  }

  /** Whom the NAT sends a datagram to; who has no mapping any more gets nothing. */
  #behind(to: Address): Address {
    for (const [key, address] of this.nat) {
      if (address.host === to.host && address.port === to.port) {
        const at = key.lastIndexOf(":");
        return { host: key.slice(0, at), port: Number(key.slice(at + 1)) };
      }
    }
    return to;
  }

  #deliver({ data, from, to }: Passing): void {
    const target = this.#behind(to);
    const key = `${target.host}:${target.port}`;
    // Behind a NAT nobody is reached by the inner address.
    if (target === to && this.nat.has(key)) return;
    this.#sockets.get(key)?.receive(data, from);
  }
}
