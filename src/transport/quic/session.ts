/**
 * A session over a QUIC connection (docs/quic-transport.md): each visitor has its own QUIC stream, so that a lost
 * packet delays no other, and frames of the credit dialect on it express what QUIC's own signals can't on every
 * runtime.
 *
 * @module
 */
import type { BlockPool } from "../../bytes/block_pool.ts";
import type { Role } from "../../crypto/header_cipher.ts";
import type { Address, ByteStream, Clock } from "../../runtime/port.ts";
import type { QuicConn } from "../../runtime/quic_port.ts";
import type { Filler } from "../../wire/snitun/snitun_frame.ts";
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";
import type { Bytes } from "../../bytes/bytes.ts";
import type { SallyportError } from "../../errors.ts";
import { CreditEngine } from "../../protocol/mux/credit/engine.ts";
import { DrivenSession } from "../driven_session.ts";
import { lostSession } from "../lost.ts";
import type { SessionHandler } from "../port.ts";
import { QuicChannel } from "./channel.ts";
import type { FramedQuicStream } from "./framed_stream.ts";

/** The ALPN protocol; its number is the transport's version. */
export const QUIC_ALPN = "sallyport/1";
/** The transport's name in logs and metrics, and the name of its cipher. */
export const QUIC = "quic";
export const QUIC_CIPHER = "tls-1.3";

/** The parts of a {@link QuicSession}. */
interface QuicSessionOptions {
  readonly role: Role;
  readonly conn: QuicConn;
  /** The control stream, after login and verdict. */
  readonly control: ByteStream;
  readonly clock: Clock;
  readonly random: Filler;
  /** Block pool for the streams' queues. */
  readonly blocks: BlockPool;
  readonly queueLimits?: QueueLimits;
  /** Received bytes that the session may hold. Defaults to `SESSION_RECEIVE_BUDGET_BYTES`. */
  readonly receiveBudgetBytes?: number;
  /** At an agent: number of QUIC streams opened by the edge from which the agent offers some of its own. */
  readonly offerFrom?: number;
}

/** A session in either role; receives its connection's events once started. */
export class QuicSession extends DrivenSession {
  protected readonly machine: CreditEngine<FramedQuicStream>;
  readonly #conn: QuicConn;
  readonly #controlStream: ByteStream;
  readonly #channel: QuicChannel;

  constructor(options: QuicSessionOptions) {
    super({ transport: QUIC, cipher: QUIC_CIPHER, halfClose: true }, options.clock);
    const { conn, offerFrom } = options;
    this.#conn = conn;
    this.#controlStream = options.control;
    const late = () => this.refused("deadline_exceeded");
    let channel!: QuicChannel;
    this.machine = new CreditEngine<FramedQuicStream>(
      { ...options, host: this },
      (sink) => channel = new QuicChannel({ conn, clock: this.alarm, offerFrom, late }, sink),
    );
    this.#channel = channel;
  }

  /** Starts the session. `handler` receives its events; `received` was already read from the control stream. */
  start(handler: SessionHandler, received: Bytes): void {
    this.handler = handler;
    this.#channel.start(this.#controlStream);
    this.#conn.attach({
      stream: (inner) => this.stream(inner),
      ended: (error) => this.close(lostSession(error)),
    });
    this.machine.start();
    if (received.length > 0) this.#channel.receive(received);
  }

  get remote(): Address {
    return this.#conn.remote;
  }

  /** The peer has opened a QUIC stream. */
  stream(inner: ByteStream): void {
    if (this.machine.over) inner.abort();
    else this.#channel.came(inner);
  }

  protected override closeConn(error: SallyportError): void {
    this.#conn.close(error);
  }
}
