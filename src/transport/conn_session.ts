/**
 * A session whose frames share one connection: the socket that its multiplexer doesn't have.
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
 * What may wait for a session's connection where the runtime writes on its own time: enough for what some sockets bring in
 * one turn. How much is on its way altogether is up to the multiplexer.
 */
const WRITE_AHEAD_BYTES = 1024 * 1024;

/** What stands between the multiplexer and the connection, where anything does. */
interface ConnCodec {
  /** What goes over the connection for `plain`; valid until the next call. */
  seal(plain: Bytes): Bytes;
  /** Takes bytes of the connection and hands `mux` what they hold. Throws what ends the session. */
  open(wire: Bytes, mux: Multiplexer<SessionStream>): void;
  /** The session is over. */
  close(): void;
}

/** What a {@link ConnSession} is made of. */
interface ConnSessionOptions extends SessionTraits {
  readonly conn: Conn;
  readonly clock: Clock;
  readonly codec?: ConnCodec;
  /** Makes the multiplexer, whose host the session is. */
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

  /** Begins: `handler` hears of the session, `received` are bytes of the peer that have already been read. */
  start(handler: SessionHandler, received: Bytes): void {
    this.handler = handler;
    const conn = new ConnHandler(this, this.machine, this.#codec);
    this.#conn.writeAhead?.(WRITE_AHEAD_BYTES);
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

  /** The connection is gone. */
  lost(why: string, cause?: unknown): void {
    this.machine.end(lostSession(why, cause));
  }
}

/** The connection's side of a session; `close` means another thing there than a session's. */
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
