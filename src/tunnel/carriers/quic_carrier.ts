/**
 * A QUIC connection as a {@link Carrier}: every stream of the carrier is one of QUIC's own.
 *
 * @module
 */
import type { SallyportError } from "../../errors.ts";
import type { Address, ByteStream, Clock } from "../../runtime/port.ts";
import type { QuicCapabilities, QuicConn } from "../../runtime/quic_port.ts";
import type { Carrier, CarrierHandler } from "./carrier.ts";
import { carrierStream, type QuicStreamHost, UnreadBytes } from "./quic_stream.ts";
import { QUIC_FAREWELL_MS } from "../../runtime/quic_port.ts";

/** Options of {@link QuicCarrier}. */
interface QuicCarrierOptions {
  /** The connection; the carrier attaches itself. */
  readonly conn: QuicConn;
  readonly clock: Clock;
  /** The capabilities of the runtime's QUIC. */
  readonly capabilities: QuicCapabilities;
  /** Unread byte count shared with other carriers. Defaults to its own. */
  readonly unread?: UnreadBytes;
}

/** Carries a tunnel over one QUIC connection. */
export class QuicCarrier implements Carrier {
  readonly transport = "quic";
  readonly #conn: QuicConn;
  readonly #host: QuicStreamHost;
  readonly #streams = new Set<ByteStream>();
  readonly #waiting: ByteStream[] = [];
  #handler: CarrierHandler | undefined;
  #goingAway: SallyportError | undefined;
  #endedWith: SallyportError | undefined;
  #told = false;
  #quiet: (() => void)[] = [];

  constructor({ conn, clock, capabilities, unread }: QuicCarrierOptions) {
    this.#conn = conn;
    this.#host = {
      clock,
      backPressure: capabilities.receiveBackPressure,
      unread: new UnreadBytes(unread),
      over: (stream) => {
        this.#streams.delete(stream);
        if (this.#streams.size === 0) this.#tellQuiet();
      },
    };
    conn.attach({ stream: (stream) => this.#arrived(stream), ended: (error) => this.#over(error) });
  }

  get remote(): Address {
    return this.#conn.remote;
  }

  /** Number of open streams. */
  get streams(): number {
    return this.#streams.size;
  }

  /**
   * Resolves when no stream is open and the last one's final bytes have had time to arrive, or when the carrier is
   * over: closing a connection drops data in flight.
   */
  async quiet(): Promise<void> {
    do {
      if (this.#streams.size > 0) await new Promise<void>((resolve) => void this.#quiet.push(resolve));
      if (this.#endedWith !== undefined) return;
      await new Promise<void>((resolve) => void this.#host.clock.after(QUIC_FAREWELL_MS, resolve));
    } while (this.#streams.size > 0);
  }

  /** The first stream of the other side, for a greeting; later ones wait for a handler. */
  first(): Promise<ByteStream> {
    return new Promise((resolve, reject) => {
      this.#handler = {
        stream: (stream) => {
          this.#handler = undefined;
          resolve(stream);
        },
        ended: reject,
      };
      this.attach(this.#handler);
    });
  }

  attach(handler: CarrierHandler): void {
    this.#handler = handler;
    queueMicrotask(() => {
      while (this.#handler !== undefined && this.#waiting.length > 0) {
        this.#handler.stream(this.#waiting.shift() as ByteStream);
      }
      this.#tellEnded();
    });
  }

  async open(): Promise<ByteStream> {
    if (this.#endedWith !== undefined) throw this.#endedWith;
    if (this.#goingAway !== undefined) throw this.#goingAway;
    return this.#keep(await this.#conn.open());
  }

  goAway(reason: SallyportError): void {
    this.#goingAway ??= reason;
    for (const stream of this.#waiting.splice(0)) stream.abort(reason);
  }

  close(reason: SallyportError): void {
    this.#conn.close(reason);
  }

  #arrived(inner: ByteStream): void {
    const stream = this.#keep(inner);
    if (this.#goingAway !== undefined) stream.abort(this.#goingAway);
    else if (this.#handler === undefined) this.#waiting.push(stream);
    else this.#handler.stream(stream);
  }

  #over(error: SallyportError): void {
    this.#endedWith = error;
    this.#streams.clear();
    this.#tellQuiet();
    this.#tellEnded();
  }

  #keep(inner: ByteStream): ByteStream {
    const stream = carrierStream(inner, this.#host);
    this.#streams.add(stream);
    return stream;
  }

  #tellEnded(): void {
    if (this.#endedWith === undefined || this.#handler === undefined || this.#told) return;
    this.#told = true;
    this.#handler.ended(this.#endedWith);
  }

  #tellQuiet(): void {
    for (const resolve of this.#quiet.splice(0)) resolve();
  }
}
