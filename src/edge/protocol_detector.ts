/**
 * A new connection from its acceptance until it is routed, admitted or refused: an optional PROXY header where the peer is a
 * trusted proxy, then either a TLS ClientHello (a visitor) or a token (an agent), told apart by the first byte
 * (docs/protocols/snitun.md, Ports).
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { internalError, SallyportError } from "../errors.ts";
import type { Address, ByteStreamHandler, Clock, Conn } from "../runtime/port.ts";
import type { AcceptedConnection } from "../transport/admission.ts";
import { parseProxyHeader } from "../wire/proxy/proxy_header.ts";
import {
  ClientHelloReader,
  HELLO_DEADLINE_MS,
  type HelloOutcome,
  readClientHello,
} from "../wire/tls/client_hello.ts";
import { AlertDescription } from "../wire/tls/tls_alert.ts";
import { PendingConnection, type PendingConnections } from "./pending.ts";
import type { Visitors } from "./visitors.ts";

/** Who may come in at a listener; sealed agents come in with the others too, where the edge has a key for them. */
export type Accepts = "both" | "agents" | "visitors" | "sealed";

const TLS_HANDSHAKE = 0x16;
const TOKEN_FIRST = 0x67; // "g": Fernet's version byte 0x80 in base64 starts "gA"
const PROXY_V1_FIRST = 0x50; // "P"
const PROXY_V2_FIRST = 0x0d;

const NOTHING: Bytes = new Uint8Array(0);

/** What the connections of one listener have in common. */
export interface ProtocolDetectorOptions {
  readonly clock: Clock;
  readonly accepts: Accepts;
  readonly pending: PendingConnections;
  /** Routes visitors. */
  readonly visitors: Visitors;
  /** Takes what begins as a token does. */
  agent(accepted: AcceptedConnection): void;
  /** Takes what begins with nothing known; absent where there is no sealed transport. */
  sealed?(accepted: AcceptedConnection): void;
  /** The connection showed nothing of use and is being closed. */
  refused(error: SallyportError, remote: Address): void;
}

/** Watches a new connection: its whole state until a splice or a session takes over, without a timer of its own. */
export class ProtocolDetector extends PendingConnection implements ByteStreamHandler, AcceptedConnection {
  readonly conn: Conn;
  readonly acceptedAtMs: number;
  remote: Address;
  received: Bytes = NOTHING;
  readonly #options: ProtocolDetectorOptions;
  /** The peer is a trusted proxy: a PROXY header is required; from anyone else it's refused. */
  readonly #proxied: boolean;
  #awaitsProxy: boolean;
  /** A visitor's ClientHello, where it isn't whole in one piece. */
  #hello: ClientHelloReader | undefined;
  /** It has been handed on, or is over. */
  #over = false;

  constructor(conn: Conn, proxied: boolean, options: ProtocolDetectorOptions) {
    super();
    this.conn = conn;
    this.remote = conn.remote;
    this.acceptedAtMs = options.clock.nowMs();
    this.#proxied = this.#awaitsProxy = proxied;
    this.#options = options;
  }

  /** Begins; false where the connection's source has too many already: it is to be dropped. */
  start(): boolean {
    const { accepts, pending, sealed } = this.#options;
    if (!pending.enter(this, this.#proxied ? undefined : this.remote)) return false;
    this.conn.attach(this);
    // There is nothing to tell apart, and a silent stranger is dropped as one that says the wrong thing is.
    if (accepts === "sealed" && !this.#proxied && sealed !== undefined) this.#handOver(sealed);
    return true;
  }

  data(chunk: Bytes): void {
    if (this.#over) return;
    try {
      if (this.#hello !== undefined) return this.#judge(this.#hello.push(chunk));
      // Most show in their first bytes what they are: only what has to wait is copied.
      const waits = this.received.length > 0;
      this.received = waits ? join(this.received, chunk) : chunk;
      if ((!this.#awaitsProxy || this.#stripProxy()) && this.received.length > 0) this.#dispatch();
      else if (!waits) this.received = this.received.slice();
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
    // An end that this side brings about says why.
    if (error instanceof SallyportError && error.side === "local") return this.#refuse(error);
    const why = this.#isVisitor
      ? "Cannot route visitor: it left before its ClientHello was complete"
      : "Cannot accept connection: it closed before it showed what it is";
    this.#refuse(new SallyportError("connection_lost", why, { side: "network" }));
  }

  // From the budgets.

  late(): void {
    if (this.#over) return;
    const seconds = HELLO_DEADLINE_MS / 1000;
    if (this.#isVisitor) {
      const why = `Cannot route visitor: no whole ClientHello in ${seconds} s`;
      const late = new SallyportError("deadline_exceeded", why, { side: "peer" });
      return this.#refuse(late, AlertDescription.handshake_failure);
    }
    const what = this.received.length === 0 ? "nothing came" : "what came is incomplete";
    const why = `Cannot tell visitor from agent: ${what} in ${seconds} s`;
    this.#refuse(new SallyportError("deadline_exceeded", why, { side: "peer" }));
  }

  evict(error: SallyportError): void {
    // What has taken the connection over hears of its end, and refuses it. Nothing lingers where room is short.
    this.conn.abort(error);
    if (!this.#over) this.#refuse(error);
  }

  // For whoever takes the connection over.

  known(): void {
    this.#options.pending.show(this, "agent");
  }

  left(): void {
    this.#options.pending.leave(this);
  }

  get #isVisitor(): boolean {
    return this.pending === "visitor";
  }

  #stripProxy(): boolean {
    const first = this.received[0];
    if (first !== PROXY_V1_FIRST && first !== PROXY_V2_FIRST) {
      throw new SallyportError(
        "proxy_header_missing",
        "Cannot accept connection: it comes from a trusted proxy and has no PROXY header",
        { side: "peer" },
      );
    }
    const outcome = parseProxyHeader(this.received);
    if (outcome.kind === "incomplete") return false;
    if (outcome.kind === "refused") {
      throw new SallyportError("proxy_header_invalid", `Cannot parse PROXY header: ${outcome.detail}`, {
        side: "peer",
      });
    }
    this.#awaitsProxy = false;
    this.received = this.received.slice(outcome.length);
    if (outcome.source === undefined) return true;
    this.remote = outcome.source;
    if (!this.#options.pending.locate(this, this.remote)) {
      throw new SallyportError(
        "limit_exceeded",
        "Cannot accept connection: its source has too many unfinished",
        {
          side: "peer",
          retryable: true,
        },
      );
    }
    return true;
  }

  #dispatch(): void {
    const [first] = this.received;
    const { accepts, sealed, agent } = this.#options;
    if (accepts === "sealed" && sealed !== undefined) return this.#handOver(sealed);
    if (first === TLS_HANDSHAKE && accepts !== "agents") return this.#beginHello();
    if (first === TOKEN_FIRST && accepts !== "visitors") return this.#handOver(agent);
    if (first === PROXY_V1_FIRST || first === PROXY_V2_FIRST) {
      throw new SallyportError(
        "proxy_header_unexpected",
        `Cannot accept connection: ${this.conn.remote.host} sends a ${
          this.#proxied ? "second PROXY header" : "PROXY header and isn't a trusted proxy"
        }`,
        { side: "peer" },
      );
    }
    if (sealed !== undefined && accepts !== "visitors" && first !== TLS_HANDSHAKE && first !== TOKEN_FIRST) {
      return this.#handOver(sealed);
    }
    const expected =
      { both: "TLS or a token", agents: "a token", visitors: "TLS", sealed: "nothing" }[accepts];
    throw new SallyportError(
      "unknown_protocol",
      `Cannot accept connection: it starts with byte 0x${
        first!.toString(16).padStart(2, "0")
      }, expected ${expected}`,
      { side: "peer" },
    );
  }

  #beginHello(): void {
    this.#options.pending.show(this, "visitor");
    const outcome = readClientHello(this.received);
    if (outcome.kind !== "incomplete") return this.#judge(outcome);
    this.#hello = new ClientHelloReader();
    const { received } = this;
    this.received = NOTHING;
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
      this.remote,
      outcome.serverName,
      this.#hello?.bytes ?? this.received,
    );
  }

  #handOver(next: (accepted: AcceptedConnection) => void): void {
    this.#over = true;
    next(this);
    this.received = NOTHING;
  }

  #leave(): void {
    this.#over = true;
    this.left();
  }

  #refuse(error: SallyportError, alert?: number): void {
    if (this.#over) return;
    const isVisitor = this.#isVisitor;
    this.#leave();
    if (isVisitor) return this.#options.visitors.refuse(this.conn, this.remote, error, alert);
    this.conn.release();
    this.#options.refused(error, this.remote);
  }
}

function join(a: Bytes, b: Bytes): Bytes {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}
