/**
 * The first bytes of a connection: an optional PROXY header where the peer is a trusted proxy, then either a TLS
 * ClientHello (a visitor) or a token (an agent), told apart by the first byte (docs/protocols/snitun.md, Ports).
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { internalError, SallyportError } from "../errors.ts";
import type { Address, ByteStreamHandler, Clock, Conn, Timer } from "../runtime/port.ts";
import type { AcceptedConnection } from "../transport/admission.ts";
import { parseProxyHeader } from "../wire/proxy/proxy_header.ts";
import { HELLO_DEADLINE_MS } from "../wire/tls/client_hello.ts";

/** What a listener accepts: "both", "agents" of any transport over TCP, "visitors", or the agents of the transport it names. */
export type Accepts = string;

const TLS_HANDSHAKE = 0x16;
const PROXY_V1_FIRST = 0x50; // "P"
const PROXY_V2_FIRST = 0x0d;

/** What an {@link ProtocolDetector} works with. */
export interface ProtocolDetectorOptions {
  readonly conn: Conn;
  readonly clock: Clock;
  readonly accepts: Accepts;
  /** The peer is a trusted proxy: a PROXY header is required; from anyone else it's refused. */
  readonly proxied: boolean;
  /** The listener is for one transport's agents alone. */
  readonly alone: boolean;
  visitor(connection: AcceptedConnection): void;
  /** What takes a connection that begins with this byte as an agent's; undefined where no transport does. */
  transport(firstByte: number): ((connection: AcceptedConnection) => void) | undefined;
  /** The connection showed nothing of use and is being closed. */
  refused(error: SallyportError, remote: Address): void;
  /** See {@link AcceptedConnection.left}. */
  left(): void;
}

/** Watches a new connection until it is known what it is. */
export class ProtocolDetector implements ByteStreamHandler {
  readonly #options: ProtocolDetectorOptions;
  readonly #timer: Timer;
  readonly #acceptedAtMs: number;
  #received: Bytes = new Uint8Array(0);
  #awaitsProxy: boolean;
  #remote: Address;
  #over = false;

  constructor(options: ProtocolDetectorOptions) {
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
    // Nothing is to be told apart, and silence must look to the transport as wrong bytes do.
    if (options.alone && !options.proxied) this.#toTransport(0);
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
    // An end from this side carries its reason.
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
    const first = this.#received[0]!;
    const { conn, accepts, proxied, alone } = this.#options;
    if (alone) return this.#toTransport(first);
    if (first === TLS_HANDSHAKE && accepts !== "agents") return this.#leave(this.#options.visitor);
    if (first === PROXY_V1_FIRST || first === PROXY_V2_FIRST) {
      throw new SallyportError(
        "proxy_header_unexpected",
        `Cannot accept connection: ${conn.remote.host} sends a ${
          proxied ? "second PROXY header" : "PROXY header and isn't a trusted proxy"
        }`,
        { side: "peer" },
      );
    }
    if (accepts !== "visitors" && first !== TLS_HANDSHAKE) return this.#toTransport(first);
    throw this.#unknown(first);
  }

  #toTransport(first: number): void {
    const take = this.#options.transport(first);
    if (take === undefined) throw this.#unknown(first);
    this.#leave(take);
  }

  #unknown(first: number): SallyportError {
    const expected = { both: "TLS or a token", visitors: "TLS" }[this.#options.accepts] ?? "a token";
    const byte = `0x${first.toString(16).padStart(2, "0")}`;
    return new SallyportError(
      "unknown_protocol",
      `Cannot accept connection: it starts with byte ${byte}, expected ${expected}`,
      { side: "peer" },
    );
  }

  #leave(next: (connection: AcceptedConnection) => void): void {
    this.#finish();
    const { conn, alone, left } = this.#options;
    next({
      conn,
      received: this.#received,
      remote: this.#remote,
      acceptedAtMs: this.#acceptedAtMs,
      alone,
      left,
    });
  }

  #refuse(error: SallyportError): void {
    if (this.#over) return;
    this.#finish();
    this.#options.left();
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
