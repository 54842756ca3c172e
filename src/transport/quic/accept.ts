/**
 * The QUIC transport at the edge (docs/protocols/quic.md): a UDP socket, and the tokens of those who come by it.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { BlockPool } from "../../bytes/block_pool.ts";
import type { Bytes } from "../../bytes/bytes.ts";
import { certificateFingerprint } from "../../crypto/certificate.ts";
import { RandomPool } from "../../crypto/random.ts";
import { SallyportError } from "../../errors.ts";
import type { OpenedToken } from "../../protocol/token/token_reader.ts";
import { sourceOf } from "../../wire/ip/networks.ts";
import type { ByteStream, ByteStreamHandler, Listener, Runtime, Timer } from "../../runtime/port.ts";
import type { QuicConn, QuicConnHandler, QuicIdentity, QuicListener } from "../../runtime/quic_port.ts";
import {
  decodeLogin,
  encodeVerdict,
  type Login,
  LOGIN_CHALLENGE_BYTES,
  loginLength,
} from "../../wire/login/login_messages.ts";
import { type AgentAdmission, asRefusal, checkLogin, openLogin } from "../admission.ts";
import { QUIC, QUIC_ALPN } from "./options.ts";
import { QuicSession } from "./session.ts";
import { CHALLENGE_DEADLINE_MS } from "../../protocol/handshake/snitun_challenge.ts";
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";
import { TOKEN_DEADLINE_MS } from "../../protocol/token/token_reader.ts";
import { LINGER_MS } from "../../runtime/port.ts";
import { QUIC_PENDING_MAX, QUIC_PENDING_PER_SOURCE_MAX } from "../../runtime/quic_port.ts";

/** What {@link listenForQuic} takes. */
export interface ListenForQuicOptions extends AgentAdmission {
  readonly runtime: Runtime;
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** The edge's certificate and key; agents pin its fingerprint. */
  readonly identity: QuicIdentity;
  readonly queueLimits?: QueueLimits;
  readonly receiveBudgetBytes?: number;
}

/** Binds a UDP socket for agents. Rejects as `Quic.listen`, and with `not_supported` where the runtime has no QUIC. */
export async function listenForQuic(options: ListenForQuicOptions): Promise<Listener> {
  const quic = await options.runtime.quic();
  const door = new Door(options);
  const listener: QuicListener = await quic.listen({
    host: options.host,
    port: options.port,
    identity: options.identity,
    alpn: [QUIC_ALPN],
    accept: (conn) => door.accept(conn),
    refused: (error) => options.refused(error, undefined, { host: "", port: 0 }, false),
  });
  return { address: listener.address, close: () => listener.end() };
}

/** What the connections of one socket share. */
class Door {
  readonly options: ListenForQuicOptions;
  /** What agents know the edge by. */
  readonly fingerprint: Bytes;
  readonly random = new RandomPool();
  readonly blocks = new BlockPool();
  /** Connections that haven't been let in, and how many there are from one source. */
  #pending = 0;
  readonly #pendingFrom = new Map<string, number>();

  constructor(options: ListenForQuicOptions) {
    this.options = options;
    this.fingerprint = certificateFingerprint(options.identity.certificatePem);
  }

  accept(conn: QuicConn): void {
    const source = sourceOf(conn.remote.host);
    const fromSource = this.#pendingFrom.get(source) ?? 0;
    if (this.#pending >= QUIC_PENDING_MAX || fromSource >= QUIC_PENDING_PER_SOURCE_MAX) {
      const error = new SallyportError(
        "limit_exceeded",
        "Cannot accept connection: too many are unfinished",
        { side: "local" },
      );
      conn.close(error);
      return this.options.refused(error, undefined, conn.remote, false);
    }
    this.#pending++;
    this.#pendingFrom.set(source, fromSource + 1);
    new QuicAcceptance(this, conn, () => {
      this.#pending--;
      const left = this.#pendingFrom.get(source)! - 1;
      if (left === 0) this.#pendingFrom.delete(source);
      else this.#pendingFrom.set(source, left);
    }).start();
  }
}

/** A connection whose agent has yet to be let in; it is handed on to its session then. */
class QuicAcceptance implements QuicConnHandler, ByteStreamHandler {
  readonly #door: Door;
  readonly #conn: QuicConn;
  readonly #settled: () => void;
  /** The agent's proof is bound to it, so that no login can be played again. */
  readonly #challenge: Bytes = new Uint8Array(randomBytes(LOGIN_CHALLENGE_BYTES));
  #control: ByteStream | undefined;
  #received: Bytes = new Uint8Array(0);
  #token: OpenedToken | undefined;
  #asked = false;
  #timer: Timer | undefined;
  #over = false;

  constructor(door: Door, conn: QuicConn, settled: () => void) {
    this.#door = door;
    this.#conn = conn;
    this.#settled = settled;
  }

  start(): void {
    this.#wait(TOKEN_DEADLINE_MS, () => this.#turnDown(late("no whole token came")));
    this.#conn.attach(this);
  }

  // From the connection.

  stream(stream: ByteStream): void {
    if (this.#control === undefined) {
      this.#control = stream;
      // Before the token is looked at: strangers learn nothing by it, and the agent needn't wait longer.
      stream.write(this.#challenge);
      stream.attach(this);
    } else {
      stream.abort();
      this.#turnDown(early());
    }
  }

  ended(error: SallyportError): void {
    this.#timer?.cancel();
    this.#refuse(error);
    // Until here it counts as unfinished: who is turned down may stay for a while.
    this.#settled();
  }

  // From the control stream.

  data(chunk: Bytes): void {
    if (this.#over) return;
    try {
      if (this.#asked) throw early();
      const bytes = new Uint8Array(this.#received.length + chunk.length);
      bytes.set(this.#received);
      bytes.set(chunk, this.#received.length);
      this.#received = bytes;
      const length = loginLength(bytes);
      if (length === undefined || bytes.length < length) return;
      this.#asked = true;
      void this.#decide(decodeLogin(bytes.subarray(0, length)), bytes.length > length);
    } catch (error) {
      this.#turnDown(error);
    }
  }

  end(): void {
    this.#turnDown(
      new SallyportError("connection_lost", "Cannot open session: the agent left", { side: "network" }),
    );
  }

  drain(): void {}

  close(error?: Error): void {
    this.#turnDown(
      error ??
        new SallyportError("connection_lost", "Cannot open session: the agent left", { side: "network" }),
    );
  }

  async #decide(login: Login, more: boolean): Promise<void> {
    const { openToken, authorize } = this.#door.options;
    try {
      if (more) throw early();
      this.#token = openLogin(login, openToken);
      const edgeKey = this.#door.fingerprint;
      checkLogin(login, this.#token, { transport: QUIC, edgeKey, channel: this.#challenge });
      this.#wait(CHALLENGE_DEADLINE_MS, () => this.#turnDown(late("nobody decided")));
      await authorize(this.#token, this.#conn.remote);
      // It may have left, or waited for too long.
      if (!this.#over) this.#admit(this.#token, this.#control!);
    } catch (error) {
      this.#turnDown(error);
    }
  }

  #admit(token: OpenedToken, control: ByteStream): void {
    const { options, random, blocks } = this.#door;
    const session = new QuicSession({
      role: "edge",
      conn: this.#conn,
      control,
      clock: options.runtime.clock,
      random,
      blocks,
      queueLimits: options.queueLimits,
      receiveBudgetBytes: options.receiveBudgetBytes,
    });
    const handler = options.admit(token, session);
    this.#over = true;
    this.#timer?.cancel();
    this.#settled();
    control.write(encodeVerdict(undefined));
    session.start(handler, new Uint8Array(0));
  }

  /** Says no, and leaves the closing to the agent for a while: what is written last gets lost otherwise. */
  #turnDown(cause: unknown): void {
    if (this.#over) return;
    const error = asRefusal(cause);
    this.#control?.write(encodeVerdict(error.code));
    this.#control?.release();
    this.#wait(
      LINGER_MS,
      () => this.#conn.close(new SallyportError(error.code, "Cannot open session", { side: "local" })),
    );
    this.#refuse(error);
  }

  #refuse(error: SallyportError): void {
    if (this.#over) return;
    this.#over = true;
    this.#door.options.refused(error, this.#token, this.#conn.remote, this.#token !== undefined);
  }

  #wait(forMs: number, due: () => void): void {
    this.#timer?.cancel();
    this.#timer = this.#door.options.runtime.clock.after(forMs, due);
  }
}

function early(): SallyportError {
  return new SallyportError(
    "token_invalid",
    "Cannot open session: something follows the login before the verdict",
    { side: "peer" },
  );
}

function late(what: string): SallyportError {
  return new SallyportError("deadline_exceeded", `Cannot open session: ${what} in time`, { side: "network" });
}
