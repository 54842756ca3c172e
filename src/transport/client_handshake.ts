/**
 * The dialling side's handshake, one for all transports: it owns the deadline, the abort signal, the turn to show a
 * token, and that all of it is settled once. A transport supplies the steps: bytes in, bytes out, without a clock or IO
 * of their own.
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
  /** Gives up when it is aborted: the promise rejects with its reason, and no connection stays behind. */
  readonly signal?: AbortSignal;
  /**
   * Awaited when all is there to show the token, and before that is done: only one of several attempts is to
   * authenticate. Where it rejects the attempt is given up with that reason. At once when absent.
   */
  turn?(): Promise<void>;
  /** The edge has let us in; gives the session's handler. */
  admitted(session: Session): SessionHandler;
}

/** What a transport's steps ask of the driver. */
export interface ClientHandshakeHost {
  /** The token, as it is shown. */
  readonly token: Bytes;
  /** Sends bytes to the edge. */
  write(bytes: Bytes): void;
  /** Sets the deadline for the next step, from now. */
  awaitFor(durationMs: number): void;
  /** All is there to show the token: `then` does so in its turn, at once where there is no other attempt. */
  turn(then: () => void): void;
  /** The edge has let us in, and `rest` are the session's first bytes. */
  welcomed(opened: OpenedSession, rest: Bytes): void;
  /** The edge has said no, with this code. */
  refused(code: string): void;
  /** The attempt comes to nothing, for this reason. */
  fail(reason: unknown): void;
}

/** One transport's part of being let in. */
export interface ClientSteps {
  /** The connection is there. */
  start(): void;
  /** Takes bytes of the edge. Throws what is wrong with them. */
  receive(bytes: Bytes): void;
  /** What the edge has left out where it closes or says nothing now: "without a verdict". */
  readonly missing: string;
  /** The attempt came to nothing: what is held for it goes. */
  drop?(): void;
}

/** What a {@link ClientHandshake} takes. */
interface ClientHandshakeOptions extends HandshakeRequest {
  readonly clock: Clock;
  /** The edge, for messages. */
  readonly edge: Address;
  /** The token, as the session master issued it. */
  readonly token: string;
  readonly io: {
    write(bytes: Bytes): void;
    /** Ends the connection: the attempt is given up. */
    abort(reason: unknown): void;
  };
  /** Makes the transport's steps. */
  steps(host: ClientHandshakeHost): ClientSteps;
}

/** How other servers begin their answer; by chance an edge's random bytes do so once in a hundred billion sessions. */
const FOREIGN: readonly (readonly [RegExp, string])[] = [
  [/^HTTP\/1\./, "HTTP"],
  [/^SSH-2\.0/, "SSH"],
  // deno-lint-ignore no-control-regex
  [/^\x15\x03[\0-\x04]\0\x02/, "TLS"],
];
/** The first bytes that tell a foreign protocol. */
const FOREIGN_BYTES = 7;

/** Opens one session. The connection's bytes go to it until it has handed them to the session. */
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
  /** The first bytes that came, one character each, until there are enough to know a foreign protocol. */
  #first = "";

  /** Throws `token_invalid` for what has no token's form: it is shown to nobody. */
  constructor(options: ClientHandshakeOptions) {
    this.#options = options;
    this.session = this.#outcome.promise;
    checkTokenShape(options.token);
    this.token = new TextEncoder().encode(options.token);
    this.#steps = options.steps(this);
  }

  /** Begins. */
  start(): Promise<Session> {
    const { signal } = this.#options;
    if (signal?.aborted) this.#giveUp();
    else {
      signal?.addEventListener("abort", this.#giveUp, { once: true });
      this.attempt(() => this.#steps.start());
    }
    return this.session;
  }

  /** Gives the attempt up for this reason; does nothing where it has been settled. */
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

  /** Takes a step; what it throws ends the attempt. */
  attempt(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.fail(asRefusal(error));
    }
  }

  /** A web server or an SSH server answers in a protocol of its own: that says more than a challenge that doesn't fit. */
  #checkForeign(chunk: Bytes): void {
    this.#first += String.fromCharCode(...chunk.subarray(0, FOREIGN_BYTES - this.#first.length));
    const protocol = FOREIGN.find(([pattern]) => pattern.test(this.#first))?.[1];
    if (protocol === undefined) return;
    const { host, port } = this.#options.edge;
    const why =
      `Cannot open session: ${host}:${port} answers in ${protocol}, so it is no edge's port for agents; ` +
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
    // A token or a key that is none.
    conn.abort();
    return Promise.reject(error);
  }
  conn.attach(handshake);
  return handshake.start();
}
