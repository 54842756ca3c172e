/**
 * A session whose frames share one connection; does the I/O for its multiplexer.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { errorMessage, internalError } from "../errors.ts";
import type { Multiplexer, MuxHost } from "../protocol/mux/host.ts";
import type { Address, ByteStreamHandler, Clock, Conn } from "../runtime/port.ts";
import { DrivenSession, type SessionTraits } from "./driven_session.ts";
import { lostSession } from "./lost.ts";
import type { SessionHandler, SessionStream } from "./port.ts";

/**
 * Bytes that may be queued for a session's connection where the runtime writes asynchronously: enough for what some
 * sockets deliver in one turn. The multiplexer limits the total in flight.
 */
const WRITE_AHEAD_BYTES = 1024 * 1024;

/** Optional codec between the multiplexer and the connection. */
export interface ConnCodec {
  /** Encodes `plain` for the connection; the result is valid until the next call. */
  seal(plain: Bytes): Bytes;
  /** Decodes bytes from the connection and passes the content to `mux`. Throws to end the session. */
  open(wire: Bytes, mux: Multiplexer<SessionStream>): void;
  /** The session is over. */
  close(): void;
}

/** Options of {@link ConnSession}. */
interface ConnSessionOptions extends SessionTraits {
  readonly conn: Conn;
  readonly clock: Clock;
  readonly codec?: ConnCodec | undefined;
  /** Creates the multiplexer, whose host is the session. */
  mux(host: MuxHost<SessionStream>): Multiplexer<SessionStream>;
}

/** A {@link Session} over one connection. */
export class ConnSession extends DrivenSession implements MuxHost<SessionStream> {
  readonly remote: Address;
  protected readonly machine: Multiplexer<SessionStream>;
  readonly #conn: Conn;
  readonly #codec: ConnCodec | undefined;

  constructor(options: ConnSessionOptions) {
    super(options, options.clock);
    this.remote = options.conn.remote;
    this.#conn = options.conn;
    this.#codec = options.codec;
    this.machine = options.mux(this);
  }

  /** Starts the session. `handler` receives its events; `received` holds bytes already read from the peer. */
  start(handler: SessionHandler, received: Bytes): void {
    this.handler = handler;
    const conn = new ConnHandler(this, this.machine, this.#codec);
    this.#conn.carrySession?.(WRITE_AHEAD_BYTES);
    this.#conn.attach(conn);
    this.machine.start();
    conn.data(received);
  }

  // From the multiplexer (MuxHost).

  write(bytes: Bytes): boolean {
    return this.#conn.write(this.#codec === undefined ? bytes : this.#codec.seal(bytes));
  }

  holdReading(hold: boolean): void {
    if (hold) this.#conn.pause();
    else this.#conn.resume();
  }

  protected override closeConn(): void {
    this.#codec?.close();
    this.#conn.release();
  }

  /** The connection is lost. */
  lost(why: string, cause?: unknown): void {
    this.machine.end(lostSession(why, cause));
  }
}

/**
 * Handles the connection's events for a session; a separate class because `close` means something else on a session.
 */
class ConnHandler implements ByteStreamHandler {
  readonly #session: ConnSession;
  readonly #mux: Multiplexer<SessionStream>;
  readonly #codec: ConnCodec | undefined;

  constructor(session: ConnSession, mux: Multiplexer<SessionStream>, codec: ConnCodec | undefined) {
    this.#session = session;
    this.#mux = mux;
    this.#codec = codec;
  }

  data(chunk: Bytes): void {
    if (this.#codec === undefined) return this.#mux.receive(chunk);
    try {
      this.#codec.open(chunk, this.#mux);
    } catch (error) {
      this.#mux.end(internalError("session", error));
    }
  }

  end(): void {
    this.#session.lost("the peer closed the connection");
  }

  drain(): void {
    this.#mux.writable();
  }

  close(error?: Error): void {
    this.#session.lost(error === undefined ? "it was closed" : errorMessage(error), error);
  }
}
