/**
 * SniTun over TCP, both roles: token, challenge, multiplexer (docs/protocols/snitun.md).
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { type CipherName, createOpener, createSealer } from "../../crypto/header_cipher.ts";
import { errorMessage, SallyportError } from "../../errors.ts";
import { AgentChallenge, EdgeChallenge } from "../../protocol/handshake/snitun_challenge.ts";
import { type OpenedToken, TokenReader } from "../../protocol/token/token_reader.ts";
import type { MuxOptions } from "../../protocol/mux/snitun/options.ts";
import type { SendScratch } from "../../protocol/mux/snitun/sender.ts";
import { MuxSession } from "../../protocol/mux/snitun/session.ts";
import type { Address, ByteStreamHandler, Clock, Conn, Timer } from "../../runtime/port.ts";
import { dialEdge, type DialEdgeOptions } from "../dial_edge.ts";
import { asRefusal } from "../admission.ts";
import { MuxLink } from "../mux_link.ts";
import type { Session, SessionHandler } from "../port.ts";
import { CHALLENGE_DEADLINE_MS } from "../../protocol/handshake/snitun_challenge.ts";
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";

/** The transport's name in logs and metrics. */
export const SNITUN = "snitun";

/** What the sessions of one edge or agent have in common. */
export interface SnitunShared {
  readonly clock: Clock;
  readonly scratch: SendScratch;
  readonly queueLimits?: QueueLimits;
  readonly receiveBudgetBytes?: number;
  readonly largeFramesPerSecond?: number;
}

/** What {@link acceptSnitun} takes. */
export interface AcceptOptions extends SnitunShared {
  readonly conn: Conn;
  /** What has been read of the connection: the token's first bytes. */
  readonly received: Bytes;
  /** When the connection came: deadlines are absolute. */
  readonly acceptedAtMs: number;
  /** Opens a token, or throws; see {@link TokenReader}. */
  readonly openToken: ConstructorParameters<typeof TokenReader>[0]["open"];
  /** Decides whether the agent is let in: throws, or rejects, with the reason where it isn't. */
  authorize(token: OpenedToken, remote: Address): void | Promise<void>;
  /** The agent has answered the challenge; says who hears of the session. May throw to refuse it. */
  admit(token: OpenedToken, session: Session): SessionHandler;
  /** The handshake has failed; the connection is being closed. Called at most once, never after `admit`. */
  refused(error: SallyportError, token: OpenedToken | undefined): void;
}

/** Lets an agent in, or not: token, authorisation, challenge. Deadlines are absolute. */
export function acceptSnitun(options: AcceptOptions): void {
  new Acceptance(options).start();
}

class Acceptance implements ByteStreamHandler {
  readonly #options: AcceptOptions;
  readonly #reader: TokenReader;
  #token: OpenedToken | undefined;
  #challenge: { machine: EdgeChallenge; link: MuxLink } | undefined;
  #timer: Timer | undefined;
  #over = false;

  constructor(options: AcceptOptions) {
    this.#options = options;
    this.#reader = new TokenReader({ open: options.openToken, startedAtMs: options.acceptedAtMs });
  }

  start(): void {
    this.#options.conn.attach(this);
    this.data(this.#options.received);
  }

  data(chunk: Bytes): void {
    if (this.#over) return;
    try {
      if (this.#token === undefined) this.#readToken(chunk);
      else if (this.#challenge === undefined) this.#refuse(early());
      else this.#readAnswer(this.#challenge, chunk);
    } catch (error) {
      this.#refuse(error);
    }
  }

  end(): void {
    this.close();
  }

  drain(): void {}

  close(error?: Error): void {
    // Whoever ends the connection on this side says why.
    if (error instanceof SallyportError && error.side === "local") return this.#refuse(error);
    const when = this.#token === undefined ? "before its token was complete" : "during the challenge";
    this.#refuse(
      new SallyportError("connection_lost", `Cannot open session: the agent left ${when}`, {
        side: "network",
        cause: error,
      }),
    );
  }

  #readToken(chunk: Bytes): void {
    const now = this.#options.clock.nowMs();
    const token = this.#reader.push(chunk, now);
    if (token === undefined) {
      this.#wait(this.#reader.deadlineMs, () => this.#reader.tick(this.#options.clock.nowMs()));
      return;
    }
    this.#token = token;
    this.#wait(now + CHALLENGE_DEADLINE_MS, () => {
      throw new SallyportError(
        "deadline_exceeded",
        "Cannot open session: no answer to the challenge in 60 s",
        {
          side: "network",
        },
      );
    });
    const allowed: unknown = this.#options.authorize(token, this.#options.conn.remote);
    // TypeScript lets a hook return anything where void is asked for; whatever can be awaited is awaited.
    if (typeof (allowed as PromiseLike<void> | undefined)?.then !== "function") {
      return this.#sendChallenge(token);
    }
    Promise.resolve(allowed).then(() => this.#sendChallenge(token)).catch((error) => this.#refuse(error));
  }

  #sendChallenge({ claims }: OpenedToken): void {
    if (this.#over) return;
    const sealer = createSealer(claims.cipher, claims.aesKey, claims.aesIv, "edge");
    const opener = createOpener(claims.cipher, claims.aesKey, claims.aesIv, "agent");
    const machine = new EdgeChallenge(sealer, opener);
    const { conn } = this.#options;
    const link = snitunLink(this.#options, conn, claims.cipher, {
      role: "edge",
      protocolVersion: claims.protocolVersion,
      sealer,
      opener,
    });
    this.#challenge = { machine, link };
    conn.write(machine.first);
  }

  #readAnswer({ machine, link }: { machine: EdgeChallenge; link: MuxLink }, chunk: Bytes): void {
    const answered = machine.push(chunk);
    if (answered === undefined) return;
    const handler = this.#options.admit(this.#token!, link);
    this.#over = true;
    this.#timer?.cancel();
    link.start(handler, answered.rest);
  }

  #wait(untilMs: number, due: () => void): void {
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(Math.max(0, untilMs - this.#options.clock.nowMs()), () => {
      try {
        due();
        // Timers may come a little early; what isn't due yet is asked again.
        if (!this.#over && this.#token === undefined) this.#wait(this.#reader.deadlineMs, due);
      } catch (error) {
        this.#refuse(error);
      }
    });
  }

  #refuse(cause: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer?.cancel();
    this.#options.conn.release();
    this.#options.refused(asRefusal(cause), this.#token);
  }
}

function early(): SallyportError {
  return new SallyportError(
    "token_invalid",
    "Cannot open session: bytes follow the token before the challenge",
    { side: "peer" },
  );
}

function snitunLink(
  options: SnitunShared,
  conn: Conn,
  cipher: CipherName,
  own: Pick<MuxOptions, "role" | "protocolVersion" | "sealer" | "opener">,
): MuxLink {
  const { clock, scratch, queueLimits, receiveBudgetBytes, largeFramesPerSecond } = options;
  const shared = { scratch, queueLimits, receiveBudgetBytes, largeFramesPerSecond };
  const mux = (host: MuxOptions["host"]) => new MuxSession({ ...shared, ...own, host });
  return new MuxLink({ transport: SNITUN, cipher, halfClose: false, conn, clock, mux });
}

/** What {@link dialSnitun} takes. */
export interface DialSnitunOptions extends SnitunShared, DialEdgeOptions {
  /** The token, as the session master issued it, and what stands in it. */
  readonly token: string;
  readonly aesKey: Bytes;
  readonly aesIv: Bytes;
  readonly cipher: CipherName;
  readonly protocolVersion: 0 | 1 | 2;
  /** The edge has let us in; says who hears of the session. */
  admitted(session: Session): SessionHandler;
}

/**
 * Opens a session to an edge, as its agent. Rejects with `edge_unreachable` (no connection), `session_refused` (the
 * edge closes: expired or forged token, name taken), `challenge_failed` or `cipher_failed` (it isn't the edge that the
 * token is for), `deadline_exceeded`.
 */
export async function dialSnitun(options: DialSnitunOptions): Promise<Session> {
  const conn = await dialEdge(options);
  try {
    await options.turn?.();
    options.signal?.throwIfAborted();
  } catch (error) {
    conn.abort();
    throw error;
  }
  return await new Promise((resolve, reject) => {
    try {
      new Dialogue(options, conn, resolve, reject).start();
    } catch (error) {
      conn.abort();
      reject(error);
    }
  });
}

class Dialogue implements ByteStreamHandler {
  readonly #options: DialSnitunOptions;
  readonly #conn: Conn;
  readonly #link: MuxLink;
  readonly #machine: AgentChallenge;
  readonly #resolve: (session: Session) => void;
  readonly #reject: (error: unknown) => void;
  readonly #giveUp: () => void;
  readonly #timer: Timer;
  #over = false;

  constructor(
    options: DialSnitunOptions,
    conn: Conn,
    resolve: (session: Session) => void,
    reject: (error: unknown) => void,
  ) {
    this.#options = options;
    this.#conn = conn;
    this.#resolve = resolve;
    this.#reject = reject;
    const { cipher, aesKey, aesIv, protocolVersion } = options;
    const sealer = createSealer(cipher, aesKey, aesIv, "agent");
    const opener = createOpener(cipher, aesKey, aesIv, "edge");
    this.#machine = new AgentChallenge(sealer, opener);
    this.#link = snitunLink(options, conn, cipher, { role: "agent", protocolVersion, sealer, opener });
    this.#timer = options.clock.after(CHALLENGE_DEADLINE_MS, () => {
      this.#fail("deadline_exceeded", `no challenge in ${CHALLENGE_DEADLINE_MS / 1000} s`);
    });
    this.#giveUp = () => this.#leave(options.signal?.reason);
    options.signal?.addEventListener("abort", this.#giveUp, { once: true });
  }

  start(): void {
    this.#conn.attach(this);
    this.#conn.write(new TextEncoder().encode(this.#options.token));
  }

  data(chunk: Bytes): void {
    if (this.#over) return;
    try {
      const challenged = this.#machine.push(chunk);
      if (challenged === undefined) return;
      this.#conn.write(challenged.answer);
      this.#finish();
      this.#link.start(this.#options.admitted(this.#link), challenged.rest);
      this.#resolve(this.#link);
    } catch (error) {
      this.#finish();
      this.#conn.abort();
      this.#reject(asRefusal(error));
    }
  }

  end(): void {
    this.#fail(
      "session_refused",
      "it closed without a challenge (expired token, wrong key, or a name of another agent)",
    );
  }

  drain(): void {}

  close(error?: Error): void {
    this.#fail("session_refused", error === undefined ? "it closed" : errorMessage(error));
  }

  #fail(code: "session_refused" | "deadline_exceeded", why: string): void {
    const { host, port } = this.#options;
    const message = `Cannot open session: edge ${host}:${port} refused: ${why}`;
    this.#leave(new SallyportError(code, message, { side: "peer", retryable: true }));
  }

  #leave(reason: unknown): void {
    if (this.#over) return;
    this.#finish();
    this.#conn.abort();
    this.#reject(reason);
  }

  #finish(): void {
    this.#over = true;
    this.#timer.cancel();
    this.#options.signal?.removeEventListener("abort", this.#giveUp);
  }
}
