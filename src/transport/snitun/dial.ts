/**
 * SniTun over TCP at the agent (docs/protocols/snitun.md).
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { createOpener, createSealer } from "../../crypto/header_cipher.ts";
import { AgentChallenge, CHALLENGE_DEADLINE_MS } from "../../protocol/handshake/snitun_challenge.ts";
import type { Conn } from "../../runtime/port.ts";
import { type ClientHandshakeHost, type ClientSteps, dialHandshake } from "../client_handshake.ts";
import type { ConnSession } from "../conn_session.ts";
import { dialEdge, type DialEdgeOptions } from "../dial_edge.ts";
import type { TokenGrant } from "../grant.ts";
import type { Session } from "../port.ts";
import { snitunSession, type SnitunShared } from "./session.ts";

/** Options of {@link dialSnitun}. */
export interface DialSnitunOptions extends SnitunShared, DialEdgeOptions, TokenGrant {}

/**
 * Opens a session to an edge, as its agent. Rejects with `edge_unreachable` (no connection), `session_refused` (the
 * edge closes: expired or forged token, name taken), `challenge_failed` or `cipher_failed` (not the edge that the token
 * is for), `deadline_exceeded`.
 */
export async function dialSnitun(options: DialSnitunOptions): Promise<Session> {
  const conn = await dialEdge(options);
  return await dialHandshake(options, conn, (host) => new SnitunClientSteps(host, options, conn));
}

class SnitunClientSteps implements ClientSteps {
  readonly missing =
    "without a challenge (expired token, wrong key, a name of another agent, or no port for agents)";
  readonly #host: ClientHandshakeHost;
  readonly #challenge: AgentChallenge;
  readonly #session: ConnSession;

  constructor(host: ClientHandshakeHost, options: DialSnitunOptions, conn: Conn) {
    this.#host = host;
    const { cipher, aesKey, aesIv, protocolVersion, library } = options;
    const sealer = createSealer(cipher, aesKey, aesIv, "agent", { library });
    const opener = createOpener(cipher, aesKey, aesIv, "edge", library);
    this.#challenge = new AgentChallenge(sealer, opener);
    this.#session = snitunSession(options, conn, cipher, { role: "agent", protocolVersion, sealer, opener });
  }

  start(): void {
    this.#host.turn(() => {
      this.#host.awaitFor(CHALLENGE_DEADLINE_MS);
      this.#host.write(this.#host.token);
    });
  }

  receive(bytes: Bytes): void {
    const challenged = this.#challenge.push(bytes);
    if (challenged === undefined) return;
    this.#host.write(challenged.answer);
    const session = this.#session;
    this.#host.welcomed(
      { session, begin: (handler, rest) => session.start(handler, rest) },
      challenged.rest,
    );
  }
}
