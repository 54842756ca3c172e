/**
 * Drives a multiplexer over a byte stream: the socket and the clock that {@link MuxSession} doesn't have.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { type ErrorCode, errorMessage, internalError, SallyportError } from "../errors.ts";
import type { Caller, Multiplexer, MuxHost } from "../protocol/mux/host.ts";
import type { Address, ByteStreamHandler, Clock, Conn } from "../runtime/port.ts";
import { Alarm } from "./alarm.ts";
import { lostSession } from "./lost.ts";
import type { Session, SessionHandler, SessionStream } from "./port.ts";

/** What stands between the multiplexer and the connection, where anything does. */
export interface LinkCodec {
  /** What goes over the connection for `plain`; valid until the next call. */
  seal(plain: Bytes): Bytes;
  /** Takes bytes of the connection and hands `mux` what they hold. Throws what ends the session. */
  open(wire: Bytes, mux: Multiplexer<SessionStream>): void;
  /** The session is over. */
  close(): void;
}

/** What a link is made of. */
export interface MuxLinkOptions {
  readonly transport: string;
  readonly cipher: string;
  /** See {@link Session.halfClose}. */
  readonly halfClose: boolean;
  readonly conn: Conn;
  readonly clock: Clock;
  readonly codec?: LinkCodec;
  /** Makes the multiplexer, whose host the link is. */
  mux(host: MuxHost<SessionStream>): Multiplexer<SessionStream>;
}

/** A {@link Session} over one connection. */
export class MuxLink implements Session, MuxHost<SessionStream> {
  readonly transport: string;
  readonly cipher: string;
  readonly halfClose: boolean;
  readonly remote: Address;
  readonly #conn: Conn;
  readonly #clock: Clock;
  #handler: SessionHandler | undefined;
  readonly #mux: Multiplexer<SessionStream>;
  readonly #codec: LinkCodec | undefined;
  readonly #turn: () => void;
  readonly #alarm: Alarm;
  #leaving: SallyportError | undefined;

  constructor(options: MuxLinkOptions) {
    this.#alarm = new Alarm(options.clock, () => this.#mux.tick());
    this.transport = options.transport;
    this.cipher = options.cipher;
    this.remote = options.conn.remote;
    this.#conn = options.conn;
    this.#clock = options.clock;
    this.halfClose = options.halfClose;
    this.#codec = options.codec;
    this.#mux = options.mux(this);
    this.#turn = () => this.#mux.turn();
  }

  /** Begins: `handler` hears of the session, `received` are bytes of the peer that have already been read. */
  start(handler: SessionHandler, received: Bytes): void {
    this.#handler = handler;
    const conn = new LinkConn(this, this.#mux, this.#codec);
    this.#conn.attach(conn);
    this.#mux.start();
    conn.data(received);
  }

  get protocolVersion(): number {
    return this.#mux.protocolVersion;
  }
  get streams(): number {
    return this.#mux.streams;
  }
  get bytesSent(): number {
    return this.#mux.bytesSent;
  }
  get bytesReceived(): number {
    return this.#mux.bytesReceived;
  }
  get rttMs(): number | undefined {
    return this.#mux.rttMs;
  }

  open(caller: Caller): SessionStream {
    if (this.#leaving !== undefined) throw this.#leaving;
    return this.#mux.open(caller);
  }

  goAway(reason: SallyportError): void {
    this.#leaving ??= reason;
    this.#mux.goAway?.(reason.code);
  }

  close(reason: SallyportError): void {
    this.#mux.end(reason);
  }

  // From the multiplexer.

  /** Internal. */
  write(bytes: Bytes): boolean {
    return this.#conn.write(this.#codec === undefined ? bytes : this.#codec.seal(bytes));
  }

  /** Internal. */
  wake(): void {
    this.#clock.soon(this.#turn);
  }

  /** Internal. */
  arm(atMs: number): void {
    this.#alarm.arm(atMs);
  }

  /** Internal. */
  nowMs(): number {
    return this.#alarm.nowMs();
  }

  /** Internal. */
  holdReading(hold: boolean): void {
    if (hold) this.#conn.pause();
    else this.#conn.resume();
  }

  /** Internal. */
  opened(stream: SessionStream): void {
    this.#handler?.stream(stream);
  }

  /** Internal. */
  refused(code: ErrorCode): void {
    this.#handler?.streamRefused(code);
  }

  /** Internal. */
  closed(): void {
    this.#handler?.streamClosed();
  }

  /** Internal. */
  goingAway(code: ErrorCode): void {
    this.#leaving ??= new SallyportError(
      "shutdown",
      `Cannot open stream: the other side goes away: ${code}`,
      { side: "peer", retryable: true },
    );
    this.#handler?.goingAway?.(code);
  }

  /** Internal. */
  ended(error: SallyportError): void {
    this.#alarm.stop();
    this.#codec?.close();
    this.#conn.release();
    this.#handler?.ended(error);
  }

  /** Internal: the connection is gone. */
  lost(why: string, cause?: unknown): void {
    this.#mux.end(lostSession(why, cause));
  }
}

/** The connection's side of a link; `close` means another thing there than a session's. */
class LinkConn implements ByteStreamHandler {
  readonly #link: MuxLink;
  readonly #mux: Multiplexer<SessionStream>;
  readonly #codec: LinkCodec | undefined;

  constructor(link: MuxLink, mux: Multiplexer<SessionStream>, codec: LinkCodec | undefined) {
    this.#link = link;
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
    this.#link.lost("the peer closed it");
  }

  drain(): void {
    this.#mux.writable();
  }

  close(error?: Error): void {
    this.#link.lost(error === undefined ? "it was closed" : errorMessage(error), error);
  }
}
