/**
 * The QUIC transport at the agent (docs/protocols/quic.md).
 *
 * @module
 */
import { BlockPool } from "../../bytes/block_pool.ts";
import type { Bytes } from "../../bytes/bytes.ts";
import { RandomPool } from "../../crypto/random.ts";
import { errorCode, errorMessage, SallyportError } from "../../errors.ts";
import { loginProof } from "../../protocol/handshake/login_proof.ts";
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";
import { type ByteStream, DIAL_TIMEOUT_MS } from "../../runtime/port.ts";
import type { QuicConn, QuicConnHandler } from "../../runtime/quic_port.ts";
import {
  decodeVerdict,
  encodeLoginToken,
  LOGIN_CHALLENGE_BYTES,
  verdictLength,
} from "../../wire/login/login_messages.ts";
import { ClientHandshake, type ClientSteps } from "../client_handshake.ts";
import { addressOfEdge, type DialEdgeOptions } from "../dial_edge.ts";
import type { TokenGrant } from "../grant.ts";
import type { Session } from "../port.ts";
import { QUIC, QUIC_ALPN, QuicSession } from "./session.ts";

/**
 * QUIC: once an edge has opened this share of the streams it may open at its agent, the agent offers some of its own.
 * Bun allows 100 open streams and allows more only when 50 have ended, so 51 long-lived ones could block all others.
 */
export const QUIC_OFFER_SHARE = 1 / 4;
/** QUIC: how long an agent waits for the edge's verdict. */
export const QUIC_VERDICT_DEADLINE_MS = 10_000;

/** Options of {@link dialQuic}. */
interface DialQuicOptions extends DialEdgeOptions, Pick<TokenGrant, "token" | "aesKey"> {
  /** SHA-256 of the edge's certificate; no other is accepted. */
  readonly edgeFingerprint: Bytes;
  readonly queueLimits?: QueueLimits;
  readonly receiveBudgetBytes?: number;
}

/** Errors of a runtime's QUIC that say more than that the edge can't be reached. */
const TELLING: readonly string[] = ["certificate_refused", "not_supported"];

/**
 * Opens a session to an edge over QUIC, as its agent. Rejects with `not_supported` (no QUIC in this runtime, or a pinned
 * certificate whose dates it refuses),
 * `edge_unreachable` (no name, no answer), `certificate_refused` (another certificate than the pinned one), the edge's
 * own reason (`token_expired`, `name_taken`), `deadline_exceeded`, or the signal's reason.
 */
export async function dialQuic(options: DialQuicOptions): Promise<Session> {
  const { runtime, port, signal, edgeFingerprint } = options;
  const quic = await runtime.quic();
  const host = await addressOfEdge(options);
  const trust = { fingerprint: edgeFingerprint };
  const conn = await quic.dial({
    host,
    port,
    alpn: QUIC_ALPN,
    trust,
    timeoutMs: DIAL_TIMEOUT_MS,
    ...signal === undefined ? {} : { signal },
  }).catch((cause) => {
    if (signal?.aborted || TELLING.includes(errorCode(cause))) throw cause;
    const why = `Cannot reach edge ${host}:${port} by QUIC: ${errorMessage(cause)}`;
    throw new SallyportError("edge_unreachable", why, { side: "network", retryable: true, cause });
  });
  const offerFrom = Math.ceil(quic.capabilities.acceptedStreams * QUIC_OFFER_SHARE);
  let admitting: AdmittingConn;
  try {
    admitting = new AdmittingConn(options, conn, offerFrom);
  } catch (error) {
    // The token is invalid.
    conn.close(new SallyportError("aborted", "Cannot open session", { side: "local" }));
    throw error;
  }
  return await admitting.handshake.start();
}

/** A connection to an edge that hasn't admitted us yet. */
class AdmittingConn implements QuicConnHandler, ClientSteps {
  readonly handshake: ClientHandshake;
  readonly #options: DialQuicOptions;
  readonly #conn: QuicConn;
  readonly #offerFrom: number;
  #control: ByteStream | undefined;
  #received: Bytes = new Uint8Array(0);
  /** Whether the edge's challenge has been answered; its verdict is next. */
  #proved = false;
  /** Streams opened by the edge that arrived before its verdict. */
  readonly #early: ByteStream[] = [];

  constructor(options: DialQuicOptions, conn: QuicConn, offerFrom: number) {
    this.#options = options;
    this.#conn = conn;
    this.#offerFrom = offerFrom;
    const { host, port, runtime } = options;
    this.handshake = new ClientHandshake({
      clock: runtime.clock,
      edge: { host, port },
      token: options.token,
      io: {
        write: (bytes) => void this.#control?.write(bytes),
        abort: () => conn.close(new SallyportError("aborted", "Cannot open session", { side: "local" })),
      },
      signal: options.signal,
      turn: options.turn?.bind(options),
      admitted: (session) => options.admitted(session),
      steps: () => this,
    });
  }

  // From the connection.

  stream(stream: ByteStream): void {
    this.#early.push(stream);
  }

  ended(error: SallyportError): void {
    this.handshake.close(error);
  }

  // For the handshake.

  readonly missing = "without a verdict";

  start(): void {
    this.#conn.attach(this);
    this.handshake.turn(() => {
      this.handshake.awaitFor(QUIC_VERDICT_DEADLINE_MS);
      this.#conn.open().then((control) => {
        this.#control = control;
        control.attach(this.handshake);
        // The proof follows once the edge's challenge has arrived.
        control.write(encodeLoginToken(this.handshake.token));
      }, (error) => this.handshake.fail(error));
    });
  }

  receive(bytes: Bytes): void {
    const received = new Uint8Array(this.#received.length + bytes.length);
    received.set(this.#received);
    received.set(bytes, this.#received.length);
    this.#received = received;
    if (!this.#proved) this.#prove();
    if (this.#proved) this.#judge();
  }

  #prove(): void {
    if (this.#received.length < LOGIN_CHALLENGE_BYTES) return;
    const { aesKey, edgeFingerprint } = this.#options;
    const channel = this.#received.slice(0, LOGIN_CHALLENGE_BYTES);
    this.#received = this.#received.subarray(LOGIN_CHALLENGE_BYTES);
    this.#proved = true;
    const binding = { transport: QUIC, edgeKey: edgeFingerprint, channel };
    this.handshake.write(loginProof(aesKey, this.handshake.token, binding));
  }

  #judge(): void {
    const received = this.#received;
    const length = verdictLength(received);
    if (length === undefined || received.length < length) return;
    const code = decodeVerdict(received.subarray(0, length));
    if (code !== undefined) return this.handshake.refused(code);
    const { runtime, queueLimits, receiveBudgetBytes } = this.#options;
    const session = new QuicSession({
      role: "agent",
      conn: this.#conn,
      control: this.#control!,
      clock: runtime.clock,
      random: new RandomPool(),
      blocks: new BlockPool(runtime.memory),
      queueLimits,
      receiveBudgetBytes,
      offerFrom: this.#offerFrom,
    });
    const begin = (handler: Parameters<QuicSession["start"]>[0], rest: Bytes) => {
      session.start(handler, rest);
      for (const stream of this.#early.splice(0)) session.stream(stream);
    };
    this.handshake.welcomed({ session, begin }, received.subarray(length));
  }
}
