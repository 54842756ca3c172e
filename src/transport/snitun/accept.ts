/**
 * SniTun over TCP at the edge: token, challenge, multiplexer (docs/protocols/snitun.md).
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { createOpener, createSealer } from "../../crypto/header_cipher.ts";
import { SallyportError } from "../../errors.ts";
import { CHALLENGE_DEADLINE_MS, EdgeChallenge } from "../../protocol/handshake/snitun_challenge.ts";
import { type OpenedToken, TokenReader } from "../../protocol/token/token_reader.ts";
import type { Conn } from "../../runtime/port.ts";
import type { AcceptedConnection, AgentAdmission } from "../admission.ts";
import type { ConnSession } from "../conn_session.ts";
import {
  connIo,
  type OpenedSession,
  ServerHandshake,
  type ServerHandshakeHost,
  type ServerSteps,
} from "../server_handshake.ts";
import { snitunSession, type SnitunShared } from "./session.ts";

/** Admits or refuses an agent: token, authorization, challenge. Deadlines are absolute. */
export function acceptSnitun(
  accepted: AcceptedConnection,
  shared: SnitunShared,
  admission: AgentAdmission,
): void {
  const { conn, received, remote, acceptedAtMs, known, left } = accepted;
  const handshake = new ServerHandshake({
    admission,
    clock: shared.clock,
    io: connIo(conn),
    remote,
    known,
    left,
    steps: (host) => new SnitunServerSteps(host, shared, conn, acceptedAtMs),
  });
  conn.attach(handshake);
  handshake.start(received);
}

class SnitunServerSteps implements ServerSteps {
  readonly known = true;
  readonly #host: ServerHandshakeHost;
  readonly #shared: SnitunShared;
  readonly #conn: Conn;
  readonly #reader: TokenReader;
  #shownAtMs = 0;
  #session: ConnSession | undefined;
  #challenge: EdgeChallenge | undefined;

  constructor(host: ServerHandshakeHost, shared: SnitunShared, conn: Conn, acceptedAtMs: number) {
    this.#host = host;
    this.#shared = shared;
    this.#conn = conn;
    this.#reader = new TokenReader({ open: host.openToken, startedAtMs: acceptedAtMs });
  }

  start(): void {
    this.#awaitToken();
  }

  receive(bytes: Bytes): void {
    if (this.#challenge !== undefined) return this.#readAnswer(this.#challenge, bytes);
    const nowMs = this.#host.nowMs();
    const token = this.#reader.push(bytes, nowMs);
    if (token === undefined) return this.#awaitToken();
    this.#shown(token);
  }

  #shown(token: OpenedToken): void {
    this.#shownAtMs = this.#host.nowMs();
    this.#host.shown(token);
  }

  authorized({ claims }: OpenedToken): void {
    const { cipher, aesKey, aesIv, protocolVersion } = claims;
    const { library } = this.#shared;
    const sealer = createSealer(cipher, aesKey, aesIv, "edge", { library });
    const opener = createOpener(cipher, aesKey, aesIv, "agent", library);
    this.#challenge = new EdgeChallenge(sealer, opener);
    this.#session = snitunSession(this.#shared, this.#conn, cipher, {
      role: "edge",
      protocolVersion,
      sealer,
      opener,
    });
    this.#host.awaitUntil(this.#shownAtMs + CHALLENGE_DEADLINE_MS, () => {
      const why = `no answer to the challenge in ${CHALLENGE_DEADLINE_MS / 1000} s`;
      throw new SallyportError("deadline_exceeded", `Cannot open session: ${why}`, { side: "network" });
    });
    this.#host.write(this.#challenge.first);
  }

  open(): OpenedSession {
    const session = this.#session!;
    return { session, begin: (handler, rest) => session.start(handler, rest) };
  }

  #awaitToken(): void {
    this.#host.awaitUntil(this.#reader.deadlineMs, () => {
      const token = this.#reader.tick(this.#host.nowMs());
      // Timers may fire slightly early.
      if (token === undefined) this.#awaitToken();
      else this.#shown(token);
    });
  }

  #readAnswer(challenge: EdgeChallenge, bytes: Bytes): void {
    const answered = challenge.push(bytes);
    if (answered !== undefined) this.#host.proved(answered.rest);
  }
}
