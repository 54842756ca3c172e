/**
 * A UDP socket that accepts curve connections.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { type RandomSource, systemRandom } from "../../crypto/random.ts";
import { SallyportError } from "../../errors.ts";
import type { Address, Runtime, Timer } from "../../runtime/port.ts";
import type { CurveConnection, CurveHandler } from "../../protocol/curve/connection.ts";
import type { KeyPair, Sodium } from "../../crypto/sodium.ts";
import { DrivenTimer, SocketIo } from "./socket_driver.ts";
import { type CurveOptions, curveOptions } from "../../protocol/curve/options.ts";
import { CurveServer, type ServerLimits } from "../../protocol/curve/server.ts";
import { type CurveServerStats, CurveStats } from "../../protocol/curve/stats.ts";
import type { PortGroup } from "../port_group.ts";
import { WorkerPort } from "./worker_port.ts";

/** Options of {@link bindCurve}. */
export interface BindCurveOptions {
  readonly runtime: Runtime;
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly crypto: Sodium;
  /** The long-term key. */
  readonly keys: KeyPair;
  readonly limits?: Partial<ServerLimits>;
  readonly options?: Partial<CurveOptions>;
  readonly random?: RandomSource;
  /** The processes that share the port. Defaults to this one alone. */
  readonly group?: PortGroup | undefined;
  /** A connection is established; returns its handler. Its credential follows in `introduced`. */
  accept(connection: CurveConnection): CurveHandler;
}

/** A listening socket. */
export interface CurveListener {
  readonly address: Address;
  readonly publicKey: Bytes;
  /** Current connections, and how many of those aren't admitted yet. */
  readonly size: number;
  readonly pending: number;
  readonly connections: Iterable<CurveConnection>;
  readonly stats: CurveServerStats;
  /** Datagrams that the socket didn't take. */
  readonly refusedByNetwork: number;
  /** Counters over all connections, past and present. */
  totals(): CurveStats;
  /** Closes all connections with this reason, and the socket. */
  close(reason?: SallyportError): void;
}

/** Default limits of a server. */
const DEFAULT_LIMITS: ServerLimits = {
  connectionsMax: 4_096,
  pendingMax: 4_096,
  pendingPerSourceMax: 512,
  failuresPerSourceMax: 512,
};

/** Binds a UDP socket and accepts connections. Rejects as {@link Runtime.bindDatagram} does. */
export async function bindCurve(options: BindCurveOptions): Promise<CurveListener> {
  const listener = new SocketListener(options);
  await listener.bind();
  return listener;
}

class SocketListener implements CurveListener {
  readonly #options: BindCurveOptions;
  readonly #io: SocketIo;
  readonly #server: CurveServer;
  readonly #worker: WorkerPort | undefined;
  readonly #timers = new Map<CurveConnection, DrivenTimer>();
  #rotation: Timer | undefined;
  #closed = false;
  address: Address = { host: "", port: 0 };

  constructor(options: BindCurveOptions) {
    this.#options = options;
    const { runtime, group } = options;
    const { clock, memory } = runtime;
    const connectionOptions = curveOptions({ memory, ...options.options });
    this.#io = new SocketIo(
      clock,
      options.random ?? systemRandom,
      connectionOptions.maxDatagramBytes,
      (connection) => this.#turn(connection),
    );
    const receive = (data: Bytes, from: Address) => this.#receive(data, from);
    this.#worker = group && new WorkerPort({ runtime, group, receive });
    this.#server = new CurveServer({
      crypto: options.crypto,
      io: this.#io,
      options: connectionOptions,
      limits: { ...DEFAULT_LIMITS, ...options.limits },
      keys: options.keys,
      nowMs: clock.nowMs(),
      worker: this.#worker,
      accept: (connection) => this.#accept(connection),
    });
    this.#armRotation();
  }

  async bind(): Promise<void> {
    const { runtime, host, port } = this.#options;
    const worker = this.#worker;
    const socket = await runtime.bindDatagram({
      host,
      port,
      shared: worker !== undefined,
      receive: (data, from) => {
        if (worker?.pass(data, from)) this.#server.stats.passed++;
        else this.#receive(data, from);
      },
    });
    this.#io.socket = socket;
    this.address = socket.address;
    await worker?.join(socket.address);
  }

  #receive(data: Bytes, from: Address): void {
    if (!this.#closed) this.#server.receive(data, from, this.#options.runtime.clock.nowMs());
  }

  get publicKey(): Bytes {
    return this.#server.publicKey;
  }
  get size(): number {
    return this.#server.size;
  }
  get pending(): number {
    return this.#server.pending;
  }
  get connections(): Iterable<CurveConnection> {
    return this.#server.connections;
  }
  get stats(): CurveServerStats {
    return this.#server.stats;
  }
  get refusedByNetwork(): number {
    return this.#io.refused;
  }

  totals(): CurveStats {
    const sum = new CurveStats();
    sum.add(this.#server.past);
    for (const connection of this.#server.connections) {
      void connection.gauges;
      sum.add(connection.stats);
    }
    return sum;
  }

  close(
    reason = new SallyportError("shutdown", "Session ended: the edge is shutting down", { side: "local" }),
  ): void {
    if (this.#closed) return;
    const nowMs = this.#options.runtime.clock.nowMs();
    for (const connection of [...this.#server.connections]) {
      connection.close(reason);
      connection.turn(nowMs);
      this.#timers.get(connection)?.stop();
    }
    this.#closed = true;
    this.#io.flush();
    this.#rotation?.cancel();
    this.#io.socket?.close();
    this.#worker?.close();
  }

  #accept(connection: CurveConnection): CurveHandler {
    const handler = this.#options.accept(connection);
    const timer = new DrivenTimer(
      this.#options.runtime.clock,
      connection,
      connection,
      () => this.#settle(connection),
    );
    this.#timers.set(connection, timer);
    return handler;
  }

  #turn(connection: CurveConnection): void {
    if (this.#closed) return;
    connection.turn(this.#options.runtime.clock.nowMs());
    this.#settle(connection);
  }

  #settle(connection: CurveConnection): void {
    const timer = this.#timers.get(connection);
    if (timer === undefined) return;
    if (this.#server.settle(connection)) {
      this.#timers.delete(connection);
      timer.stop();
    } else timer.arm();
  }

  /** An idle server must drop its old keys too: without a HELLO or INIT, nothing else would trigger it. */
  #armRotation(): void {
    const { clock } = this.#options.runtime;
    this.#rotation = clock.after(Math.max(1, this.#server.rotateAtMs - clock.nowMs()), () => {
      this.#server.rotate(clock.nowMs());
      this.#armRotation();
    });
  }
}
