/**
 * The curve transport at the agent (docs/protocols/curve.md).
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { errorMessage, SallyportError } from "../../errors.ts";
import type { CongestionName } from "../../protocol/curve/congestion/congestion.ts";
import type { Sodium } from "../../crypto/sodium.ts";
import type { CurveOptions } from "../../protocol/curve/options.ts";
import { loginProof } from "../../protocol/handshake/login_proof.ts";
import { encodeLoginToken } from "../../wire/login/login_messages.ts";
import { ClientHandshake } from "../client_handshake.ts";
import { addressOfEdge, type DialEdgeOptions } from "../dial_edge.ts";
import type { TokenGrant } from "../grant.ts";
import { CURVE, CurveSession } from "./session.ts";
import { CurveSocketDialer, type DialledConnection } from "./socket_dialer.ts";

/** Options of {@link dialCurve}. */
interface DialCurveOptions extends DialEdgeOptions, Pick<TokenGrant, "token" | "aesKey"> {
  readonly crypto: Sodium;
  /** The edge's public key. If absent, the first key presented is trusted; see `edgeProved`. */
  readonly edgePublicKey?: Bytes;
  /** Defaults to "vegas". */
  readonly congestion?: CongestionName;
  /** Other connection options. Default to those of docs/protocols/curve.md. */
  readonly options?: Partial<CurveOptions>;
  /** The edge has proved possession of this key. */
  edgeProved?(publicKey: Bytes): void;
}

/** A session and its underlying connection. */
export interface DialledCurve {
  readonly session: CurveSession;
  readonly connection: DialledConnection;
}

/**
 * Opens a session to an edge over UDP, as its agent. Rejects with `edge_unreachable` (no name, no answer),
 * `challenge_failed` (the edge's key isn't the pinned one), the edge's own reason (`token_expired`, `name_taken`), or
 * the signal's reason.
 */
export async function dialCurve(options: DialCurveOptions): Promise<DialledCurve> {
  const { runtime, port, crypto, congestion, edgePublicKey, aesKey } = options;
  const host = await addressOfEdge(options);
  const made: { session?: CurveSession } = {};
  const handshake: ClientHandshake = new ClientHandshake({
    clock: runtime.clock,
    edge: { host, port },
    token: options.token,
    io: {
      // The transport sends no messages before the session's streams.
      write() {},
      abort: (reason) =>
        dialer.connection.close(
          reason instanceof SallyportError
            ? reason
            : new SallyportError("aborted", errorMessage(reason), { side: "local" }),
        ),
    },
    signal: options.signal,
    turn: options.turn?.bind(options),
    admitted: (session) => options.admitted(session),
    steps: (handshake) => ({
      // The connection has its own deadlines and messages.
      missing: "",
      receive() {},
      start: () => void dialer.rebind().catch((error) => handshake.fail(error)),
    }),
  });
  const dialer: CurveSocketDialer = new CurveSocketDialer({
    runtime,
    server: { host, port },
    crypto,
    serverKey: edgePublicKey,
    // INIT carries the token; the proof follows once there is a channel to bind it to.
    credential: encodeLoginToken(handshake.token),
    proof: (channel, edgeKey) => loginProof(aesKey, handshake.token, { transport: CURVE, edgeKey, channel }),
    options: congestion === undefined ? options.options : { ...options.options, congestion },
    ...options.turn === undefined ? {} : { answered: () => handshake.turn(() => dialer.proceed()) },
    serverProved: options.edgeProved?.bind(options),
    admitted: (connection) => {
      const session = made.session = new CurveSession("agent", connection, runtime.clock);
      const begin = (handler: Parameters<CurveSession["start"]>[0]) => session.start(handler);
      handshake.attempt(() => handshake.welcomed({ session, begin }, new Uint8Array(0)));
      return session;
    },
  }, (error) => handshake.fail(error));
  await handshake.start();
  return { session: made.session!, connection: dialer };
}
