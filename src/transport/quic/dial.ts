/**
 * The QUIC transport at the agent (docs/protocols/quic.md).
 *
 * @module
 */
import { BlockPool } from "../../bytes/block_pool.ts";
import type { Bytes } from "../../bytes/bytes.ts";
import { RandomPool } from "../../crypto/random.ts";
import { errorCode, errorMessage, SallyportError } from "../../errors.ts";
import type { ByteStream, ByteStreamHandler, Timer } from "../../runtime/port.ts";
import type { QuicConn, QuicConnHandler } from "../../runtime/quic_port.ts";
import { loginProof } from "../../protocol/handshake/login_proof.ts";
import {
  decodeVerdict,
  encodeLoginToken,
  LOGIN_CHALLENGE_BYTES,
  verdictCode,
  verdictLength,
} from "../../wire/login/login_messages.ts";
import { asRefusal } from "../admission.ts";
import type { DialEdgeOptions } from "../dial_edge.ts";
import type { Session, SessionHandler } from "../port.ts";
import { QUIC, QUIC_ALPN } from "./options.ts";
import { QuicSession } from "./session.ts";
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";
import { DIAL_TIMEOUT_MS } from "../../runtime/port.ts";

/**
 * QUIC: from this share of the streams that an edge may open at its agent, the agent offers some of its own; Bun lets 100
 * be open and allows the next ones when 50 have ended, so that 51 that stay could keep out all others,
 */
export const QUIC_OFFER_SHARE = 1 / 4;
/** QUIC: an agent waits so long for the edge's verdict. */
export const QUIC_VERDICT_DEADLINE_MS = 10_000;

/** What {@link dialForQuic} takes. */
export interface DialForQuicOptions extends DialEdgeOptions {
  /** The token, as the session master issued it. */
  readonly token: string;
  /** The key that stands in it. */
  readonly aesKey: Bytes;
  /** SHA-256 of the edge's certificate; no other is believed. */
  readonly edgeFingerprint: Bytes;
  readonly queueLimits?: QueueLimits;
  readonly receiveBudgetBytes?: number;
  /** Awaited when the edge has answered and before the token is shown; rejects where it isn't to be. */
  turn?(): Promise<void>;
  /** The edge has let us in; says who hears of the session. */
  admitted(session: Session): SessionHandler;
}

/**
 * Opens a session to an edge over QUIC, as its agent. Rejects with `not_supported` (no QUIC in this runtime),
 * `edge_unreachable` (no name, no answer), `certificate_refused` (another certificate than the pinned one), the edge's
 * own reason (`token_expired`, `name_taken`), `deadline_exceeded`, or the signal's reason.
 */
export async function dialForQuic(options: DialForQuicOptions): Promise<Session> {
  const { runtime, host, port, signal, edgeFingerprint } = options;
  const quic = await runtime.quic();
  const trust = { fingerprint: edgeFingerprint };
  const conn = await quic.dial({
    host,
    port,
    alpn: QUIC_ALPN,
    trust,
    timeoutMs: DIAL_TIMEOUT_MS,
    ...signal === undefined ? {} : { signal },
  }).catch((cause) => {
    if (signal?.aborted || errorCode(cause) === "certificate_refused") throw cause;
    const why = `Cannot reach edge ${host}:${port} by QUIC: ${errorMessage(cause)}`;
    throw new SallyportError("edge_unreachable", why, { side: "network", retryable: true, cause });
  });
  const offerFrom = Math.ceil(quic.capabilities.acceptedStreams * QUIC_OFFER_SHARE);
  return await new Promise((resolve, reject) => {
    void new Dialogue(options, conn, offerFrom, resolve, reject).start();
  });
}

class Dialogue implements QuicConnHandler, ByteStreamHandler {
  readonly #options: DialForQuicOptions;
  readonly #conn: QuicConn;
  readonly #resolve: (session: Session) => void;
  readonly #reject: (error: unknown) => void;
  readonly #giveUp: () => void;
  readonly #offerFrom: number;
  #timer: Timer | undefined;
  #control: ByteStream | undefined;
  readonly #token: Bytes;
  #received: Bytes = new Uint8Array(0);
  /** The edge's challenge has come and been answered; its verdict is next. */
  #proved = false;
  /** Streams of the edge's that have overtaken its verdict. */
  readonly #early: ByteStream[] = [];
  #over = false;

  constructor(
    options: DialForQuicOptions,
    conn: QuicConn,
    offerFrom: number,
    resolve: (session: Session) => void,
    reject: (error: unknown) => void,
  ) {
    this.#options = options;
    this.#conn = conn;
    this.#token = new TextEncoder().encode(options.token);
    this.#offerFrom = offerFrom;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#giveUp = () => this.#leave(options.signal?.reason);
  }

  async start(): Promise<void> {
    const { signal, runtime } = this.#options;
    signal?.addEventListener("abort", this.#giveUp, { once: true });
    if (signal?.aborted) return this.#giveUp();
    this.#conn.attach(this);
    try {
      await this.#options.turn?.();
      if (this.#over) return;
      this.#timer = runtime.clock.after(QUIC_VERDICT_DEADLINE_MS, () => {
        this.#fail("deadline_exceeded", `said nothing in ${QUIC_VERDICT_DEADLINE_MS / 1000} s`);
      });
      const control = await this.#conn.open();
      if (this.#over) return;
      this.#control = control;
      control.attach(this);
      // The proof follows once the edge's challenge is there.
      control.write(encodeLoginToken(this.#token));
    } catch (error) {
      this.#leave(asRefusal(error));
    }
  }

  // From the connection.

  stream(stream: ByteStream): void {
    this.#early.push(stream);
  }

  ended(error: SallyportError): void {
    this.#fail("session_refused", `closed: ${error.message}`);
  }

  // From the control stream.

  data(chunk: Bytes): void {
    if (this.#over) return;
    try {
      const bytes = new Uint8Array(this.#received.length + chunk.length);
      bytes.set(this.#received);
      bytes.set(chunk, this.#received.length);
      this.#received = bytes;
      if (!this.#proved) this.#prove();
      if (this.#proved) this.#judge();
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

  #prove(): void {
    if (this.#received.length < LOGIN_CHALLENGE_BYTES) return;
    const { aesKey, edgeFingerprint } = this.#options;
    const channel = this.#received.slice(0, LOGIN_CHALLENGE_BYTES);
    this.#received = this.#received.subarray(LOGIN_CHALLENGE_BYTES);
    this.#proved = true;
    const binding = { transport: QUIC, edgeKey: edgeFingerprint, channel };
    this.#control!.write(loginProof(aesKey, this.#token, binding));
  }

  #judge(): void {
    const bytes = this.#received;
    const length = verdictLength(bytes);
    if (length === undefined || bytes.length < length) return;
    const code = decodeVerdict(bytes.subarray(0, length));
    const { host, port, runtime, queueLimits, receiveBudgetBytes } = this.#options;
    if (code !== undefined) {
      const why = `Cannot open session: edge ${host}:${port} refused: ${code}`;
      return this.#leave(new SallyportError(verdictCode(code), why, { side: "peer", retryable: true }));
    }
    const session = new QuicSession({
      role: "agent",
      conn: this.#conn,
      control: this.#control!,
      clock: runtime.clock,
      random: new RandomPool(),
      blocks: new BlockPool(),
      queueLimits,
      receiveBudgetBytes,
      offerFrom: this.#offerFrom,
    });
    const handler = this.#options.admitted(session);
    this.#finish();
    session.start(handler, bytes.subarray(length));
    for (const stream of this.#early.splice(0)) session.stream(stream);
    this.#resolve(session);
  }

  #fail(code: "session_refused" | "deadline_exceeded", what: string): void {
    const { host, port } = this.#options;
    const why = `Cannot open session: edge ${host}:${port} ${what} without a verdict`;
    this.#leave(new SallyportError(code, why, { side: "peer", retryable: true }));
  }

  #leave(reason: unknown): void {
    if (this.#over) return;
    this.#finish();
    this.#conn.close(new SallyportError("aborted", "Cannot open session", { side: "local" }));
    this.#reject(reason);
  }

  #finish(): void {
    this.#over = true;
    this.#timer?.cancel();
    this.#options.signal?.removeEventListener("abort", this.#giveUp);
  }
}
