/**
 * The sealed transport at the agent (docs/protocols/sealed.md).
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { errorMessage, SallyportError } from "../../errors.ts";
import { SealedAgentHandshake } from "../../protocol/handshake/sealed_agent.ts";
import type { ByteStreamHandler, Conn, Timer } from "../../runtime/port.ts";
import { loginProof } from "../../protocol/handshake/login_proof.ts";
import { decodeVerdict, encodeLogin, verdictCode } from "../../wire/login/login_messages.ts";
import { dialEdge, type DialEdgeOptions } from "../dial_edge.ts";
import type { Session, SessionHandler } from "../port.ts";
import { asRefusal } from "../admission.ts";
import { SEALED, type SealedLink, sealedLink, type SealedShared } from "./session.ts";
import { SEALED_CLOCK_SKEW_S } from "../../protocol/handshake/sealed_edge.ts";
import { SEALED_ANSWER_DEADLINE_MS } from "../../protocol/handshake/sealed_flight.ts";

/** What {@link dialSealed} takes. */
export interface DialSealedOptions extends SealedShared, DialEdgeOptions {
  /** The token, as the session master issued it. */
  readonly token: string;
  /** The key that stands in it. */
  readonly aesKey: Bytes;
  /** The edge's public key. */
  readonly edgePublicKey: Bytes;
  /** The date, by the best clock there is; the runtime's when absent. */
  readonly unixSeconds?: number;
  /** The edge has let us in; says who hears of the session. */
  admitted(session: Session): SessionHandler;
}

/**
 * Opens a session to an edge, as its agent. Rejects with `edge_unreachable` (no connection), `session_refused` (the
 * edge doesn't answer: another key, another protocol, or a clock that is wrong), `challenge_failed` (who answers isn't
 * the edge), `deadline_exceeded`, or the edge's own reason (`token_expired`, `name_taken`).
 */
export async function dialSealed(options: DialSealedOptions): Promise<Session> {
  const handshake = new SealedAgentHandshake({
    sodium: options.sodium,
    edgePublicKey: options.edgePublicKey,
    aes: options.aeads.aes !== undefined,
    unixSeconds: options.unixSeconds ?? Math.floor(options.clock.wallMs() / 1000),
  });
  const conn = await dialEdge(options);
  return await new Promise((resolve, reject) => {
    new SealedDialogue(options, conn, handshake, { resolve, reject }).start();
  });
}

interface Outcome {
  resolve(session: Session): void;
  reject(error: unknown): void;
}

class SealedDialogue implements ByteStreamHandler {
  readonly #options: DialSealedOptions;
  readonly #conn: Conn;
  readonly #handshake: SealedAgentHandshake;
  readonly #outcome: Outcome;
  readonly #giveUp: () => void;
  readonly #timer: Timer;
  #ends: SealedLink | undefined;
  #over = false;

  constructor(options: DialSealedOptions, conn: Conn, handshake: SealedAgentHandshake, outcome: Outcome) {
    this.#options = options;
    this.#conn = conn;
    this.#handshake = handshake;
    this.#outcome = outcome;
    this.#timer = options.clock.after(SEALED_ANSWER_DEADLINE_MS, () => {
      this.#fail("deadline_exceeded", `said nothing in ${SEALED_ANSWER_DEADLINE_MS / 1000} s`);
    });
    this.#giveUp = () => this.#leave(options.signal?.reason);
    options.signal?.addEventListener("abort", this.#giveUp, { once: true });
  }

  start(): void {
    this.#conn.attach(this);
    this.#conn.write(this.#handshake.first);
  }

  data(chunk: Bytes): void {
    if (this.#over) return;
    try {
      const records = this.#ends === undefined ? this.#readAnswer(chunk) : chunk;
      if (this.#ends !== undefined && records !== undefined) this.#readVerdict(this.#ends, records);
    } catch (error) {
      this.#leave(asRefusal(error));
    }
  }

  end(): void {
    this.#fail("session_refused", "closed");
  }

  drain(): void {}

  close(error?: Error): void {
    this.#fail("session_refused", error === undefined ? "closed" : `closed: ${errorMessage(error)}`);
  }

  #readAnswer(chunk: Bytes): Bytes | undefined {
    const answered = this.#handshake.push(chunk);
    if (answered === undefined) return undefined;
    this.#ends = sealedLink(this.#options, this.#conn, "agent", answered.keys);
    const { turn } = this.#options;
    if (turn === undefined) this.#login(this.#ends);
    else turn.call(this.#options).then(() => this.#login(this.#ends!), (error) => this.#leave(error));
    return answered.rest;
  }

  #login(ends: SealedLink): void {
    if (this.#over) return;
    const { aesKey, edgePublicKey } = this.#options;
    const token = new TextEncoder().encode(this.#options.token);
    const binding = { transport: SEALED, edgeKey: edgePublicKey, channel: ends.channel };
    const proof = loginProof(aesKey, token, binding);
    this.#conn.write(ends.sealer.seal(encodeLogin({ token, proof })));
  }

  #readVerdict(ends: SealedLink, records: Bytes): void {
    const record = ends.opener.openOne(records);
    if (record === undefined) return;
    const code = decodeVerdict(record.data);
    if (code !== undefined) {
      const { host, port } = this.#options;
      const why = `Cannot open session: edge ${host}:${port} refused: ${code}`;
      return this.#leave(new SallyportError(verdictCode(code), why, { side: "peer", retryable: true }));
    }
    this.#finish();
    const link = ends.link();
    link.start(this.#options.admitted(link), record.rest);
    this.#outcome.resolve(link);
  }

  #fail(code: "session_refused" | "deadline_exceeded", what: string): void {
    const { host, port } = this.#options;
    const hint = this.#ends !== undefined
      ? "after its answer"
      : "without an answer: it has another key than the one that is pinned here, doesn't speak sealed, or the clock " +
        `here is wrong by more than ${SEALED_CLOCK_SKEW_S / 60} minutes`;
    const message = `Cannot open session: edge ${host}:${port} ${what} ${hint}`;
    this.#leave(new SallyportError(code, message, { side: "peer", retryable: true }));
  }

  #leave(reason: unknown): void {
    if (this.#over) return;
    this.#finish();
    this.#ends?.opener.close();
    this.#conn.abort();
    this.#outcome.reject(reason);
  }

  #finish(): void {
    this.#over = true;
    this.#timer.cancel();
    this.#options.signal?.removeEventListener("abort", this.#giveUp);
  }
}
