/**
 * Visitors: ClientHello → route → stream. TLS isn't touched; what can't be routed gets a TLS alert.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { internalError, SallyportError } from "../errors.ts";
import type { ByteStreamHandler, Clock, Timer } from "../runtime/port.ts";
import { reportFault } from "../telemetry/faults.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Session, SessionStream } from "../transport/port.ts";
import { splice } from "../transport/splice.ts";
import { ClientHelloReader } from "../wire/tls/client_hello.ts";
import { AlertDescription, encodeAlert } from "../wire/tls/tls_alert.ts";
import type { AcceptedConnection } from "../transport/admission.ts";
import { HELLO_DEADLINE_MS } from "../wire/tls/client_hello.ts";

/** What a visitor is told whose agent vanishes before it has answered. */
const LOST: Bytes = encodeAlert(AlertDescription.internal_error);

/** What visitors need of the edge. */
export interface VisitorOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Ticks of IDLE_TICK_MS without a byte that end a visitor. */
  readonly idleTicks: number;
  /** The session that serves a name. */
  find(serverName: string): Session | undefined | Promise<Session | undefined>;
  /** Another node refused the visitor that was forwarded to it: it does not hold the name any more. */
  stale?(serverName: string): void;
}

/** Takes a connection that has begun a TLS handshake. */
export function welcomeVisitor(connection: AcceptedConnection, options: VisitorOptions): void {
  new Visitor(connection, options).start();
}

/** Reads the ClientHello; after that the splice takes over. */
class Visitor implements ByteStreamHandler {
  readonly #connection: AcceptedConnection;
  readonly #options: VisitorOptions;
  readonly #hello = new ClientHelloReader();
  readonly #timer: Timer;
  /** The ClientHello is whole, and the cluster is being asked for the name. */
  #asking = false;
  #over = false;

  constructor(connection: AcceptedConnection, options: VisitorOptions) {
    this.#connection = connection;
    this.#options = options;
    const leftMs = connection.acceptedAtMs + HELLO_DEADLINE_MS - options.clock.nowMs();
    this.#timer = options.clock.after(Math.max(0, leftMs), () => {
      const seconds = HELLO_DEADLINE_MS / 1000;
      if (this.#asking) {
        const why = `Cannot route visitor: the cluster found no route in ${seconds} s`;
        return this.#refuse(
          new SallyportError("deadline_exceeded", why, { side: "local", retryable: true }),
          AlertDescription.internal_error,
        );
      }
      this.#refuse(
        new SallyportError(
          "deadline_exceeded",
          `Cannot route visitor: no whole ClientHello in ${seconds} s`,
          {
            side: "peer",
          },
        ),
        AlertDescription.handshake_failure,
      );
    });
  }

  start(): void {
    this.#connection.conn.attach(this);
    this.data(this.#connection.received);
  }

  data(chunk: Bytes): void {
    if (this.#over) return;
    const outcome = this.#hello.push(chunk);
    if (outcome.kind === "refused") {
      const why = `Cannot route visitor: ${outcome.detail}`;
      this.#refuse(new SallyportError(outcome.reason, why, { side: "peer" }), outcome.alert);
    } else if (outcome.kind === "hello") {
      this.#route(outcome.serverName);
    }
  }

  end(): void {
    this.close();
  }

  drain(): void {}

  close(error?: Error): void {
    // An end from this side carries its reason.
    if (error instanceof SallyportError && error.side === "local") return this.#refuse(error);
    this.#refuse(
      new SallyportError(
        "connection_lost",
        "Cannot route visitor: it left before its ClientHello was complete",
        {
          side: "network",
        },
      ),
    );
  }

  #route(serverName: string | undefined): void {
    if (serverName === undefined) {
      const why = "Cannot route visitor: its ClientHello names no server (no SNI)";
      return this.#refuse(
        new SallyportError("no_server_name", why, { side: "peer" }),
        AlertDescription.missing_extension,
      );
    }
    const found = this.#options.find(serverName);
    if (!(found instanceof Promise)) return this.#open(found, serverName);
    this.#asking = true;
    const { conn } = this.#connection;
    conn.pause();
    found.then((session) => {
      if (this.#over) return;
      this.#open(session, serverName);
      conn.resume();
    }, (error) => this.#refuse(internalError("visitor", error), AlertDescription.internal_error));
  }

  #open(session: Session | undefined, serverName: string): void {
    if (session === undefined) {
      const why = `Cannot route visitor: no agent serves ${serverName}`;
      return this.#refuse(
        new SallyportError("unrecognized_name", why, { side: "peer" }),
        AlertDescription.unrecognized_name,
      );
    }
    let stream: SessionStream;
    try {
      stream = session.open({
        address: this.#connection.remote.host,
        port: this.#connection.remote.port,
        serverName,
      });
    } catch (error) {
      return this.#refuse(internalError("visitor", error), AlertDescription.internal_error);
    }
    this.#join(stream, serverName);
  }

  #join(stream: SessionStream, serverName: string): void {
    this.#finish();
    const { clock, log, metrics } = this.#options;
    const { conn, remote } = this.#connection;
    const startedMs = clock.nowMs();
    metrics.streamOpened();
    // Long quiet is in order; whether the visitor is still there is asked below TLS.
    conn.keepAlive?.();
    log.debug({ server_name: serverName, visitor: remote.host }, "visitor connected");
    splice({
      visitorSide: conn,
      agentSide: stream,
      stream,
      clock,
      meter: metrics,
      received: this.#hello.bytes,
      farewell: LOST,
      idleTicks: this.#options.idleTicks,
      done: (error) => {
        metrics.streamClosed();
        if (error instanceof SallyportError && error.code === "unrecognized_name") {
          this.#options.stale?.(serverName);
        }
        reportFault(error, this.#options, { server_name: serverName });
        const seconds = (clock.nowMs() - startedMs) / 1000;
        log.debug({ server_name: serverName, visitor: remote.host, seconds, error }, "visitor left");
      },
    });
  }

  #refuse(error: SallyportError, alert?: number): void {
    if (this.#over) return;
    this.#finish();
    const { conn, remote } = this.#connection;
    if (alert !== undefined) conn.write(encodeAlert(alert));
    conn.release();
    this.#options.metrics.refused("visitor", error.code);
    reportFault(error, this.#options, { visitor: remote.host });
    this.#options.log.info({ visitor: remote.host, reason: error.code }, error.message);
  }

  #finish(): void {
    this.#over = true;
    this.#timer.cancel();
    this.#connection.left();
  }
}
