/**
 * The curve transport at the edge (docs/protocols/curve.md): a UDP socket, and the logins of agents on it.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { CongestionName } from "../../protocol/curve/congestion/congestion.ts";
import type { CurveConnection, CurveHandler } from "../../protocol/curve/connection.ts";
import type { KeyPair, Sodium } from "../../crypto/sodium.ts";
import type { CurveOptions } from "../../protocol/curve/options.ts";
import { SallyportError } from "../../errors.ts";
import { PENDING_CONNECTIONS_MAX, PENDING_PER_SOURCE_MAX, type Runtime } from "../../runtime/port.ts";
import { decodeLogin } from "../../wire/login/login_messages.ts";
import type { AgentAdmission } from "../admission.ts";
import {
  type OpenedSession,
  ServerHandshake,
  type ServerHandshakeHost,
  type ServerSteps,
} from "../server_handshake.ts";
import { CURVE, CurveSession } from "./session.ts";
import { bindCurve, type BindCurveOptions, type CurveListener } from "./socket_listener.ts";

/** Agents on one UDP socket of the curve transport, including those not yet admitted. */
export const CURVE_CONNECTIONS_MAX = 65_536;
/**
 * Failed handshakes of the curve transport per minute from one address (an IPv6 /64 counts as one); beyond it the
 * address's handshakes are dropped for the rest of the minute. Each costs a tenth of a millisecond of curve arithmetic,
 * and up to a millisecond if a token has to be checked: at most a second per minute.
 */
export const CURVE_FAILURES_PER_SOURCE_MAX = 1_024;

/** Configuration of an edge's curve transport. */
export interface CurveIdentity {
  readonly crypto: Sodium;
  /** The long-term key; agents pin its public half. */
  readonly keys: KeyPair;
  /** Defaults to "vegas". */
  readonly congestion?: CongestionName;
}

/** Options of {@link listenCurve}. */
interface ListenCurveOptions extends CurveIdentity, Pick<BindCurveOptions, "group"> {
  readonly runtime: Runtime;
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly admission: AgentAdmission;
  /** Other connection options. Default to those of docs/protocols/curve.md. */
  readonly options?: Partial<CurveOptions>;
}

/** Binds a UDP socket for agents. Rejects as {@link Runtime.bindDatagram}. */
export async function listenCurve(options: ListenCurveOptions): Promise<CurveListener> {
  const { runtime, host, port, crypto, keys, congestion, admission, group } = options;
  const { clock } = runtime;
  return await bindCurve({
    runtime,
    host,
    port,
    crypto,
    keys,
    group,
    limits: {
      connectionsMax: CURVE_CONNECTIONS_MAX,
      pendingMax: PENDING_CONNECTIONS_MAX,
      pendingPerSourceMax: PENDING_PER_SOURCE_MAX,
      failuresPerSourceMax: CURVE_FAILURES_PER_SOURCE_MAX,
    },
    options: congestion === undefined ? options.options : { ...options.options, congestion },
    accept: (connection) => {
      const handshake = new ServerHandshake({
        admission,
        clock,
        io: {
          // The transport sends no messages before the session's streams.
          write() {},
          // The error message is only logged: an operator's text may be private.
          end: ({ code }, left) => {
            connection.close(new SallyportError(code, "", { side: "local" }));
            left();
          },
        },
        remote: () => connection.path.current,
        // The listener counts connections itself, from their first packet.
        left() {},
        steps: (handshake) => new CurveServerSteps(handshake, connection, keys.publicKey, clock),
      });
      handshake.start(new Uint8Array(0));
      return new Unadmitted(handshake);
    },
  });
}

/** A connection whose agent isn't admitted yet. */
class Unadmitted implements CurveHandler {
  readonly #handshake: ServerHandshake;

  constructor(handshake: ServerHandshake) {
    this.#handshake = handshake;
  }

  introduced(credential: Bytes): void {
    this.#handshake.data(credential);
  }

  // No streams are opened before admission.
  stream(): void {}
  streamClosed(): void {}
  fault(): void {}

  closed(error: SallyportError): void {
    this.#handshake.fail(error);
  }
}

class CurveServerSteps implements ServerSteps {
  readonly #host: ServerHandshakeHost;
  readonly #connection: CurveConnection;
  readonly #edgeKey: Bytes;
  readonly #clock: Runtime["clock"];
  known = false;

  constructor(
    host: ServerHandshakeHost,
    connection: CurveConnection,
    edgeKey: Bytes,
    clock: Runtime["clock"],
  ) {
    this.#host = host;
    this.#connection = connection;
    this.#edgeKey = edgeKey;
    this.#clock = clock;
  }

  /** The connection has its own deadline. */
  start(): void {}

  /** The credential arrives in one piece. */
  receive(credential: Bytes): void {
    this.known = true;
    this.#host.login(decodeLogin(credential), {
      transport: CURVE,
      edgeKey: this.#edgeKey,
      channel: this.#connection.channel,
    });
  }

  authorized(): void {
    this.#host.proved(new Uint8Array(0));
  }

  open(): OpenedSession {
    const session = new CurveSession("edge", this.#connection, this.#clock);
    return {
      session,
      begin: (handler) => {
        session.start(handler);
        this.#connection.handler = session;
        this.#connection.admit(new Uint8Array(0));
      },
    };
  }
}
