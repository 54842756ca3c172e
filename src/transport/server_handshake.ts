/**
 * The accepting side's handshake, shared by all transports. It owns the deadline, the token, its proof, the
 * authorization and the slot among pending connections, and settles exactly once. A transport supplies the steps: bytes
 * in, bytes out, without a clock or I/O of their own.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { FernetError } from "../crypto/fernet.ts";
import { SallyportError } from "../errors.ts";
import { checkLoginProof, type LoginBinding } from "../protocol/handshake/login_proof.ts";
import type { OpenedToken } from "../protocol/token/token_reader.ts";
import type { Address, ByteStreamHandler, Clock, Conn, Timer } from "../runtime/port.ts";
import type { Login } from "../wire/login/login_messages.ts";
import { type AgentAdmission, asRefusal } from "./admission.ts";
import type { Session, SessionHandler } from "./port.ts";

/** Deadline for the rest of the handshake after an agent's token, including the decision. */
export const DECISION_DEADLINE_MS = 60_000;

/** An agent sends less than this at once in a handshake. */
const WAITING_MAX_BYTES = 16 * 1024;

/** A session that is ready to start. */
export interface OpenedSession {
  readonly session: Session;
  /**
   * Starts it. `handler` receives its events; `rest` holds its first bytes, which arrived with the handshake's last.
   */
  begin(handler: SessionHandler, rest: Bytes): void;
}

/** The driver's interface to a transport's steps. */
export interface ServerHandshakeHost {
  /** The monotonic clock. */
  nowMs(): number;
  /** Sends bytes to the agent. */
  write(bytes: Bytes): void;
  /** Sets the deadline for the current step; on expiry `late` throws the error, or sets another deadline. */
  awaitUntil(atMs: number, late: () => void): void;
  /** Opens a token, as `tryOpenToken` does. */
  readonly openToken: AgentAdmission["openToken"];
  /** The agent has shown a genuine token; the steps check that it has the key. */
  shown(token: OpenedToken): void;
  /** The agent has shown a token and a proof of its key. */
  login(login: Login, binding: LoginBinding): void;
  /** The handshake is complete: the session starts with `rest`. */
  proved(rest: Bytes): void;
  /** The connection has been handed to another protocol, which settles the handshake. */
  handOver(): void;
}

/** One transport's part of admitting an agent. */
export interface ServerSteps {
  /**
   * Whether the peer has shown something besides a token that a stranger wouldn't have: its refusal then counts as an
   * agent's.
   */
  readonly known: boolean;
  /** Starts, before any bytes arrive. */
  start(): void;
  /** Handles bytes from the agent. Throws if they are invalid. */
  receive(bytes: Bytes): void;
  /** The agent is authorized. Requests what is missing, or reports that all is proved. */
  authorized(token: OpenedToken): void;
  /** Creates the session. */
  open(token: OpenedToken): OpenedSession;
  /** The message sent to a refused agent. Defaults to none. */
  farewell?(error: SallyportError): Bytes | undefined;
  /** When a refusal may be sent, so that its timing reveals nothing; at once if undefined or absent. */
  silentUntilMs?(): number | undefined;
  /** Handles bytes that arrive during that silence. */
  overheard?(bytes: Bytes): void;
  /** The handshake failed: releases its resources. */
  drop?(): void;
}

/** The connection under a handshake. */
export interface HandshakeIo {
  write(bytes: Bytes): void;
  /** Ends the failed connection, and calls `left` once it no longer counts as pending. */
  end(error: SallyportError, left: () => void): void;
  /** Pauses (true) or resumes (false) the agent's bytes; absent where they are always few. */
  hold?(hold: boolean): void;
}

/** A handshake's connection over TCP: the last bytes written are still sent. */
export function connIo(conn: Conn): HandshakeIo {
  return {
    write: (bytes) => void conn.write(bytes),
    end: (_error, left) => {
      conn.release();
      left();
    },
    hold: (hold) => hold ? conn.pause() : conn.resume(),
  };
}

/** Options of {@link ServerHandshake}. */
interface ServerHandshakeOptions {
  readonly admission: AgentAdmission;
  readonly clock: Clock;
  readonly io: HandshakeIo;
  /** The agent's address, as given by a trusted proxy if there is one. */
  readonly remote: Address | (() => Address);
  /** The connection is no longer pending: it was admitted or has closed. */
  left(): void;
  /** The agent has shown a genuine token: the connection now counts as an agent's. */
  known?(): void;
  /** Creates the transport's steps. */
  steps(host: ServerHandshakeHost): ServerSteps;
}

/** Admits or refuses one agent. Handles the connection's bytes until the session takes over. */
export class ServerHandshake implements ByteStreamHandler, ServerHandshakeHost {
  readonly openToken: AgentAdmission["openToken"];
  readonly #options: ServerHandshakeOptions;
  readonly #steps: ServerSteps;
  #token: OpenedToken | undefined;
  /** The error, while the refusal is delayed. */
  #wrong: SallyportError | undefined;
  #timer: Timer | undefined;
  #over = false;
  /** Whether bytes of the agent await their turn. */
  #queued = false;
  /** A deadline that has passed while they did. */
  #overdue: (() => void) | undefined;

  constructor(options: ServerHandshakeOptions) {
    this.#options = options;
    this.openToken = options.admission.openToken;
    this.#steps = options.steps(this);
  }

  /** Starts with the bytes already read from the connection. */
  start(received: Bytes): void {
    try {
      this.#steps.start();
    } catch (error) {
      this.fail(error);
    }
    this.data(received);
  }

  /** Refuses the agent with this reason; no effect once settled. */
  fail(cause: unknown): void {
    if (this.#over || this.#wrong !== undefined) return;
    const error = asRefusal(cause);
    const untilMs = this.#steps.silentUntilMs?.();
    if (untilMs === undefined) return this.#refuse(error, this.#steps.farewell?.(error));
    this.#wrong = error;
    if (untilMs <= this.nowMs()) return this.#refuse(error, undefined);
    this.#wait(untilMs, () => this.#refuse(error, undefined));
  }

  // From the connection.

  data(chunk: Bytes): void {
    if (this.#over || chunk.length === 0) return;
    const { io, admission: { slices } } = this.#options;
    if (slices === undefined || io.hold === undefined) return this.#take(chunk);
    // More bytes than a handshake has are processed at once: they are refused, or cost more to keep.
    if (slices.free || chunk.length > WAITING_MAX_BYTES) return slices.work(() => this.#take(chunk));
    io.hold(true);
    const kept = chunk.slice();
    this.#queued = true;
    slices.later(() => {
      if (this.#over) return;
      this.#queued = false;
      io.hold?.(false);
      this.#take(kept);
      // Unless they were what it waited for.
      this.#overdue?.();
    });
  }

  #take(chunk: Bytes): void {
    if (this.#wrong !== undefined) return this.#steps.overheard?.(chunk);
    try {
      this.#steps.receive(chunk);
    } catch (error) {
      this.fail(error);
    }
  }

  end(): void {
    this.close();
  }

  drain(): void {}

  close(error?: Error): void {
    // Every local way to close the connection gives the reason.
    const own = error instanceof SallyportError && error.side === "local" ? error : this.#wrong;
    const when = this.#token === undefined ? "before it presented a token" : "before it was admitted";
    this.#refuse(
      own ?? new SallyportError("connection_lost", `Cannot open session: the agent left ${when}`, {
        side: "network",
        cause: error,
      }),
      undefined,
    );
  }

  // From the steps.

  nowMs(): number {
    return this.#options.clock.nowMs();
  }

  write(bytes: Bytes): void {
    this.#options.io.write(bytes);
  }

  awaitUntil(atMs: number, late: () => void): void {
    this.#wait(atMs, () => {
      try {
        late();
      } catch (error) {
        this.fail(error);
      }
    });
  }

  login(login: Login, binding: LoginBinding): void {
    const { token, proof } = login;
    const claims = this.openToken(token);
    if (typeof claims === "string") throw new FernetError(claims);
    this.#token = { token, claims };
    checkLoginProof(proof, claims.aesKey, token, binding);
    this.shown(this.#token);
  }

  shown(token: OpenedToken): void {
    this.#token = token;
    this.#options.known?.();
    this.awaitUntil(this.nowMs() + DECISION_DEADLINE_MS, () => {
      const why = `no decision in ${DECISION_DEADLINE_MS / 1000} s`;
      throw new SallyportError("deadline_exceeded", `Cannot open session: ${why}`, { side: "local" });
    });
    const allowed: unknown = this.#options.admission.authorize(token, this.#remote);
    // TypeScript lets a hook return any value where void is expected; any thenable is awaited.
    if (typeof (allowed as PromiseLike<void> | undefined)?.then !== "function") {
      return this.#authorized(token);
    }
    Promise.resolve(allowed).then(() => this.#authorized(token)).catch((error) => this.fail(error));
  }

  proved(rest: Bytes): void {
    const token = this.#token!;
    const { session, begin } = this.#steps.open(token);
    const handler = this.#options.admission.admit(token, session, this.#remote);
    this.#finish();
    this.#options.left();
    begin(handler, rest);
  }

  handOver(): void {
    this.#finish();
    this.#options.left();
  }

  get #remote(): Address {
    const { remote } = this.#options;
    return typeof remote === "function" ? remote() : remote;
  }

  #authorized(token: OpenedToken): void {
    // The agent may have left or timed out meanwhile.
    if (this.#over || this.#wrong !== undefined) return;
    this.#steps.authorized(token);
  }

  #refuse(error: SallyportError, farewell: Bytes | undefined): void {
    if (this.#over) return;
    this.#finish();
    if (farewell !== undefined) this.write(farewell);
    this.#steps.drop?.();
    this.#options.io.end(error, () => this.#options.left());
    this.#options.admission.refused(
      error,
      this.#token,
      this.#remote,
      this.#token !== undefined || this.#steps.known,
    );
  }

  #wait(atMs: number, due: () => void): void {
    this.#timer?.cancel();
    this.#overdue = undefined;
    this.#timer = this.#options.clock.after(Math.max(0, atMs - this.nowMs()), () => {
      // Bytes that came in time count, however long this edge takes to get to them: a surge would otherwise time out
      // as a whole, and come again.
      if (this.#queued) this.#overdue = due;
      else due();
    });
  }

  #finish(): void {
    this.#over = true;
    this.#timer?.cancel();
    this.#overdue = undefined;
  }
}
