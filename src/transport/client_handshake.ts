/**
 * The dialling side's handshake, shared by all transports. It owns the deadline, the abort signal and the turn to show
 * a token, and settles exactly once. A transport supplies the steps: bytes in, bytes out, without a clock or I/O of
 * their own.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { errorMessage, SallyportError } from "../errors.ts";
import type { Address, ByteStreamHandler, Clock, Conn, Timer } from "../runtime/port.ts";
import { checkTokenShape } from "../protocol/token/token.ts";
import { verdictCode } from "../wire/login/login_messages.ts";
import { asRefusal } from "./admission.ts";
import type { Session, SessionHandler } from "./port.ts";
import type { OpenedSession } from "./server_handshake.ts";

/** Options that every transport's dial takes. */
export interface HandshakeRequest {
  /** Aborts the attempt: the promise rejects with the signal's reason and the connection is closed. */
  readonly signal?: AbortSignal;
  /**
   * Awaited just before the token is sent, so that only one of several parallel attempts authenticates. If it rejects,
   * the attempt is abandoned with that reason. If absent, the token is sent at once.
   */
  turn?(): Promise<void>;
  /** The edge has admitted us; returns the session's handler. */
  admitted(session: Session): SessionHandler;
}

/** The driver's interface to a transport's steps. */
export interface ClientHandshakeHost {
  /** The token, as sent. */
  readonly token: Bytes;
  /** Sends bytes to the edge. */
  write(bytes: Bytes): void;
  /** Sets the deadline for the next step, from now. */
  awaitFor(durationMs: number): void;
  /** Ready to send the token: `then` sends it in its turn, at once if there is no other attempt. */
  turn(then: () => void): void;
  /** The edge has admitted us; `rest` holds the session's first bytes. */
  welcomed(opened: OpenedSession, rest: Bytes): void;
  /** The edge has refused us with this code. */
  refused(code: string): void;
  /** Fails the attempt with this reason. */
  fail(reason: unknown): void;
}

/** One transport's part of the handshake. */
export interface ClientSteps {
  /** The connection is established. */
  start(): void;
  /** Handles bytes from the edge. Throws if they are invalid. */
  receive(bytes: Bytes): void;
  /** What is missing if the edge closes or stays silent now: "without a verdict". */
  readonly missing: string;
  /** The attempt failed: releases its resources. */
  drop?(): void;
}

/** Options of {@link ClientHandshake}. */
interface ClientHandshakeOptions extends HandshakeRequest {
  readonly clock: Clock;
  /** The edge, for messages. */
  readonly edge: Address;
  /** The token, as the session master issued it. */
  readonly token: string;
  readonly io: {
    write(bytes: Bytes): void;
    /** Aborts the connection and abandons the attempt. */
    abort(reason: unknown): void;
  };
  /** Creates the transport's steps. */
  steps(host: ClientHandshakeHost): ClientSteps;
}

/** How other servers' answers begin. An edge's random bytes match by chance once in a hundred billion sessions. */
const FOREIGN: readonly (readonly [RegExp, string])[] = [
  [/^HTTP\/1\./, "HTTP"],
  [/^SSH-2\.0/, "SSH"],
  // deno-lint-ignore no-control-regex
  [/^\x15\x03[\0-\x04]\0\x02/, "TLS"],
];
/** Number of leading bytes that identify a foreign protocol. */
const FOREIGN_BYTES = 7;

/** Opens one session. Handles the connection's bytes until the session takes over. */
export class ClientHandshake implements ByteStreamHandler, ClientHandshakeHost {
  /**
   * Rejects with `session_refused` (the edge closes), `deadline_exceeded`, the edge's own reason (`token_expired`,
   * `name_taken`), what the steps throw, or the signal's reason.
   */
  readonly session: Promise<Session>;
  readonly token: Bytes;
  readonly #options: ClientHandshakeOptions;
  readonly #steps: ClientSteps;
  readonly #outcome = Promise.withResolvers<Session>();
  readonly #giveUp = (): void => this.fail(this.#options.signal?.reason);
  #timer: Timer | undefined;
  #over = false;
  /** The first bytes received, one character each, until there are enough to recognize a foreign protocol. */
  #first = "";

  /** Throws `token_invalid` for a malformed token, which is never sent. */
  constructor(options: ClientHandshakeOptions) {
    this.#options = options;
    this.session = this.#outcome.promise;
    checkTokenShape(options.token);
    this.token = new TextEncoder().encode(options.token);
    this.#steps = options.steps(this);
  }

  /** Starts the handshake. */
  start(): Promise<Session> {
    const { signal } = this.#options;
    if (signal?.aborted) this.#giveUp();
    else {
      signal?.addEventListener("abort", this.#giveUp, { once: true });
      this.attempt(() => this.#steps.start());
    }
    return this.session;
  }

  /** Fails the attempt with this reason; no effect once settled. */
  fail(reason: unknown): void {
    if (this.#over) return;
    this.#finish();
    this.#steps.drop?.();
    this.#options.io.abort(reason);
    this.#outcome.reject(reason);
  }

  // From the connection.

  data(chunk: Bytes): void {
    if (this.#over || chunk.length === 0) return;
    if (this.#first.length < FOREIGN_BYTES) this.#checkForeign(chunk);
    if (!this.#over) this.attempt(() => this.#steps.receive(chunk));
  }

  end(): void {
    this.#unanswered("session_refused", "closed");
  }

  drain(): void {}

  close(error?: Error): void {
    this.#unanswered("session_refused", error === undefined ? "closed" : `closed (${errorMessage(error)})`);
  }

  // From the steps.

  write(bytes: Bytes): void {
    this.#options.io.write(bytes);
  }

  awaitFor(durationMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(durationMs, () => {
      this.#unanswered("deadline_exceeded", `said nothing in ${durationMs / 1000} s`);
    });
  }

  turn(then: () => void): void {
    const go = () => {
      if (!this.#over) this.attempt(then);
    };
    const { turn } = this.#options;
    if (turn === undefined) return go();
    turn.call(this.#options).then(go, (error) => this.fail(error));
  }

  welcomed({ session, begin }: OpenedSession, rest: Bytes): void {
    if (this.#over) return;
    const handler = this.#options.admitted(session);
    this.#finish();
    begin(handler, rest);
    this.#outcome.resolve(session);
  }

  refused(code: string): void {
    const { host, port } = this.#options.edge;
    const why = `Cannot open session: edge ${host}:${port} refused: ${code}`;
    this.fail(new SallyportError(verdictCode(code), why, { side: "peer", retryable: true }));
  }

  /** Runs a step; an exception ends the attempt. */
  attempt(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.fail(asRefusal(error));
    }
  }

  /** A web or SSH server answers in its own protocol; reporting that is more helpful than an invalid challenge. */
  #checkForeign(chunk: Bytes): void {
    this.#first += String.fromCharCode(...chunk.subarray(0, FOREIGN_BYTES - this.#first.length));
    const protocol = FOREIGN.find(([pattern]) => pattern.test(this.#first))?.[1];
    if (protocol === undefined) return;
    const { host, port } = this.#options.edge;
    const why =
      `Cannot open session: ${host}:${port} answers in ${protocol}, so it isn't an edge's port for agents; ` +
      "check --edge, or --public-address of the session master";
    this.fail(new SallyportError("unknown_protocol", why, { side: "peer", retryable: true }));
  }

  #unanswered(code: "session_refused" | "deadline_exceeded", what: string): void {
    const { host, port } = this.#options.edge;
    const message = `Cannot open session: edge ${host}:${port} ${what} ${this.#steps.missing}`;
    this.fail(new SallyportError(code, message, { side: "peer", retryable: true }));
  }

  #finish(): void {
    this.#over = true;
    this.#timer?.cancel();
    this.#options.signal?.removeEventListener("abort", this.#giveUp);
  }
}

/** Runs a transport's handshake on a connection over TCP. */
export function dialHandshake(
  options: HandshakeRequest & Address & Pick<ClientHandshakeOptions, "clock" | "token">,
  conn: Conn,
  steps: (host: ClientHandshakeHost) => ClientSteps,
): Promise<Session> {
  const { host, port, clock } = options;
  const io = { write: (bytes: Bytes) => void conn.write(bytes), abort: () => conn.abort() };
  let handshake: ClientHandshake;
  try {
    handshake = new ClientHandshake({
      clock,
      edge: { host, port },
      token: options.token,
      io,
      signal: options.signal,
      turn: options.turn?.bind(options),
      admitted: (session) => options.admitted(session),
      steps,
    });
  } catch (error) {
    // The token or the key is invalid.
    conn.abort();
    return Promise.reject(error);
  }
  conn.attach(handshake);
  return handshake.start();
}
