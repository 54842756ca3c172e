/**
 * A curve connection to a server, on its own UDP socket.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { type RandomSource, systemRandom } from "../../crypto/random.ts";
import { errorMessage, type InternalError, SallyportError } from "../../errors.ts";
import type { Address, DatagramSocket, Runtime } from "../../runtime/port.ts";
import { CurveClient } from "../../protocol/curve/client.ts";
import type { CurveConnection, CurveHandler } from "../../protocol/curve/connection.ts";
import type { Sodium } from "../../crypto/sodium.ts";
import { DrivenTimer, SocketIo } from "./socket_driver.ts";
import { type CurveOptions, curveOptions } from "../../protocol/curve/options.ts";

/** After this many unanswered probes the client tries another port: its NAT may have lost the old mapping. */
const PROBES_BEFORE_REBIND = 3;

/** Options of {@link CurveSocketDialer}. */
export interface CurveSocketOptions {
  readonly runtime: Runtime;
  /** The server; `host` is an IP address. */
  readonly server: Address;
  readonly crypto: Sodium;
  /** The server's long-term key. If absent, the first key seen is trusted; see `serverProved`. */
  readonly serverKey?: Bytes;
  /** At most 16,448 bytes, including the proof. */
  readonly credential: Bytes;
  /** Builds the rest of the credential; see `CurveClientParts.proof`. */
  proof?(channel: Bytes, serverKey: Bytes): Bytes;
  readonly options?: Partial<CurveOptions>;
  readonly random?: RandomSource;
  /** The server has answered; the credential is sent when `proceed` is called. If absent, it is sent at once. */
  answered?(): void;
  /** The server has proved possession of this key: time to pin it. */
  serverProved?(key: Bytes): void;
  /** Called with the server's welcome once the connection is admitted; `introduced` isn't called again. */
  admitted(connection: CurveConnection, welcome: Bytes): Omit<CurveHandler, "introduced">;
}

/** A connection to a server, on its own socket. */
export interface DialledConnection {
  readonly connection: CurveConnection;
  readonly local: Address;
  /** Moves the connection to another local port. */
  rebind(): Promise<void>;
}

/**
 * Opens a connection. Rejects with `edge_unreachable` (no answer), `challenge_failed` (another key than the pinned
 * one), the server's reason for refusing the credential, or a socket error.
 */
export async function connectCurve(options: CurveSocketOptions): Promise<DialledConnection> {
  const outcome = Promise.withResolvers<DialledConnection>();
  const dialer: CurveSocketDialer = new CurveSocketDialer({
    ...options,
    admitted: (connection, welcome) => {
      const handler = options.admitted(connection, welcome);
      outcome.resolve(dialer);
      return handler;
    },
  }, outcome.reject);
  await dialer.rebind();
  return await outcome.promise;
}

/** A client on a UDP socket; it dials once `rebind` has bound a port. */
export class CurveSocketDialer implements DialledConnection, CurveHandler {
  readonly #options: CurveSocketOptions;
  readonly #failed: (error: SallyportError) => void;
  readonly #io: SocketIo;
  readonly #client: CurveClient;
  readonly #timer: DrivenTimer;
  #handler: Omit<CurveHandler, "introduced"> | undefined;
  #proved = false;
  #over = false;
  #reboundAt = 0;

  /** @param failed called if the connection ends before it is admitted */
  constructor(options: CurveSocketOptions, failed: (error: SallyportError) => void) {
    this.#options = options;
    this.#failed = failed;
    const { clock, memory } = options.runtime;
    const connectionOptions = curveOptions({ memory, ...options.options });
    const random = options.random ?? systemRandom;
    this.#io = new SocketIo(clock, random, connectionOptions.maxDatagramBytes, () => this.#turn());
    this.#client = new CurveClient({
      crypto: options.crypto,
      io: this.#io,
      options: connectionOptions,
      server: options.server,
      serverKey: options.serverKey,
      credential: options.credential,
      ...options.proof === undefined ? {} : { proof: options.proof.bind(options) },
      handler: this,
      nowMs: clock.nowMs(),
      ...options.answered === undefined ? {} : { answered: options.answered.bind(options) },
      serverProved: (key) => {
        this.#proved = true;
        options.serverProved?.(key);
      },
    });
    this.#timer = new DrivenTimer(clock, this.#client, this.connection, () => this.#afterTick());
  }

  get connection(): CurveConnection {
    return this.#client.connection;
  }
  get local(): Address {
    return this.#io.socket!.address;
  }

  async rebind(): Promise<void> {
    const { runtime, server } = this.#options;
    const { clock } = runtime;
    // Datagrams for a replaced socket are too old to matter.
    const own: { socket: DatagramSocket | undefined } = { socket: undefined };
    const socket = await runtime.bindDatagram({
      host: server.host.includes(":") ? "::" : "0.0.0.0",
      port: 0,
      receive: (data, from) => {
        if (!this.#over && (own.socket === undefined || own.socket === this.#io.socket)) {
          this.#client.receive(data, from, clock.nowMs());
        }
      },
    });
    own.socket = socket;
    if (this.#over) return socket.close();
    this.#io.flush();
    this.#io.socket?.close();
    this.#io.socket = socket;
    if (this.#proved) this.connection.ping();
    else this.#io.wake(this.connection);
  }

  /** Sends the credential to the server, which has answered. */
  proceed(): void {
    this.#client.proceed(this.#options.runtime.clock.nowMs());
    this.#io.wake(this.connection);
  }

  #turn(): void {
    if (this.#over || this.#io.socket === undefined) return;
    this.#client.turn(this.#options.runtime.clock.nowMs());
    this.#settle();
  }

  #afterTick(): void {
    const inVain = this.connection.probesInVain;
    if (inVain < this.#reboundAt) this.#reboundAt = 0;
    if (this.#proved && inVain >= PROBES_BEFORE_REBIND + this.#reboundAt) {
      this.#reboundAt = inVain;
      this.rebind().catch(() => {});
    }
    this.#settle();
  }

  #settle(): void {
    if (!this.connection.over) return this.#timer.arm();
    this.#over = true;
    this.#timer.stop();
    this.#io.flush();
    this.#io.socket?.close();
  }

  // From the connection.

  introduced(welcome: Bytes): void {
    this.#handler = this.#options.admitted(this.connection, welcome);
  }

  stream(stream: Parameters<CurveHandler["stream"]>[0]): void {
    this.#handler?.stream(stream);
  }

  fault(error: InternalError): void {
    this.#handler?.fault?.(error);
  }

  streamClosed(stream: Parameters<CurveHandler["streamClosed"]>[0]): void {
    this.#handler?.streamClosed(stream);
  }

  closed(error: SallyportError): void {
    if (this.#handler !== undefined) return this.#handler.closed(error);
    const { host, port } = this.#options.server;
    this.#failed(
      this.#proved || error.code === "challenge_failed" ? error : new SallyportError(
        "edge_unreachable",
        `Cannot reach edge ${host}:${port} over UDP: ${errorMessage(error)}`,
        { side: "network", retryable: true, cause: error },
      ),
    );
  }
}
