/**
 * A connection to a public port that comes from a trusted proxy: it begins with a PROXY header, which names the visitor.
 *
 * @module
 */
import { type Bytes, concat } from "../../bytes/bytes.ts";
import { errorMessage, SallyportError } from "../../errors.ts";
import type { Address, ByteStreamHandler, Clock, Conn, Timer } from "../../runtime/port.ts";
import { readProxyHeader } from "../../wire/proxy/proxy_header.ts";
import { HELLO_DEADLINE_MS } from "../../wire/tls/client_hello.ts";

/** Events of a {@link ProxiedVisitor}; one of them is called, once. */
interface ProxiedVisitorEvents {
  /** The header is complete: the visitor's address, and the bytes after the header. The connection is paused. */
  named(visitor: Address, rest: Bytes): void;
  /** The header is invalid, late or missing. */
  failed(error: SallyportError): void;
}

/** Waits for the header of one connection. */
export class ProxiedVisitor implements ByteStreamHandler {
  readonly #conn: Conn;
  readonly #events: ProxiedVisitorEvents;
  readonly #timer: Timer;
  #received: Bytes = new Uint8Array(0);
  #over = false;

  constructor(conn: Conn, clock: Clock, events: ProxiedVisitorEvents) {
    this.#conn = conn;
    this.#events = events;
    this.#timer = clock.after(HELLO_DEADLINE_MS, () => {
      const why = `no whole PROXY header in ${HELLO_DEADLINE_MS / 1000} s`;
      this.#fail(
        new SallyportError("deadline_exceeded", `Cannot accept connection: ${why}`, { side: "peer" }),
      );
    });
    conn.attach(this);
  }

  data(chunk: Bytes): void {
    if (this.#over) return;
    this.#received = concat([this.#received, chunk]);
    try {
      const header = readProxyHeader(this.#received);
      if (header === undefined) return;
      this.#end();
      this.#conn.pause();
      this.#events.named(header.source ?? this.#conn.remote, this.#received.subarray(header.length));
    } catch (error) {
      this.#fail(error as SallyportError);
    }
  }

  end(): void {
    this.close();
  }

  drain(): void {}

  close(error?: Error): void {
    const why = error === undefined ? "it ended" : errorMessage(error);
    this.#fail(
      new SallyportError("connection_lost", `Cannot accept connection: ${why} before its PROXY header`, {
        side: "peer",
      }),
    );
  }

  #fail(error: SallyportError): void {
    if (this.#over) return;
    this.#end();
    this.#events.failed(error);
  }

  #end(): void {
    this.#over = true;
    this.#timer.cancel();
  }
}
