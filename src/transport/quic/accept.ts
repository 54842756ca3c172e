/**
 * The QUIC transport at the edge (docs/protocols/quic.md): a UDP socket, and the logins of agents on it.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { BlockPool } from "../../bytes/block_pool.ts";
import { type Bytes, concat } from "../../bytes/bytes.ts";
import { certificateFingerprint } from "../../crypto/certificate.ts";
import { RandomPool } from "../../crypto/random.ts";
import { SallyportError } from "../../errors.ts";
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";
import { TOKEN_DEADLINE_MS } from "../../protocol/token/token_reader.ts";
import { type ByteStream, LINGER_MS, type Listener, type Runtime } from "../../runtime/port.ts";
import {
  QUIC_PENDING_MAX,
  QUIC_PENDING_PER_SOURCE_MAX,
  type QuicConn,
  type QuicConnHandler,
  type QuicIdentity,
} from "../../runtime/quic_port.ts";
import {
  decodeLogin,
  encodeVerdict,
  LOGIN_CHALLENGE_BYTES,
  loginLength,
} from "../../wire/login/login_messages.ts";
import type { AgentAdmission } from "../admission.ts";
import { PendingConnections } from "../../wire/ip/pending_connections.ts";
import {
  type HandshakeIo,
  type OpenedSession,
  ServerHandshake,
  type ServerSteps,
} from "../server_handshake.ts";
import { QUIC, QUIC_ALPN, QuicSession } from "./session.ts";

/** Options of {@link listenQuic}. */
interface ListenQuicOptions {
  readonly runtime: Runtime;
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** The edge's certificate and key; agents pin its fingerprint. */
  readonly identity: QuicIdentity;
  readonly admission: AgentAdmission;
  readonly queueLimits?: QueueLimits;
  readonly receiveBudgetBytes?: number;
}

/** State shared by the connections of one socket. */
interface SocketShared {
  readonly options: ListenQuicOptions;
  /** The certificate fingerprint that identifies the edge to agents. */
  readonly fingerprint: Bytes;
  readonly random: RandomPool;
  readonly blocks: BlockPool;
}

/** Binds a UDP socket for agents. Rejects as `Quic.listen`, and with `not_supported` where the runtime has no QUIC. */
export async function listenQuic(options: ListenQuicOptions): Promise<Listener> {
  const { runtime, identity, admission } = options;
  const quic = await runtime.quic();
  const pending = new PendingConnections(QUIC_PENDING_MAX, QUIC_PENDING_PER_SOURCE_MAX);
  const shared: SocketShared = {
    options,
    fingerprint: certificateFingerprint(identity.certificatePem),
    random: new RandomPool(),
    blocks: new BlockPool(runtime.memory),
  };
  const listener = await quic.listen({
    host: options.host,
    port: options.port,
    identity,
    alpn: [QUIC_ALPN],
    accept: (conn) => {
      const left = pending.enter(conn.remote.host);
      if (left !== undefined) return void new UnadmittedConn(shared, conn, left);
      const why = "Cannot accept connection: too many are unfinished";
      const error = new SallyportError("limit_exceeded", why, { side: "local" });
      conn.close(error);
      admission.refused(error, undefined, conn.remote, false);
    },
    refused: (error) => admission.refused(error, undefined, { host: "", port: 0 }, false),
  });
  return { address: listener.address, close: () => listener.end() };
}

/** A connection whose agent isn't admitted yet; on admission it is handed to its session. */
class UnadmittedConn implements QuicConnHandler, HandshakeIo, ServerSteps {
  /** Anyone can open a connection: it counts as an agent's once a genuine token has arrived. */
  readonly known = false;
  readonly #shared: SocketShared;
  readonly #conn: QuicConn;
  readonly #left: () => void;
  readonly #handshake: ServerHandshake;
  /** The agent's proof is bound to it, so that a login can't be replayed. */
  readonly #challenge: Bytes = new Uint8Array(randomBytes(LOGIN_CHALLENGE_BYTES));
  #control: ByteStream | undefined;
  #received: Bytes = new Uint8Array(0);
  #asked = false;

  constructor(shared: SocketShared, conn: QuicConn, left: () => void) {
    this.#shared = shared;
    this.#conn = conn;
    this.#left = left;
    this.#handshake = new ServerHandshake({
      admission: shared.options.admission,
      clock: shared.options.runtime.clock,
      io: this,
      remote: () => conn.remote,
      left,
      steps: () => this,
    });
    this.#handshake.start(new Uint8Array(0));
    conn.attach(this);
  }

  // From the connection.

  stream(stream: ByteStream): void {
    if (this.#control !== undefined) {
      stream.abort();
      return this.#handshake.fail(early());
    }
    this.#control = stream;
    // Sent before the token is checked: it reveals nothing to strangers.
    stream.write(this.#challenge);
    stream.attach(this.#handshake);
  }

  ended(error: SallyportError): void {
    this.#handshake.fail(error);
    // Until here the connection counts as pending: a refused one may linger.
    this.#left();
  }

  // For the handshake, below it.

  write(bytes: Bytes): void {
    this.#control?.write(bytes);
  }

  /** Gives the agent time to close first: otherwise the last bytes written may be lost. */
  end({ code }: SallyportError): void {
    this.#control?.release();
    this.#shared.options.runtime.clock.after(LINGER_MS, () => {
      this.#conn.close(new SallyportError(code, "Cannot open session", { side: "local" }));
    });
  }

  // For the handshake, above it.

  start(): void {
    this.#handshake.awaitUntil(this.#handshake.nowMs() + TOKEN_DEADLINE_MS, () => {
      const why = `no complete login within ${TOKEN_DEADLINE_MS / 1000} s`;
      throw new SallyportError("deadline_exceeded", `Cannot open session: ${why}`, { side: "network" });
    });
  }

  receive(bytes: Bytes): void {
    if (this.#asked) throw early();
    const received = this.#received = concat([this.#received, bytes]);
    const length = loginLength(received);
    if (length === undefined || received.length < length) return;
    this.#asked = true;
    if (received.length > length) throw early();
    this.#handshake.login(decodeLogin(received), {
      transport: QUIC,
      edgeKey: this.#shared.fingerprint,
      channel: this.#challenge,
    });
  }

  authorized(): void {
    this.#handshake.proved(new Uint8Array(0));
  }

  open(): OpenedSession {
    const { options, random, blocks } = this.#shared;
    const control = this.#control!;
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
    return {
      session,
      begin: (handler, rest) => {
        control.write(encodeVerdict(undefined));
        session.start(handler, rest);
      },
    };
  }

  farewell({ code }: SallyportError): Bytes {
    return encodeVerdict(code);
  }
}

function early(): SallyportError {
  return new SallyportError(
    "token_invalid",
    "Cannot open session: something follows the login before the verdict",
    { side: "peer" },
  );
}
