/**
 * The sealed transport at the edge (docs/protocols/sealed.md): whoever doesn't know the edge's public key hears
 * nothing, and is dropped at a time that tells nothing.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import type { FernetFault } from "../../crypto/fernet.ts";
import type { KeyPair } from "../../crypto/sodium.ts";
import { SallyportError } from "../../errors.ts";
import { type AnsweredFlights, SealedEdgeHandshake } from "../../protocol/handshake/sealed_edge.ts";
import { concat } from "../../protocol/handshake/sealed_keys.ts";
import type { OpenedToken } from "../../protocol/token/token_reader.ts";
import type { Address, ByteStreamHandler, Conn, Timer } from "../../runtime/port.ts";
import { decodeLogin, encodeVerdict } from "../../wire/login/login_messages.ts";
import type { TokenClaims } from "../../wire/token/token_payload.ts";
import type { Session, SessionHandler } from "../port.ts";
import { asRefusal, checkLogin, openLogin } from "../admission.ts";
import { SEALED, type SealedLink, sealedLink, type SealedShared } from "./session.ts";
import { SEALED_ANSWER_DEADLINE_MS } from "../../protocol/handshake/sealed_flight.ts";
import { CHALLENGE_DEADLINE_MS } from "../../protocol/handshake/snitun_challenge.ts";

/** Sealed: who shows nothing of use is dropped at a time drawn from here to there, whatever it sends meanwhile. */
export const SEALED_SILENCE_MIN_MS = 5_000;
export const SEALED_SILENCE_MAX_MS = 20_000;

/** What an edge needs to speak the sealed transport. */
export interface SealedIdentity {
  /** The long-lived key; agents pin its public half. */
  readonly keys: KeyPair;
  readonly answered: AnsweredFlights;
}

/** Who takes connections that don't begin as this version does, where an edge has it: version 1. */
export interface OlderProtocol {
  /** How many bytes show whether a connection is for it. */
  readonly firstBytes: number;
  /** Takes the connection where it is; false leaves it as it was. `first` is all that came, at least so many bytes. */
  take(conn: Conn, first: Bytes, remote: Address): boolean;
  /** Takes no more; lets what it has finish for `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/** What {@link acceptSealed} takes. */
export interface AcceptSealedOptions extends SealedShared, SealedIdentity {
  readonly conn: Conn;
  /** What has been read of the connection. */
  readonly received: Bytes;
  /** When the connection came: deadlines are absolute. */
  readonly acceptedAtMs: number;
  /** Opens a token, as `tryOpenToken` does. */
  openToken(token: Bytes): TokenClaims | FernetFault;
  /** Decides whether the agent is let in: throws, or rejects, with the reason where it isn't. */
  authorize(token: OpenedToken, remote: Address): void | Promise<void>;
  /** The agent is let in; says who hears of the session. May throw to refuse it. */
  admit(token: OpenedToken, session: Session): SessionHandler;
  /** Tried with what doesn't open as a first flight; whether it takes the connection, which isn't ours any more then. */
  readonly older?: Pick<OlderProtocol, "firstBytes"> & { take(conn: Conn, first: Bytes): boolean };
  /**
   * The connection came to nothing and is being closed; `known` says whether it has shown that it knows the edge's
   * key. Called at most once, never after `admit`.
   */
  refused(error: SallyportError, token: OpenedToken | undefined, known: boolean): void;
}

/** Lets an agent in, or not. */
export function acceptSealed(options: AcceptSealedOptions): void {
  new SealedAcceptance(options).start();
}

class SealedAcceptance implements ByteStreamHandler {
  readonly #options: AcceptSealedOptions;
  readonly #handshake: SealedEdgeHandshake;
  readonly #silenceMs: number;
  #ends: SealedLink | undefined;
  #token: OpenedToken | undefined;
  /** What was wrong: from then on nothing is looked at, and nothing said, until the silence is over. */
  #wrong: SallyportError | undefined;
  #timer: Timer | undefined;
  /** What came, as long as it may be the older protocol's. */
  #first: Bytes | undefined;
  #over = false;

  constructor(options: AcceptSealedOptions) {
    this.#options = options;
    if (options.older !== undefined) this.#first = new Uint8Array(0);
    const { sodium, keys, answered, aeads, clock, scratch } = options;
    this.#handshake = new SealedEdgeHandshake({
      sodium,
      keys,
      answered,
      aes: aeads.aes !== undefined,
      unixSeconds: () => Math.floor(clock.wallMs() / 1000),
    });
    const drawn = new Uint8Array(2);
    scratch.random.fill(drawn);
    const span = SEALED_SILENCE_MAX_MS - SEALED_SILENCE_MIN_MS;
    this.#silenceMs = SEALED_SILENCE_MIN_MS + span * (drawn[0]! * 256 + drawn[1]!) / 65_536;
  }

  start(): void {
    const { conn, acceptedAtMs, received } = this.#options;
    const late = new SallyportError("unknown_protocol", "Cannot open session: no whole first flight came", {
      side: "peer",
    });
    this.#wait(acceptedAtMs + this.#silenceMs, () => this.#refuse(this.#wrong ?? late));
    conn.attach(this);
    this.data(received);
  }

  data(chunk: Bytes): void {
    if (this.#over || chunk.length === 0) return;
    if (this.#first !== undefined) this.#first = concat(this.#first, chunk);
    if (this.#wrong === undefined) this.#read(chunk);
    if (this.#first !== undefined) this.#tryOlder(this.#first);
  }

  #read(chunk: Bytes): void {
    try {
      if (this.#ends === undefined) this.#readFlight(chunk);
      else if (this.#token === undefined) this.#readLogin(this.#ends, chunk);
      else throw early();
    } catch (error) {
      this.#wrong = asRefusal(error);
      // Between the answer and the verdict, too: whoever alters bytes on the way learns nothing by it.
      if (this.#ends !== undefined) this.#waitSilently();
    }
  }

  end(): void {
    this.close();
  }

  drain(): void {}

  close(error?: Error): void {
    // Whoever ends the connection on this side says why.
    if (error instanceof SallyportError && error.side === "local") return this.#refuse(error);
    this.#refuse(
      this.#wrong ?? new SallyportError("connection_lost", "Cannot open session: the agent left", {
        side: "network",
        cause: error,
      }),
    );
  }

  /** The first message of the older protocol is longer than what shows whether a first flight opens. */
  #tryOlder(first: Bytes): void {
    const { older, conn } = this.#options;
    const stranger = this.#wrong?.code === "unknown_protocol";
    if (older === undefined || (this.#wrong !== undefined && !stranger)) this.#first = undefined;
    else if (first.length >= older.firstBytes) {
      this.#first = undefined;
      if (!stranger || !older.take(conn, first)) return;
      this.#over = true;
      this.#timer?.cancel();
    }
  }

  #readFlight(chunk: Bytes): void {
    const answered = this.#handshake.push(chunk);
    if (answered === undefined) return;
    const { conn, clock } = this.#options;
    this.#ends = sealedLink(this.#options, conn, "edge", answered.keys);
    this.#wait(clock.nowMs() + SEALED_ANSWER_DEADLINE_MS, () => {
      const why = `Cannot open session: no login in ${SEALED_ANSWER_DEADLINE_MS / 1000} s`;
      this.#refuse(new SallyportError("deadline_exceeded", why, { side: "network" }));
    });
    conn.write(answered.answer);
  }

  #readLogin(ends: SealedLink, chunk: Bytes): void {
    const record = ends.opener.openOne(chunk);
    if (record === undefined) return;
    const login = decodeLogin(record.data);
    if (record.rest.length > 0) throw early();
    try {
      this.#token = openLogin(login, this.#options.openToken);
      checkLogin(login, this.#token, {
        transport: SEALED,
        edgeKey: this.#options.keys.publicKey,
        channel: ends.channel,
      });
    } catch (error) {
      return this.#turnDown(ends, error);
    }
    const deadlineMs = this.#options.clock.nowMs() + CHALLENGE_DEADLINE_MS;
    this.#wait(deadlineMs, () => {
      this.#turnDown(
        ends,
        new SallyportError("deadline_exceeded", "Cannot open session: nobody decided in 60 s", {
          side: "local",
        }),
      );
    });
    void this.#decide(ends, this.#token);
  }

  async #decide(ends: SealedLink, token: OpenedToken): Promise<void> {
    try {
      await this.#options.authorize(token, this.#options.conn.remote);
      if (!this.#over && this.#wrong === undefined) this.#admit(ends, token);
    } catch (error) {
      this.#turnDown(ends, error);
    }
  }

  #admit(ends: SealedLink, token: OpenedToken): void {
    const link = ends.link();
    const handler = this.#options.admit(token, link);
    this.#over = true;
    this.#timer?.cancel();
    this.#options.conn.write(ends.sealer.seal(encodeVerdict(undefined)));
    link.start(handler, new Uint8Array(0));
  }

  /** Says no, in a record: to who knows the edge's key, and has the session's; silence that has begun stays. */
  #turnDown(ends: SealedLink, cause: unknown): void {
    if (this.#over || this.#wrong !== undefined) return;
    const error = asRefusal(cause);
    this.#options.conn.write(ends.sealer.seal(encodeVerdict(error.code)));
    this.#refuse(error);
  }

  #waitSilently(): void {
    this.#wait(this.#options.clock.nowMs() + this.#silenceMs, () => this.#refuse(this.#wrong));
  }

  #wait(untilMs: number, due: () => void): void {
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(Math.max(0, untilMs - this.#options.clock.nowMs()), due);
  }

  #refuse(cause: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#timer?.cancel();
    this.#ends?.opener.close();
    this.#options.conn.release();
    this.#options.refused(asRefusal(cause), this.#token, this.#ends !== undefined);
  }
}

function early(): SallyportError {
  return new SallyportError(
    "challenge_failed",
    "Cannot open session: bytes follow the login before the verdict",
    { side: "peer" },
  );
}
