/**
 * The accepting side's handshake, one for all transports: it owns the deadline, the token, its proof, the authorization,
 * the place among the unfinished connections, and that all of it is settled once. A transport supplies the steps:
 * bytes in, bytes out, without a clock or IO of their own.
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

/** From an agent's token on, everything that is left of the handshake must be done by then, the decision included. */
export const DECISION_DEADLINE_MS = 60_000;

/** What an agent sends at once in a handshake is less than this. */
const WAITING_MAX_BYTES = 16 * 1024;

/** A session that is ready to begin. */
export interface OpenedSession {
  readonly session: Session;
  /** Begins it: `handler` hears of it, `rest` are its first bytes, which came with the handshake's last. */
  begin(handler: SessionHandler, rest: Bytes): void;
}

/** What a transport's steps ask of the driver. */
export interface ServerHandshakeHost {
  /** The monotonic clock. */
  nowMs(): number;
  /** Says something to the agent. */
  write(bytes: Bytes): void;
  /** What is awaited now must come by then; `late` throws what is wrong where it hasn't, or awaits another time. */
  awaitUntil(atMs: number, late: () => void): void;
  /** Opens a token, as `tryOpenToken` does. */
  readonly openToken: AgentAdmission["openToken"];
  /** The agent has shown a token that is genuine; whether it has the key, the steps find out. */
  shown(token: OpenedToken): void;
  /** The agent has shown a token and a proof of its key. */
  login(login: Login, binding: LoginBinding): void;
  /** Nothing more has to come: the session begins with `rest`. */
  proved(rest: Bytes): void;
  /** The connection has been handed to another protocol, which settles it. */
  handOver(): void;
}

/** One transport's part of letting an agent in. */
export interface ServerSteps {
  /** It has shown something besides a token that strangers don't have: refusing it counts as an agent's refusal. */
  readonly known: boolean;
  /** Nothing has come yet. */
  start(): void;
  /** Takes bytes of the agent. Throws what is wrong with them. */
  receive(bytes: Bytes): void;
  /** The agent may come in. Asks it for what is missing, or says that all is proved. */
  authorized(token: OpenedToken): void;
  /** Makes the session. */
  open(token: OpenedToken): OpenedSession;
  /** What is said to an agent that isn't let in; nothing when absent. */
  farewell?(error: SallyportError): Bytes | undefined;
  /** Until when a refusal is kept back, so that its time tells nothing; not at all where that is undefined or absent. */
  silentUntilMs?(): number | undefined;
  /** Bytes that come during that silence. */
  overheard?(bytes: Bytes): void;
  /** The connection came to nothing: what is held for it goes. */
  drop?(): void;
}

/** The connection below a handshake. */
export interface HandshakeIo {
  write(bytes: Bytes): void;
  /** Ends the connection, which came to nothing, and calls `left` once it doesn't count as unfinished any more. */
  end(error: SallyportError, left: () => void): void;
  /** Stops (true) or resumes (false) the agent's bytes; absent where they are never many. */
  hold?(hold: boolean): void;
}

/** A handshake's connection over TCP: what was written last still goes out. */
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

/** What a {@link ServerHandshake} takes. */
interface ServerHandshakeOptions {
  readonly admission: AgentAdmission;
  readonly clock: Clock;
  readonly io: HandshakeIo;
  /** The agent, as a trusted proxy names it where there is one. */
  readonly remote: Address | (() => Address);
  /** The connection isn't unfinished any more: it was admitted, or its end is over. */
  left(): void;
  /** The agent has shown a genuine token: the connection counts as an agent's. */
  known?(): void;
  /** Makes the transport's steps. */
  steps(host: ServerHandshakeHost): ServerSteps;
}

/** Lets one agent in, or not. The connection's bytes go to it until it has handed them to the session. */
export class ServerHandshake implements ByteStreamHandler, ServerHandshakeHost {
  readonly openToken: AgentAdmission["openToken"];
  readonly #options: ServerHandshakeOptions;
  readonly #steps: ServerSteps;
  #token: OpenedToken | undefined;
  /** What was wrong, while the refusal is kept back. */
  #wrong: SallyportError | undefined;
  #timer: Timer | undefined;
  #over = false;

  constructor(options: ServerHandshakeOptions) {
    this.#options = options;
    this.openToken = options.admission.openToken;
    this.#steps = options.steps(this);
  }

  /** Begins, with what has been read of the connection. */
  start(received: Bytes): void {
    try {
      this.#steps.start();
    } catch (error) {
      this.fail(error);
    }
    this.data(received);
  }

  /** Refuses the agent for this reason; does nothing where it has been settled. */
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
    // More than a handshake has is judged at once: it is refused, or costs more to keep.
    if (slices.free || chunk.length > WAITING_MAX_BYTES) return slices.work(() => this.#take(chunk));
    io.hold(true);
    const kept = chunk.slice();
    slices.later(() => {
      if (this.#over) return;
      io.hold?.(false);
      this.#take(kept);
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
    // Every way of ending the connection on this side gives the reason.
    const own = error instanceof SallyportError && error.side === "local" ? error : this.#wrong;
    const when = this.#token === undefined ? "before it had shown a token" : "before it was let in";
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
    // TypeScript lets a hook return anything where void is asked for; whatever can be awaited is awaited.
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
    // It may have left, or waited for too long.
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
    this.#timer = this.#options.clock.after(Math.max(0, atMs - this.nowMs()), due);
  }

  #finish(): void {
    this.#over = true;
    this.#timer?.cancel();
  }
}
