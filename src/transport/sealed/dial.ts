/**
 * The sealed transport at the agent (docs/protocols/sealed.md).
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { loginProof } from "../../protocol/handshake/login_proof.ts";
import { SealedAgentHandshake } from "../../protocol/handshake/sealed_agent.ts";
import { SEALED_CLOCK_SKEW_S } from "../../protocol/handshake/sealed_edge.ts";
import { SEALED_ANSWER_DEADLINE_MS } from "../../protocol/handshake/sealed_flight.ts";
import type { Conn } from "../../runtime/port.ts";
import { decodeVerdict, encodeLogin } from "../../wire/login/login_messages.ts";
import { type ClientHandshakeHost, type ClientSteps, dialHandshake } from "../client_handshake.ts";
import { dialEdge, type DialEdgeOptions } from "../dial_edge.ts";
import type { TokenGrant } from "../grant.ts";
import type { Session } from "../port.ts";
import { SEALED, type SealedRecords, sealedRecords, type SealedShared } from "./session.ts";

/** Options of {@link dialSealed}. */
export interface DialSealedOptions
  extends SealedShared, DialEdgeOptions, Pick<TokenGrant, "token" | "aesKey"> {
  /** The edge's public key. */
  readonly edgePublicKey: Bytes;
  /** The current time, from the best clock available. Defaults to the runtime's. */
  readonly unixSeconds?: number;
}

/**
 * Opens a session to an edge, as its agent. Rejects with `edge_unreachable` (no connection), `session_refused` (the
 * edge doesn't answer: another key, another protocol, or a wrong clock), `challenge_failed` (the answer isn't from the
 * edge), `deadline_exceeded`, or the edge's own reason (`token_expired`, `name_taken`).
 */
export async function dialSealed(options: DialSealedOptions): Promise<Session> {
  const flight = new SealedAgentHandshake({
    sodium: options.sodium,
    edgePublicKey: options.edgePublicKey,
    aes: options.aeads.aes !== undefined,
    unixSeconds: options.unixSeconds ?? Math.floor(options.clock.wallMs() / 1000),
  });
  const conn = await dialEdge(options);
  return await dialHandshake(options, conn, (host) => new SealedClientSteps(host, options, conn, flight));
}

class SealedClientSteps implements ClientSteps {
  readonly #host: ClientHandshakeHost;
  readonly #options: DialSealedOptions;
  readonly #conn: Conn;
  readonly #flight: SealedAgentHandshake;
  #records: SealedRecords | undefined;

  constructor(
    host: ClientHandshakeHost,
    options: DialSealedOptions,
    conn: Conn,
    flight: SealedAgentHandshake,
  ) {
    this.#host = host;
    this.#options = options;
    this.#conn = conn;
    this.#flight = flight;
  }

  get missing(): string {
    if (this.#records !== undefined) return "after its answer";
    return "without an answer: its key isn't the one pinned here, it doesn't speak sealed, or the " +
      `clock here is wrong by more than ${SEALED_CLOCK_SKEW_S / 60} minutes`;
  }

  start(): void {
    this.#host.awaitFor(SEALED_ANSWER_DEADLINE_MS);
    this.#host.write(this.#flight.first);
  }

  receive(bytes: Bytes): void {
    if (this.#records !== undefined) return this.#readVerdict(this.#records, bytes);
    const answered = this.#flight.push(bytes);
    if (answered === undefined) return;
    const records = this.#records = sealedRecords(this.#options, this.#conn, "agent", answered.keys);
    this.#host.turn(() => this.#login(records));
    this.#readVerdict(records, answered.rest);
  }

  drop(): void {
    this.#records?.opener.close();
  }

  #login({ sealer, channel }: SealedRecords): void {
    const { aesKey, edgePublicKey } = this.#options;
    const { token } = this.#host;
    const proof = loginProof(aesKey, token, { transport: SEALED, edgeKey: edgePublicKey, channel });
    this.#host.write(sealer.seal(encodeLogin({ token, proof })));
  }

  #readVerdict(records: SealedRecords, bytes: Bytes): void {
    const record = records.opener.openOne(bytes);
    if (record === undefined) return;
    const code = decodeVerdict(record.data);
    if (code !== undefined) return this.#host.refused(code);
    const session = records.session();
    this.#host.welcomed({ session, begin: (handler, rest) => session.start(handler, rest) }, record.rest);
  }
}
