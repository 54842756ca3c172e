/**
 * The sealed transport at the edge (docs/protocols/sealed.md): a client that doesn't know the edge's public key gets no
 * response, and is dropped after a time that reveals nothing.
 *
 * @module
 */
import { type Bytes, concat } from "../../bytes/bytes.ts";
import type { KeyPair } from "../../crypto/sodium.ts";
import { SallyportError } from "../../errors.ts";
import { type AnsweredFlights, SealedEdgeHandshake } from "../../protocol/handshake/sealed_edge.ts";
import { SEALED_ANSWER_DEADLINE_MS } from "../../protocol/handshake/sealed_flight.ts";
import type { Address, Conn } from "../../runtime/port.ts";
import { decodeLogin, encodeVerdict } from "../../wire/login/login_messages.ts";
import type { AcceptedConnection, AgentAdmission } from "../admission.ts";
import {
  connIo,
  type OpenedSession,
  ServerHandshake,
  type ServerHandshakeHost,
  type ServerSteps,
} from "../server_handshake.ts";
import { SEALED, type SealedRecords, sealedRecords, type SealedShared } from "./session.ts";

/**
 * Sealed: a connection without a valid first flight is dropped at a random time between these limits, whatever it
 * sends.
 */
export const SEALED_SILENCE_MIN_MS = 5_000;
export const SEALED_SILENCE_MAX_MS = 20_000;

/** Configuration of an edge's sealed transport. */
interface SealedIdentity {
  /** The long-lived key; agents pin its public half. */
  readonly keys: KeyPair;
  readonly answered: AnsweredFlights;
}

/** A protocol for connections whose first bytes aren't a first flight: version 1, which is sodium-tcp. */
export interface FallbackProtocol {
  /** How many bytes it needs to recognize its connections. */
  readonly firstBytes: number;
  /**
   * Takes over the connection if it matches; false leaves it unchanged. `first` holds all bytes received, at least
   * `firstBytes`.
   */
  take(conn: Conn, first: Bytes, remote: Address): boolean;
  /** Stops accepting; gives open connections `graceMs` to finish. */
  close(graceMs: number): Promise<void>;
}

/** Options of {@link acceptSealed}. */
export interface AcceptSealedOptions extends SealedShared, SealedIdentity {
  /** Tried for bytes that don't decrypt as a first flight. */
  readonly fallback?: Pick<FallbackProtocol, "firstBytes" | "take">;
}

/** Admits or refuses an agent. */
export function acceptSealed(
  accepted: AcceptedConnection,
  options: AcceptSealedOptions,
  admission: AgentAdmission,
): void {
  const { conn, received, remote, known, left } = accepted;
  const handshake = new ServerHandshake({
    admission,
    clock: options.clock,
    io: connIo(conn),
    remote,
    known,
    left,
    steps: (host) => new SealedServerSteps(host, options, accepted),
  });
  conn.attach(handshake);
  handshake.start(received);
}

class SealedServerSteps implements ServerSteps {
  readonly #host: ServerHandshakeHost;
  readonly #options: AcceptSealedOptions;
  readonly #conn: Conn;
  readonly #remote: Address;
  readonly #acceptedAtMs: number;
  readonly #flight: SealedEdgeHandshake;
  readonly #silenceMs: number;
  #records: SealedRecords | undefined;
  /** Whether a login has been read: from then on the agent may be told why it is refused. */
  #speaks = false;
  /** All bytes received, as long as the fallback may apply. */
  #first: Bytes | undefined;

  constructor(host: ServerHandshakeHost, options: AcceptSealedOptions, accepted: AcceptedConnection) {
    this.#host = host;
    this.#options = options;
    this.#conn = accepted.conn;
    this.#remote = accepted.remote;
    this.#acceptedAtMs = accepted.acceptedAtMs;
    if (options.fallback !== undefined) this.#first = new Uint8Array(0);
    const { sodium, keys, answered, aeads, clock, scratch } = options;
    this.#flight = new SealedEdgeHandshake({
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

  get known(): boolean {
    return this.#records !== undefined;
  }

  start(): void {
    this.#host.awaitUntil(this.#acceptedAtMs + this.#silenceMs, () => {
      throw new SallyportError("unknown_protocol", "Cannot open session: no complete first flight arrived", {
        side: "peer",
      });
    });
  }

  receive(bytes: Bytes): void {
    if (this.#first !== undefined) this.#first = concat([this.#first, bytes]);
    if (this.#records !== undefined) return this.#readLogin(this.#records, bytes);
    try {
      this.#readFlight(bytes);
    } catch (error) {
      const stranger = error instanceof SallyportError && error.code === "unknown_protocol";
      if (!stranger) this.#first = undefined;
      else if (this.#first !== undefined && this.#tryFallback(this.#first)) return;
      throw error;
    }
    // The fallback doesn't apply if more bytes arrive than a first flight needs.
    const { fallback } = this.#options;
    if (this.#first !== undefined && this.#first.length >= fallback!.firstBytes) this.#first = undefined;
  }

  /** The fallback's first message is longer than what shows that a first flight doesn't decrypt. */
  overheard(bytes: Bytes): void {
    if (this.#first === undefined) return;
    this.#first = concat([this.#first, bytes]);
    this.#tryFallback(this.#first);
  }

  authorized(): void {
    this.#host.proved(new Uint8Array(0));
  }

  open(): OpenedSession {
    const { sealer, session: make } = this.#records!;
    const session = make();
    return {
      session,
      begin: (handler, rest) => {
        this.#conn.write(sealer.seal(encodeVerdict(undefined)));
        session.start(handler, rest);
      },
    };
  }

  farewell(error: SallyportError): Bytes {
    return this.#records!.sealer.seal(encodeVerdict(error.code));
  }

  silentUntilMs(): number | undefined {
    if (this.#speaks) return undefined;
    // Also between the answer and the verdict: altering bytes in transit reveals nothing to an attacker.
    return this.#silenceMs + (this.#records === undefined ? this.#acceptedAtMs : this.#host.nowMs());
  }

  drop(): void {
    this.#records?.opener.close();
  }

  #tryFallback(first: Bytes): boolean {
    const { fallback } = this.#options;
    if (first.length < fallback!.firstBytes) return false;
    this.#first = undefined;
    if (!fallback!.take(this.#conn, first, this.#remote)) return false;
    this.#host.handOver();
    return true;
  }

  #readFlight(bytes: Bytes): void {
    const answered = this.#flight.push(bytes);
    if (answered === undefined) return;
    this.#first = undefined;
    this.#records = sealedRecords(this.#options, this.#conn, "edge", answered.keys);
    this.#host.awaitUntil(this.#host.nowMs() + SEALED_ANSWER_DEADLINE_MS, () => {
      this.#speaks = true;
      const why = `Cannot open session: no login within ${SEALED_ANSWER_DEADLINE_MS / 1000} s`;
      throw new SallyportError("deadline_exceeded", why, { side: "network" });
    });
    this.#host.write(answered.answer);
  }

  #readLogin(records: SealedRecords, bytes: Bytes): void {
    // The reason isn't sent: the peer gets the same silence as after an altered record.
    const readable = !this.#speaks;
    this.#speaks = false;
    if (!readable) throw early();
    const record = records.opener.openOne(bytes);
    if (record === undefined) return;
    const login = decodeLogin(record.data);
    if (record.rest.length > 0) throw early();
    this.#speaks = true;
    this.#host.login(login, {
      transport: SEALED,
      edgeKey: this.#options.keys.publicKey,
      channel: records.channel,
    });
  }
}

function early(): SallyportError {
  return new SallyportError(
    "challenge_failed",
    "Cannot open session: bytes follow the login before the verdict",
    { side: "peer" },
  );
}
