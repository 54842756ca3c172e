/**
 * Relays that misbehave as networks do: they delay, lose, stall without a word, and cut.
 *
 * @module
 */
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

/** What a relay does with bytes. */
export type RelayMode = "pass" | "delay" | "lose" | "stall";

const DELAY_MS = 300;
/** The share of packets that are lost; over TCP, of chunks that come late, as after a retransmission. */
const LOSS = 0.1;
const RETRANSMITTED_MIN_MS = 200;
const RETRANSMITTED_MAX_MS = 1_000;
/** Packets of a network that loses some also overtake each other. */
const JITTER_MS = 20;

/** One direction of a connection: what is late is passed on in order. */
interface Way {
  dueMs: number;
  readonly waiting: (() => void)[];
}

/** One TCP relay to one port of this machine. */
export class Relay {
  #mode: RelayMode = "pass";
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  /** What a stalled relay holds back, in order. */
  #held: (() => void)[] = [];
  #server: Server | undefined;

  constructor(readonly port: number, readonly to: number) {}

  /** Takes connections. */
  async open(): Promise<void> {
    if (this.#server !== undefined) return;
    this.#server = createServer({ allowHalfOpen: true }, (near) => {
      const far = connect({ port: this.to, host: "127.0.0.1", allowHalfOpen: true });
      const pair = [near, far] as const;
      this.#pairs.add(pair);
      for (const [from, into] of [[near, far], [far, near]] as const) {
        const way: Way = { dueMs: 0, waiting: [] };
        from.on("data", (chunk) => this.#pass(way, () => into.write(chunk)));
        from.on("end", () => this.#pass(way, () => into.end()));
        from.on("error", () => {});
        from.on("close", () => {
          this.#pairs.delete(pair);
          this.#pass(way, () => into.destroy());
        });
      }
    });
    this.#server.listen(this.port, "127.0.0.1");
    await once(this.#server, "listening");
  }

  /** Takes no connections, as a machine without the program: one that takes and closes them looks like a refusing edge. */
  refuse(): void {
    this.#server?.close();
    this.#server = undefined;
  }

  /** From now on. What a stall held back comes when it is over. */
  set mode(mode: RelayMode) {
    this.#mode = mode;
    if (mode === "stall") return;
    for (const act of this.#held.splice(0)) act();
  }

  /** Ends every connection without a word to either side's program. */
  cut(): void {
    this.#held = [];
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
    this.#pairs.clear();
  }

  close(): void {
    this.cut();
    this.refuse();
  }

  #pass(way: Way, act: () => void): void {
    if (this.#mode === "stall") return void this.#held.push(act);
    const nowMs = performance.now();
    const late = this.#mode === "delay"
      ? DELAY_MS
      : this.#mode === "lose" && Math.random() < LOSS
      ? RETRANSMITTED_MIN_MS + Math.random() * (RETRANSMITTED_MAX_MS - RETRANSMITTED_MIN_MS)
      : 0;
    // What follows waits for what is late.
    way.dueMs = Math.max(way.dueMs, nowMs + late);
    if (way.dueMs <= nowMs && way.waiting.length === 0) return act();
    way.waiting.push(act);
    setTimeout(() => way.waiting.shift()!(), way.dueMs - nowMs);
  }
}

/** One UDP relay to one port of this machine, with a socket of its own for each peer. */
export class UdpRelay {
  mode: RelayMode = "pass";
  readonly #front = createSocket("udp4");
  readonly #backs = new Map<number, UdpSocket>();
  #closed = false;

  constructor(port: number, to: number) {
    this.#front.on("message", (packet, peer) => {
      let back = this.#backs.get(peer.port);
      if (back === undefined) {
        this.#backs.set(peer.port, back = createSocket("udp4"));
        back.on("message", (answer) => this.#pass(() => this.#front.send(answer, peer.port, peer.address)));
        back.on("error", () => {});
      }
      this.#pass(() => back.send(packet, to, "127.0.0.1"));
    });
    this.#front.on("error", () => {});
    this.#front.bind(port, "127.0.0.1");
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.mode = "stall";
    for (const socket of [this.#front, ...this.#backs.values()]) socket.close();
  }

  #pass(act: () => void): void {
    if (this.mode === "stall" || (this.mode === "lose" && Math.random() < LOSS)) return;
    const lateMs = this.mode === "delay" ? DELAY_MS : this.mode === "lose" ? Math.random() * JITTER_MS : 0;
    if (lateMs === 0) act();
    else setTimeout(() => this.mode !== "stall" && act(), lateMs);
  }
}
