/**
 * The curve transport at the agent.
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import type { Bytes } from "../../bytes/bytes.ts";
import type { CongestionName } from "../../protocol/curve/congestion/congestion.ts";
import type { Sodium } from "../../crypto/sodium.ts";
import { type CurveLink, dialCurve } from "./socket_dialer.ts";
import type { CurveOptions } from "../../protocol/curve/options.ts";
import { errorMessage, SallyportError } from "../../errors.ts";
import { loginProof } from "../../protocol/handshake/login_proof.ts";
import { encodeLoginToken } from "../../wire/login/login_messages.ts";
import { parseIp } from "../../wire/ip/networks.ts";
import { CURVE, CurveSession } from "./session.ts";
import type { DialEdgeOptions } from "../dial_edge.ts";
import type { SessionHandler } from "../port.ts";

/** What {@link dialForCurve} takes. */
export interface DialForCurveOptions extends DialEdgeOptions {
  readonly crypto: Sodium;
  /** The token, as the session master issued it. */
  readonly token: string;
  /** The key that stands in it. */
  readonly aesKey: Bytes;
  /** The edge's public key; without it the first key that is shown is believed, see `edgeProved`. */
  readonly edgePublicKey?: Bytes;
  /** "vegas" when absent. */
  readonly congestion?: CongestionName;
  /** Anything else about the connection; the defaults of docs/protocols/curve.md when absent. */
  readonly options?: Partial<CurveOptions>;
  /** The edge has shown that it has this key. */
  edgeProved?(publicKey: Bytes): void;
  /** The edge has let us in; says who hears of the session. */
  admitted(session: CurveSession): SessionHandler;
}

/** A session, and the connection below it. */
export interface DialledCurve {
  readonly session: CurveSession;
  readonly link: CurveLink;
}

/**
 * Opens a session to an edge over UDP, as its agent. Rejects with `edge_unreachable` (no name, no answer),
 * `challenge_failed` (the edge's key isn't the pinned one), the edge's own reason (`token_expired`, `name_taken`), or
 * the signal's reason.
 */
export async function dialForCurve(options: DialForCurveOptions): Promise<DialledCurve> {
  const { runtime, port, crypto, congestion, edgePublicKey, signal } = options;
  const host = await addressOf(options.host);
  const made: { session?: CurveSession } = {};
  const token = new TextEncoder().encode(options.token);
  const link = await dialCurve({
    runtime,
    server: { host, port },
    crypto,
    serverKey: edgePublicKey,
    // The token goes with INIT; the proof follows once there is a channel that it can be bound to.
    credential: encodeLoginToken(token),
    proof: (channel, edgeKey) => loginProof(options.aesKey, token, { transport: CURVE, edgeKey, channel }),
    options: congestion === undefined ? options.options : { ...options.options, congestion },
    signal,
    turn: options.turn?.bind(options),
    serverProved: options.edgeProved?.bind(options),
    admitted: (connection) => {
      const session = new CurveSession(connection, runtime.clock);
      made.session = session;
      session.start(options.admitted(session));
      return session;
    },
  });
  return { session: made.session!, link };
}

/** The IP address of a name; of several the first, as the system sorts them. */
async function addressOf(host: string): Promise<string> {
  if (parseIp(host) !== undefined) return host;
  try {
    return (await lookup(host)).address;
  } catch (cause) {
    const why = `Cannot reach edge ${host}: ${errorMessage(cause)}`;
    throw new SallyportError("edge_unreachable", why, { side: "network", retryable: true, cause });
  }
}
