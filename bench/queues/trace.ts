/**
 * Trace points at the runtime port: when bytes that carry a marker come in and go out at each connection. The product has
 * no line of it, so that it costs nothing where it isn't used.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Bytes } from "../../src/bytes/bytes.ts";
import type { Address, Conn, Runtime } from "../../src/runtime/port.ts";
import { WrappedStream } from "../../src/runtime/wrapped_stream.ts";

/** A marked message: this text, its number as a double, and padding. */
const MARKER = Buffer.from("sallyport trace ");
/** Bytes of a marked message. */
export const MESSAGE_BYTES = 64;

/** A marked message passed a point. */
export interface Passed {
  /** The message's number. */
  readonly number: number;
  /** The connection and the direction, such as `visitor in`. */
  readonly point: string;
  /** Microseconds since 1970: the start of the process by the machine's clock, and its monotonic time since. */
  readonly atUs: number;
  /** Bytes that wait in the connection's own queue at this moment. */
  readonly queuedBytes: number;
}

/** Now, on the clock of {@link Passed.atUs}. */
export function nowUs(): number {
  return (performance.timeOrigin + performance.now()) * 1000;
}

/** Makes a message. */
export function markedMessage(number: number): Bytes {
  const message = new Uint8Array(MESSAGE_BYTES);
  message.set(MARKER);
  new DataView(message.buffer).setFloat64(MARKER.length, number);
  return message;
}

/** The number of the first message that begins in these bytes; undefined if there is none. */
export function markOf(bytes: Bytes): number | undefined {
  const at = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).indexOf(MARKER);
  if (at < 0 || bytes.length - at < MARKER.length + 8) return undefined;
  return new DataView(bytes.buffer, bytes.byteOffset + at + MARKER.length).getFloat64(0);
}

/** A runtime whose connections record what passes them; `nameOf` names a connection. */
export function traced(
  runtime: Runtime,
  passed: Passed[],
  nameOf: (conn: Conn, dialled: boolean) => string,
): Runtime {
  return {
    ...runtime,
    listen: (options) =>
      runtime.listen({
        ...options,
        accept: (conn) => options.accept(new TracedConn(conn, passed, nameOf(conn, false), nowUs())),
      }),
    dial: async (options) => {
      const startUs = nowUs();
      const conn = await runtime.dial(options);
      return new TracedConn(conn, passed, nameOf(conn, true), nowUs(), startUs);
    },
    connect(options, handler) {
      const startUs = nowUs();
      return runtime.connect(options, {
        connected(conn) {
          handler.connected(new TracedConn(conn, passed, nameOf(conn, true), nowUs(), startUs));
        },
        failed: (error) => handler.failed(error),
      });
    },
  };
}

class TracedConn extends WrappedStream<Conn> implements Conn {
  readonly #passed: Passed[];
  readonly #name: string;
  /** When it was dialled and opened, until its first message, to which that belongs, passes. */
  #beginnings: (readonly [point: string, atUs: number])[];

  constructor(conn: Conn, passed: Passed[], name: string, openedUs: number, dialledUs?: number) {
    super(conn);
    this.#passed = passed;
    this.#name = name;
    this.#beginnings = dialledUs === undefined ? [] : [["dialled", dialledUs]];
    this.#beginnings.push(["opened", openedUs]);
  }

  get remote(): Address {
    return this.inner.remote;
  }

  get local(): Address {
    return this.inner.local;
  }

  override data(chunk: Bytes): void {
    this.#look(chunk, "in");
    this.handler?.data(chunk);
  }

  override write(chunk: Bytes): boolean {
    this.#look(chunk, "out");
    return this.inner.write(chunk);
  }

  carrySession(writeAheadBytes: number): void {
    this.inner.carrySession?.(writeAheadBytes);
  }

  #look(chunk: Bytes, direction: "in" | "out"): void {
    const number = markOf(chunk);
    if (number === undefined) return;
    const queuedBytes = direction === "out" ? this.inner.bufferedBytes : 0;
    for (const [point, atUs] of this.#beginnings) {
      this.#passed.push({ number, point: `${this.#name} ${point}`, atUs, queuedBytes: 0 });
    }
    this.#beginnings = [];
    this.#passed.push({ number, point: `${this.#name} ${direction}`, atUs: nowUs(), queuedBytes });
  }
}
