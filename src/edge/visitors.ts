/**
 * Visitors whose ClientHello is there: name → session → stream. TLS isn't touched; what can't be routed gets a TLS alert.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { MemoryBudget } from "../bytes/memory_budget.ts";
import { LINK } from "../cluster/link.ts";
import { internalError, SallyportError } from "../errors.ts";
import type { Address, Clock, Conn } from "../runtime/port.ts";
import { reportFault } from "../telemetry/faults.ts";
import type { Logger } from "../telemetry/log.ts";
import type { LogSampler } from "../telemetry/log_sampler.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Session, SessionStream } from "../transport/port.ts";
import { splice } from "../transport/splice.ts";
import { AlertDescription, encodeAlert } from "../wire/tls/tls_alert.ts";
import type { StreamShares } from "../transport/stream_shares.ts";

/** What a visitor is told whose agent vanishes before it has answered. */
const LOST: Bytes = encodeAlert(AlertDescription.internal_error);

/** What {@link Visitors} works with. */
interface VisitorOptions {
  readonly clock: Clock;
  readonly memory?: MemoryBudget;
  readonly log: Logger;
  readonly sampler: LogSampler;
  readonly metrics: Metrics;
  readonly shares: StreamShares;
  /** An endpoint must have answered by then; 0 for no such deadline. */
  readonly answerTimeoutMs: number;
  /** Ticks of IDLE_TICK_MS without a byte that end a visitor. */
  readonly idleTicks: number;
  /** The session that serves a name. */
  find(serverName: string): Session | undefined | Promise<Session | undefined>;
  /** Another node refused the visitor that was forwarded to it: it does not hold the name any more. */
  stale?(serverName: string): void;
}

/** Routes the visitors of one edge; nothing of a visitor stays here behind its splice. */
export class Visitors {
  readonly #options: VisitorOptions;

  constructor(options: VisitorOptions) {
    this.#options = options;
  }

  /** Joins a visitor to the session that serves its name; `received` is all that has been read of it. */
  route(conn: Conn, remote: Address, serverName: string | undefined, received: Bytes): void {
    if (serverName === undefined) {
      const why = "Cannot route visitor: its ClientHello names no server (no SNI)";
      const nameless = new SallyportError("no_server_name", why, { side: "peer" });
      return this.refuse(conn, remote, nameless, AlertDescription.missing_extension);
    }
    const session = this.#options.find(serverName);
    if (session instanceof Promise) this.#routeLater(conn, remote, serverName, received.slice(), session);
    else this.#open(conn, remote, serverName, received, session);
  }

  /** The cluster has to be asked for the name first; it answers or gives up within seconds. */
  #routeLater(
    conn: Conn,
    remote: Address,
    serverName: string,
    received: Bytes,
    asked: Promise<Session | undefined>,
  ): void {
    let left = false;
    conn.attach({ data() {}, end() {}, drain() {}, close: () => void (left = true) });
    conn.pause();
    asked.then(
      (session) => {
        if (left) return;
        this.#open(conn, remote, serverName, received, session);
        conn.resume();
      },
      (error) => this.refuse(conn, remote, internalError("visitor", error), AlertDescription.internal_error),
    );
  }

  #open(
    conn: Conn,
    remote: Address,
    serverName: string,
    received: Bytes,
    session: Session | undefined,
  ): void {
    const { shares } = this.#options;
    if (session === undefined) {
      const why = `Cannot route visitor: no agent serves ${serverName}`;
      const unknown = new SallyportError("unrecognized_name", why, { side: "peer" });
      return this.refuse(conn, remote, unknown, AlertDescription.unrecognized_name);
    }
    // A forwarded visitor counts at the node that has the session, whichever node it came by.
    if (session.transport !== LINK && !shares.enter(session, remote.host)) {
      const why = `Cannot route visitor: its source has too many streams to ${serverName} already`;
      const greedy = new SallyportError("limit_exceeded", why, { side: "peer", retryable: true });
      return this.refuse(conn, remote, greedy, AlertDescription.internal_error);
    }
    let stream: SessionStream;
    try {
      stream = session.open({ address: remote.host, port: remote.port, serverName });
    } catch (error) {
      if (session.transport !== LINK) shares.leave(session, remote.host);
      return this.refuse(conn, remote, internalError("visitor", error), AlertDescription.internal_error);
    }
    this.#join(conn, remote, { session, stream, serverName, received });
  }

  /** Turns a visitor away, with an alert where there is one to give. */
  refuse(conn: Conn, remote: Address, error: SallyportError, alert?: number): void {
    const { metrics, sampler } = this.#options;
    if (alert !== undefined) conn.write(encodeAlert(alert));
    conn.release();
    metrics.refused("visitor", error.code);
    reportFault(error, this.#options, { visitor: remote.host });
    sampler.info(`visitor ${error.code}`, { visitor: remote.host, reason: error.code }, error.message);
  }

  #join(
    conn: Conn,
    { host }: Address,
    { session, stream, serverName, received }: {
      readonly session: Session;
      readonly stream: SessionStream;
      readonly serverName: string;
      readonly received: Bytes;
    },
  ): void {
    const { clock, memory, log, metrics, shares, idleTicks, answerTimeoutMs } = this.#options;
    const startedMs = clock.nowMs();
    metrics.streamOpened();
    log.debug({ server_name: serverName, visitor: host }, "visitor connected");
    splice({
      visitorSide: conn,
      agentSide: stream,
      stream,
      clock,
      memory,
      meter: metrics,
      received,
      farewell: LOST,
      idleTicks,
      firstByteMs: answerTimeoutMs === 0 ? undefined : answerTimeoutMs,
      // Long quiet is in order; whether the visitor is still there is asked below TLS.
      stays: () => conn.keepAlive?.(),
      done: (error) => {
        if (session.transport !== LINK) shares.leave(session, host);
        metrics.streamClosed();
        if (error instanceof SallyportError && error.code === "unrecognized_name") {
          this.#options.stale?.(serverName);
        }
        reportFault(error, this.#options, { server_name: serverName });
        const seconds = (clock.nowMs() - startedMs) / 1000;
        log.debug({ server_name: serverName, visitor: host, seconds, error }, "visitor left");
      },
    });
  }
}
