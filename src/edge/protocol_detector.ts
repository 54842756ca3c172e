/**
 * A new connection from its acceptance until it is routed, admitted or refused: a PROXY header if the peer is a trusted
 * proxy, then either a TLS ClientHello (a visitor) or a token (an agent), distinguished by the first byte
 * (docs/protocols/snitun.md, Ports).
 *
 * @module
 */
import { type Bytes, concat } from "../bytes/bytes.ts";
import { internalError, SallyportError } from "../errors.ts";
import type { Address, ByteStreamHandler, Clock, Conn } from "../runtime/port.ts";
import type { AcceptedConnection } from "../transport/admission.ts";
import { beginsProxyHeader, readProxyHeader } from "../wire/proxy/proxy_header.ts";
import {
  ClientHelloReader,
  HELLO_DEADLINE_MS,
  type HelloOutcome,
  readClientHello,
} from "../wire/tls/client_hello.ts";
import { AlertDescription } from "../wire/tls/tls_alert.ts";
import { type PendingBudgets, PendingConnection } from "./pending_budgets.ts";
import type { Visitors } from "./visitors.ts";

/**
 * What a listener accepts: "both", "agents" of any transport over TCP, "visitors", or the name of a transport for its
 * agents.
 */
export type Accepts = string;

const TLS_HANDSHAKE = 0x16;

const NOTHING: Bytes = new Uint8Array(0);

/** Options shared by all connections of one listener. */
export interface ProtocolDetectorOptions {
  readonly clock: Clock;
  readonly accepts: Accepts;
  /** Whether the listener accepts only one transport's agents. */
  readonly alone: boolean;
  readonly pending: PendingBudgets;
  /** Routes visitors. */
  readonly visitors: Visitors;
  /** The handler for an agent's connection that starts with this byte; undefined if no transport accepts it. */
  transport(firstByte: number): ((connection: AcceptedConnection) => void) | undefined;
  /** Called when a connection couldn't be identified and is being closed. */
  refused(error: SallyportError, remote: Address): void;
}

/** Watches a new connection. Holds its whole state until a splice or a session takes over, without its own timer. */
export class ProtocolDetector extends PendingConnection implements ByteStreamHandler {
  readonly conn: Conn;
  readonly acceptedAtMs: number;
  #remote: Address;
  #received: Bytes = NOTHING;
  readonly #options: ProtocolDetectorOptions;
  /** The peer is a trusted proxy: a PROXY header is required. From any other peer it is refused. */
  readonly #proxied: boolean;
  #awaitsProxy: boolean;
  /** Reader of a visitor's ClientHello that arrives in several pieces. */
  #hello: ClientHelloReader | undefined;
  /** Whether it has been handed over or has ended. */
  #over = false;

  constructor(conn: Conn, proxied: boolean, options: ProtocolDetectorOptions) {
    super();
    this.conn = conn;
    this.#remote = conn.remote;
    this.acceptedAtMs = options.clock.nowMs();
    this.#proxied = this.#awaitsProxy = proxied;
    this.#options = options;
  }

  /** Starts. Returns false if the connection's source has too many already; the caller must drop it. */
  start(): boolean {
    const { alone, pending } = this.#options;
    if (!pending.enter(this, this.#proxied ? undefined : this.#remote)) return false;
    this.conn.attach(this);
    // There is nothing to distinguish, and the transport must treat silence like wrong bytes.
    if (alone && !this.#proxied) this.#toTransport(0);
    return true;
  }

  data(chunk: Bytes): void {
    if (this.#over) return;
    try {
      if (this.#hello !== undefined) return this.#judge(this.#hello.push(chunk));
      // Most connections are identified by their first bytes, so only incomplete input is copied.
      const waits = this.#received.length > 0;
      this.#received = waits ? concat([this.#received, chunk]) : chunk;
      if ((!this.#awaitsProxy || this.#stripProxy()) && this.#received.length > 0) this.#dispatch();
      else if (!waits) this.#received = this.#received.slice();
    } catch (error) {
      this.#refuse(internalError("accept", error));
    }
  }

  end(): void {
    this.close();
  }

  drain(): void {}

  close(error?: Error): void {
    if (this.#over) return;
    // If this side closed it, the error gives the reason.
    if (error instanceof SallyportError && error.side === "local") return this.#refuse(error);
    const why = this.#isVisitor
      ? "Cannot route visitor: it left before its ClientHello was complete"
      : "Cannot accept connection: it closed before it could be identified";
    this.#refuse(new SallyportError("connection_lost", why, { side: "network" }));
  }

  // Called by the budgets.

  late(): void {
    if (this.#over) return;
    const seconds = HELLO_DEADLINE_MS / 1000;
    if (this.#isVisitor) {
      const why = `Cannot route visitor: no complete ClientHello within ${seconds} s`;
      const late = new SallyportError("deadline_exceeded", why, { side: "peer" });
      return this.#refuse(late, AlertDescription.handshake_failure);
    }
    const what = this.#received.length === 0 ? "nothing arrived" : "what arrived is incomplete";
    const why = `Cannot tell visitor from agent: ${what} within ${seconds} s`;
    this.#refuse(new SallyportError("deadline_exceeded", why, { side: "peer" }));
  }

  evict(error: SallyportError): void {
    // The connection's new owner is notified of its end and refuses it. No lingering close when room is short.
    this.conn.abort(error);
    if (!this.#over) this.#refuse(error);
  }

  get #isVisitor(): boolean {
    return this.shown === "visitor";
  }

  #stripProxy(): boolean {
    const header = readProxyHeader(this.#received);
    if (header === undefined) return false;
    this.#awaitsProxy = false;
    this.#received = this.#received.slice(header.length);
    if (header.source === undefined) return true;
    this.#remote = header.source;
    if (!this.#options.pending.locate(this, this.#remote)) {
      throw new SallyportError(
        "limit_exceeded",
        "Cannot accept connection: its source has too many unfinished connections",
        {
          side: "peer",
          retryable: true,
        },
      );
    }
    return true;
  }

  #dispatch(): void {
    const first = this.#received[0]!;
    const { accepts, alone } = this.#options;
    if (alone) return this.#toTransport(first);
    if (first === TLS_HANDSHAKE && accepts !== "agents") return this.#beginHello();
    if (beginsProxyHeader(first)) {
      throw new SallyportError(
        "proxy_header_unexpected",
        `Cannot accept connection: ${this.conn.remote.host} sends a ${
          this.#proxied ? "second PROXY header" : "PROXY header and isn't a trusted proxy"
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
    const { conn, acceptedAtMs } = this;
    const { alone, pending } = this.#options;
    const received = this.#received;
    this.#over = true;
    this.#received = NOTHING;
    take({
      conn,
      received,
      remote: this.#remote,
      acceptedAtMs,
      alone,
      known: () => pending.show(this, "agent"),
      left: () => pending.leave(this),
    });
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

  #beginHello(): void {
    this.#options.pending.show(this, "visitor");
    const outcome = readClientHello(this.#received);
    if (outcome.kind !== "incomplete") return this.#judge(outcome);
    this.#hello = new ClientHelloReader();
    const received = this.#received;
    this.#received = NOTHING;
    this.#judge(this.#hello.push(received));
  }

  #judge(outcome: HelloOutcome): void {
    if (outcome.kind === "incomplete") return;
    if (outcome.kind === "refused") {
      const why = `Cannot route visitor: ${outcome.detail}`;
      return this.#refuse(new SallyportError(outcome.reason, why, { side: "peer" }), outcome.alert);
    }
    this.#leave();
    this.#options.visitors.route(
      this.conn,
      this.#remote,
      outcome,
      this.#hello?.bytes ?? this.#received,
    );
  }

  #leave(): void {
    this.#over = true;
    this.#options.pending.leave(this);
  }

  #refuse(error: SallyportError, alert?: number): void {
    if (this.#over) return;
    const isVisitor = this.#isVisitor;
    this.#leave();
    if (isVisitor) return this.#options.visitors.refuse(this.conn, this.#remote, error, alert);
    this.conn.release();
    this.#options.refused(error, this.#remote);
  }
}
