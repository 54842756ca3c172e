/**
 * Drives a multiplexer over a byte stream: the socket and the clock that {@link MuxSession} doesn't have.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { type ErrorCode, errorMessage, SallyportError } from "../errors.ts";
import type { Caller, MuxHost } from "../mux/host.ts";
import type { MuxOptions } from "../mux/options.ts";
import { MuxSession } from "../mux/session.ts";
import type { MuxStream } from "../mux/stream.ts";
import type { Address, ByteStreamHandler, Clock, Conn, Timer } from "../runtime/port.ts";
import type { Session, SessionHandler } from "./port.ts";

/** What a link is made of besides the multiplexer's own options. */
export interface MuxLinkOptions extends Omit<MuxOptions, "host"> {
  readonly transport: string;
  readonly cipher: string;
  readonly conn: Conn;
  readonly clock: Clock;
}

/** A {@link Session} over one connection. */
export class MuxLink implements Session, MuxHost {
  readonly transport: string;
  readonly cipher: string;
  readonly remote: Address;
  readonly #conn: Conn;
  readonly #clock: Clock;
  #handler: SessionHandler | undefined;
  readonly #mux: MuxSession;
  readonly #turn: () => void;
  #timer: Timer | undefined;
  #armedMs = Infinity;
  #gone = false;

  constructor(options: MuxLinkOptions) {
    this.transport = options.transport;
    this.cipher = options.cipher;
    this.remote = options.conn.remote;
    this.#conn = options.conn;
    this.#clock = options.clock;
    this.#mux = new MuxSession({ ...options, host: this });
    this.#turn = () => this.#mux.turn();
  }

  /** Begins: `handler` hears of the session, `received` are bytes of the peer that have already been read. */
  start(handler: SessionHandler, received: Bytes): void {
    this.#handler = handler;
    this.#conn.attach(this.#wire());
    this.#mux.start();
    this.#mux.receive(received);
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

  open(caller: Caller): MuxStream {
    return this.#mux.open(caller);
  }

  close(reason: SallyportError): void {
    this.#mux.end(reason);
  }

  // From the multiplexer.

  /** Internal. */
  write(bytes: Bytes): boolean {
    return this.#conn.write(bytes);
  }

  /** Internal. */
  wake(): void {
    this.#clock.soon(this.#turn);
  }

  /** Internal. */
  arm(atMs: number): void {
    if (atMs >= this.#armedMs || this.#gone) return;
    this.#timer?.cancel();
    this.#armedMs = atMs;
    this.#timer = this.#clock.after(Math.max(0, atMs - this.#clock.nowMs()), () => {
      this.#armedMs = Infinity;
      this.#mux.tick();
    });
  }

  /** Internal. */
  nowMs(): number {
    return this.#clock.nowMs();
  }

  /** Internal. */
  holdReading(hold: boolean): void {
    if (hold) this.#conn.pause();
    else this.#conn.resume();
  }

  /** Internal. */
  opened(stream: MuxStream): void {
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
  ended(error: SallyportError): void {
    this.#gone = true;
    this.#timer?.cancel();
    this.#conn.release();
    this.#handler?.ended(error);
  }

  /** The connection's side; `close` means another thing there than a session's. */
  #wire(): ByteStreamHandler {
    return {
      data: (chunk) => this.#mux.receive(chunk),
      end: () => this.#lost("the peer closed it"),
      drain: () => this.#mux.writable(),
      close: (error) => this.#lost(error === undefined ? "it was closed" : errorMessage(error), error),
    };
  }

  #lost(why: string, cause?: unknown): void {
    this.#mux.end(
      new SallyportError("connection_lost", `Cannot keep session: ${why}`, {
        side: "network",
        retryable: true,
        cause,
      }),
    );
  }
}
