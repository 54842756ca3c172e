/**
 * Connections within this process, without a system below: what edge and agent themselves cost, counted. Nothing is copied
 * more often than a kernel would, and every call of the runtime port that costs something is counted.
 *
 * @module
 */
import type { Bytes } from "../../src/bytes/bytes.ts";
import { NO_SYSTEM_CIPHERS, type SystemCiphers } from "../../src/crypto/system_ciphers.ts";
import type {
  Address,
  ByteStreamHandler,
  Clock,
  Conn,
  ConnectHandler,
  Connecting,
  ConnectOptions,
  DialOptions,
  Listener,
  ListenOptions,
  Runtime,
} from "../../src/runtime/port.ts";
import { ConnectAttempt, dialWithin } from "../../src/runtime/connect.ts";
import { Faults } from "../../src/runtime/shared.ts";
import { Timers } from "../../src/runtime/timers.ts";

/** What has been asked of the runtime. */
export interface Asked {
  /** Writes to connections, each of which is a system call. */
  writes: number;
  /** Turns of the event loop that somebody waits for. */
  turns: number;
  /** Timers set. */
  timers: number;
  /** Times that a connection was stopped or resumed. */
  pauses: number;
}

/** How long a round of events takes. */
const ROUND_MS = 0.05;

/** The network in this process; its connections deliver when {@link settle} is called. */
export class Loopback {
  readonly asked: Asked = { writes: 0, turns: 0, timers: 0, pauses: 0 };
  readonly #listeners = new Map<number, ListenOptions>();
  #events: (() => void)[] = [];
  #port = 0;
  #nowMs = 0;

  /** A runtime on this network. Only what a visitor's way needs of one is there. */
  runtime(ciphers: SystemCiphers = NO_SYSTEM_CIPHERS): Runtime {
    const timers = new Timers();
    const faults = new Faults();
    const own = (delayMs: number, run: () => void) => timers.after(delayMs, run);
    const clock: Clock = {
      nowMs: () => this.#nowMs,
      wallMs: () => Date.now(),
      after: (delayMs, run) => {
        this.asked.timers++;
        return timers.after(delayMs, run);
      },
      soon: (run) => {
        this.asked.turns++;
        this.later(run);
      },
    };
    const connect = (options: ConnectOptions, handler: ConnectHandler) =>
      this.#connect(options, handler, faults);
    const parts = {
      name: "memory",
      version: "0",
      capabilities: { reusePort: false, hardClose: true },
      clock,
      faults,
      systemCiphers: () => ciphers,
      listen: (options: ListenOptions) => Promise.resolve(this.#listen(options)),
      // Visitors dial by it, whose timers don't count.
      dial: (options: DialOptions) => dialWithin(options, { clock: { ...clock, after: own }, connect }),
      connect,
    };
    return parts as unknown as Runtime;
  }

  /** Has `run` called by {@link settle}. */
  later(run: () => void): void {
    this.#events.push(run);
  }

  /** Runs what is to happen, and what follows from it, until nothing is left. */
  async settle(): Promise<void> {
    for (;;) {
      const events = this.#events;
      this.#events = [];
      // Time goes by events, so that what depends on it comes out the same on every machine.
      this.#nowMs += ROUND_MS;
      for (const run of events) run();
      // Promises may have more.
      for (let i = 0; i < 40 && this.#events.length === 0; i++) await undefined;
      if (this.#events.length === 0) return;
    }
  }

  #listen(options: ListenOptions): Listener {
    const port = options.port === 0 ? ++this.#port : options.port;
    this.#listeners.set(port, options);
    return { address: { host: options.host, port }, close: () => void this.#listeners.delete(port) };
  }

  #connect(options: ConnectOptions, handler: ConnectHandler, faults: Faults): Connecting {
    const attempt = new ConnectAttempt(handler, faults);
    const { host, port } = options as Address;
    const listener = this.#listeners.get(port);
    if (listener === undefined) throw new Error(`nobody listens at ${port}`);
    const here = { host: "192.0.2.7", port: 50_000 };
    const near = new LoopConn(this, here, { host, port });
    const far = new LoopConn(this, { host, port }, here);
    near.peer = far;
    far.peer = near;
    this.later(() => listener.accept(far));
    this.later(() => attempt.connected(near));
    return attempt;
  }
}

class LoopConn implements Conn {
  readonly local: Address;
  readonly remote: Address;
  peer!: LoopConn;
  readonly bufferedBytes = 0;
  readonly #network: Loopback;
  #handler: ByteStreamHandler | undefined;
  #paused = false;
  #kept: (Bytes | "end")[] = [];
  #writeEnded = false;
  #readEnded = false;
  #closed = false;

  constructor(network: Loopback, local: Address, remote: Address) {
    this.#network = network;
    this.local = local;
    this.remote = remote;
  }

  attach(handler: ByteStreamHandler): void {
    this.#handler = handler;
    if (this.#kept.length > 0) this.#network.later(() => this.#deliver());
  }

  write(chunk: Bytes): boolean {
    if (this.#writeEnded || this.#closed) return true;
    this.#network.asked.writes++;
    this.#send(chunk.slice());
    return true;
  }

  closeWrite(): void {
    if (this.#writeEnded || this.#closed) return;
    this.#writeEnded = true;
    this.#send("end");
    this.#closeIfOver();
  }

  abort(error?: Error): void {
    if (this.#closed) return;
    this.#close(error);
    const { peer } = this;
    this.#network.later(() => peer.#close(new Error("reset")));
  }

  release(): void {
    this.closeWrite();
  }

  pause(): void {
    if (!this.#paused) this.#network.asked.pauses++;
    this.#paused = true;
  }

  resume(): void {
    if (!this.#paused) return;
    this.#network.asked.pauses++;
    this.#paused = false;
    if (this.#kept.length > 0) this.#network.later(() => this.#deliver());
  }

  #send(what: Bytes | "end"): void {
    const { peer } = this;
    peer.#kept.push(what);
    this.#network.later(() => peer.#deliver());
  }

  #deliver(): void {
    while (!this.#paused && !this.#closed && this.#handler !== undefined && this.#kept.length > 0) {
      const next = this.#kept.shift()!;
      if (next !== "end") this.#handler.data(next);
      else {
        this.#readEnded = true;
        this.#handler.end();
      }
    }
    this.#closeIfOver();
  }

  #closeIfOver(): void {
    if (this.#readEnded && this.#writeEnded) this.#network.later(() => this.#close());
  }

  #close(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#handler?.close(error);
  }
}
