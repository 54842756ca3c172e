/**
 * The curve transport at the edge: a UDP socket, and the tokens of those who come by it.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { CongestionName } from "../../protocol/curve/congestion/congestion.ts";
import type { CurveConnection } from "../../protocol/curve/connection.ts";
import type { CurveHandler } from "../../protocol/curve/connection_host.ts";
import type { KeyPair, Sodium } from "../../crypto/sodium.ts";
import { type CurveListener, listenCurve } from "./socket_listener.ts";
import type { CurveOptions } from "../../protocol/curve/options.ts";
import { SallyportError } from "../../errors.ts";
import type { OpenedToken } from "../../protocol/token/token_reader.ts";
import type { Clock, Runtime } from "../../runtime/port.ts";
import { decodeLogin } from "../../wire/login/login_messages.ts";
import { type AgentAdmission, asRefusal, checkLogin, openLogin } from "../admission.ts";
import { CURVE, CurveSession } from "./session.ts";
import { PENDING_CONNECTIONS_MAX, PENDING_PER_SOURCE_MAX } from "../../runtime/port.ts";

/** Agents of one UDP socket of the curve transport, those included that aren't let in yet. */
export const CURVE_CONNECTIONS_MAX = 65_536;
/**
 * Handshakes of the curve transport in a minute that come to nothing, from one address (an IPv6 /64 counts as one); beyond
 * it the address's handshakes are dropped for the rest of the minute. Each costs a tenth of a millisecond on the curve, and up to
 * one where a token has to be judged: a second of a minute at most.
 */
export const CURVE_FAILURES_PER_SOURCE_MAX = 1_024;

/** What an edge needs to speak the curve transport. */
export interface CurveIdentity {
  readonly crypto: Sodium;
  /** The long-lived key; agents pin its public half. */
  readonly keys: KeyPair;
  /** "vegas" when absent. */
  readonly congestion?: CongestionName;
}

/** What {@link listenForCurve} takes. */
export interface ListenForCurveOptions extends CurveIdentity, AgentAdmission {
  readonly runtime: Runtime;
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** Anything else about connections; the defaults of docs/protocols/curve.md when absent. */
  readonly options?: Partial<CurveOptions>;
}

/** Binds a UDP socket for agents. Rejects as {@link Runtime.bindDatagram}. */
export async function listenForCurve(options: ListenForCurveOptions): Promise<CurveListener> {
  const { runtime, host, port, crypto, keys, congestion } = options;
  return await listenCurve({
    runtime,
    host,
    port,
    crypto,
    keys,
    limits: {
      connectionsMax: CURVE_CONNECTIONS_MAX,
      pendingMax: PENDING_CONNECTIONS_MAX,
      pendingPerSourceMax: PENDING_PER_SOURCE_MAX,
      failuresPerSourceMax: CURVE_FAILURES_PER_SOURCE_MAX,
    },
    options: congestion === undefined ? options.options : { ...options.options, congestion },
    accept: (connection) => new CurveAcceptance(options, runtime.clock, connection),
  });
}

/** A connection whose agent has yet to be let in; it is handed on to its session then. */
class CurveAcceptance implements CurveHandler {
  readonly #options: ListenForCurveOptions;
  readonly #clock: Clock;
  readonly #connection: CurveConnection;
  #token: OpenedToken | undefined;
  #why: SallyportError | undefined;
  #known = false;
  #over = false;

  constructor(options: ListenForCurveOptions, clock: Clock, connection: CurveConnection) {
    this.#options = options;
    this.#clock = clock;
    this.#connection = connection;
  }

  introduced(bytes: Bytes): void {
    this.#known = true;
    void this.#decide(bytes);
  }

  // Nothing of the kind comes before admission.
  stream(): void {}
  streamClosed(): void {}

  closed(error: SallyportError): void {
    if (this.#over) return;
    this.#over = true;
    this.#options.refused(this.#why ?? error, this.#token, this.#connection.path.current, this.#known);
  }

  async #decide(bytes: Bytes): Promise<void> {
    try {
      const login = decodeLogin(bytes);
      this.#token = openLogin(login, this.#options.openToken);
      checkLogin(login, this.#token, {
        transport: CURVE,
        edgeKey: this.#options.keys.publicKey,
        channel: this.#connection.channel,
      });
      await this.#options.authorize(this.#token, this.#connection.path.current);
      // It may have left, or waited for too long.
      if (!this.#over) this.#admit(this.#token);
    } catch (error) {
      this.#why = asRefusal(error);
      // Why in words is for the log: an operator's own say may hold what isn't for strangers.
      this.#connection.close(new SallyportError(this.#why.code, "", { side: "local" }));
    }
  }

  #admit(token: OpenedToken): void {
    const session = new CurveSession(this.#connection, this.#clock);
    session.start(this.#options.admit(token, session));
    this.#over = true;
    this.#connection.handler = session;
    this.#connection.admit(new Uint8Array(0));
  }
}
