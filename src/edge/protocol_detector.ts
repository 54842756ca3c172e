/**
 * The first bytes of a connection: an optional PROXY header where the peer is a trusted proxy, then either a TLS
 * ClientHello (a visitor) or a token (an agent), told apart by the first byte (docs/protocols/snitun.md, Ports).
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { internalError, SallyportError } from "../errors.ts";
import type { Address, ByteStreamHandler, Clock, Conn, Timer } from "../runtime/port.ts";
import { parseProxyHeader } from "../wire/proxy/proxy_header.ts";
import { HELLO_DEADLINE_MS } from "../wire/tls/client_hello.ts";

/** Who may come in at a listener; sealed agents come in with the others too, where the edge has a key for them. */
export type Accepts = "both" | "agents" | "visitors" | "sealed";

const TLS_HANDSHAKE = 0x16;
const TOKEN_FIRST = 0x67; // "g": Fernet's version byte 0x80 in base64 starts "gA"
const PROXY_V1_FIRST = 0x50; // "P"
const PROXY_V2_FIRST = 0x0d;

/** A connection that has shown what it is. */
export interface Arrival {
  readonly conn: Conn;
  /** Everything read of it behind a PROXY header; valid until the call returns that it is handed over with. */
  readonly received: Bytes;
  /** The peer, as the trusted proxy named it where there is one. */
  readonly remote: Address;
  /** When the connection came, on the monotonic clock: all its deadlines count from there. */
  readonly acceptedAtMs: number;
  /** To be called once when the connection has been routed, admitted or refused: it counts as unfinished until then. */
  settled(): void;
}

/** What an {@link Entrance} works with. */
export interface EntranceOptions {
  readonly conn: Conn;
  readonly clock: Clock;
  readonly accepts: Accepts;
  /** The peer is a trusted proxy: a PROXY header is required; from anyone else it's refused. */
  readonly proxied: boolean;
  visitor(arrival: Arrival): void;
  agent(arrival: Arrival): void;
  /** Takes what begins with nothing known; absent where there is no sealed transport. */
  sealed?(arrival: Arrival): void;
  /** The connection showed nothing of use and is being closed. */
  refused(error: SallyportError, remote: Address): void;
  /** See {@link Arrival.settled}. */
  settled(): void;
}

/** Watches a new connection until it is known what it is. */
export class Entrance implements ByteStreamHandler {
  readonly #options: EntranceOptions;
  readonly #timer: Timer;
  readonly #acceptedAtMs: number;
  #received: Bytes = new Uint8Array(0);
  #awaitsProxy: boolean;
  #remote: Address;
  #over = false;

  constructor(options: EntranceOptions) {
    this.#options = options;
    this.#awaitsProxy = options.proxied;
    this.#remote = options.conn.remote;
    this.#acceptedAtMs = options.clock.nowMs();
    this.#timer = options.clock.after(HELLO_DEADLINE_MS, () => {
      const what = this.#received.length === 0 ? "nothing came" : "what came is incomplete";
      this.#refuse(
        new SallyportError(
          "deadline_exceeded",
          `Cannot tell visitor from agent: ${what} in ${HELLO_DEADLINE_MS / 1000} s`,
          { side: "peer" },
        ),
      );
    });
    options.conn.attach(this);
    // Nothing is to be told apart, and whoever says nothing is to be dropped as whoever says the wrong thing.
    if (options.accepts === "sealed" && !options.proxied && options.sealed !== undefined) {
      this.#leave(options.sealed);
    }
  }

  data(chunk: Bytes): void {
    if (this.#over) return;
    // Most show in their first bytes what they are: only what has to wait is copied.
    const waits = this.#received.length > 0;
    this.#received = waits ? join(this.#received, chunk) : chunk;
    try {
      if ((!this.#awaitsProxy || this.#stripProxy()) && this.#received.length > 0) this.#dispatch();
      else if (!waits) this.#received = new Uint8Array(this.#received);
    } catch (error) {
      this.#refuse(internalError("accept", error));
    }
  }

  end(): void {
    this.#lost();
  }

  drain(): void {}

  close(error?: Error): void {
    // Whoever ends the connection on this side says why.
    if (error instanceof SallyportError && error.side === "local") this.#refuse(error);
    else this.#lost();
  }

  #stripProxy(): boolean {
    const first = this.#received[0];
    if (first !== PROXY_V1_FIRST && first !== PROXY_V2_FIRST) {
      throw new SallyportError(
        "proxy_header_missing",
        "Cannot accept connection: it comes from a trusted proxy and has no PROXY header",
        { side: "peer" },
      );
    }
    const outcome = parseProxyHeader(this.#received);
    if (outcome.kind === "incomplete") return false;
    if (outcome.kind === "refused") {
      throw new SallyportError("proxy_header_invalid", `Cannot parse PROXY header: ${outcome.detail}`, {
        side: "peer",
      });
    }
    this.#awaitsProxy = false;
    this.#remote = outcome.source ?? this.#remote;
    this.#received = this.#received.slice(outcome.length);
    return true;
  }

  #dispatch(): void {
    const first = this.#received[0];
    const { conn, accepts, proxied, sealed } = this.#options;
    if (accepts === "sealed" && sealed !== undefined) return this.#leave(sealed);
    if (first === TLS_HANDSHAKE && accepts !== "agents") return this.#leave(this.#options.visitor);
    if (first === TOKEN_FIRST && accepts !== "visitors") return this.#leave(this.#options.agent);
    if (first === PROXY_V1_FIRST || first === PROXY_V2_FIRST) {
      throw new SallyportError(
        "proxy_header_unexpected",
        `Cannot accept connection: ${conn.remote.host} sends a ${
          proxied ? "second PROXY header" : "PROXY header and isn't a trusted proxy"
        }`,
        { side: "peer" },
      );
    }
    if (sealed !== undefined && accepts !== "visitors" && first !== TLS_HANDSHAKE && first !== TOKEN_FIRST) {
      return this.#leave(sealed);
    }
    const expected =
      { both: "TLS or a token", agents: "a token", visitors: "TLS", sealed: "nothing" }[accepts];
    throw new SallyportError(
      "unknown_protocol",
      `Cannot accept connection: it starts with byte 0x${
        first.toString(16).padStart(2, "0")
      }, expected ${expected}`,
      { side: "peer" },
    );
  }

  #leave(next: (arrival: Arrival) => void): void {
    this.#finish();
    next({
      conn: this.#options.conn,
      received: this.#received,
      remote: this.#remote,
      acceptedAtMs: this.#acceptedAtMs,
      settled: this.#options.settled,
    });
  }

  #refuse(error: SallyportError): void {
    if (this.#over) return;
    this.#finish();
    this.#options.settled();
    this.#options.conn.release();
    this.#options.refused(error, this.#remote);
  }

  #lost(): void {
    this.#refuse(
      new SallyportError(
        "connection_lost",
        "Cannot accept connection: it closed before it showed what it is",
        {
          side: "network",
        },
      ),
    );
  }

  #finish(): void {
    this.#over = true;
    this.#timer.cancel();
  }
}

function join(a: Bytes, b: Bytes): Bytes {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}
