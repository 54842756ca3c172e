/**
 * Visitors whose ClientHello has been read: name → session → stream. TLS isn't terminated; connections that can't be
 * routed get a TLS alert.
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
import type { Span, Tracer } from "../telemetry/tracing.ts";
import type { Session, SessionStream } from "../transport/port.ts";
import { FIRST_BYTE_DEADLINE_MS, Splice, type SpliceRules } from "../transport/splice.ts";
import { AlertDescription, encodeAlert } from "../wire/tls/tls_alert.ts";
import { isValidation, offerValidation } from "./validations.ts";
import type { StreamShares } from "../transport/stream_shares.ts";

/** The alert for a visitor whose agent disappears before answering. */
const LOST: Bytes = encodeAlert(AlertDescription.internal_error);

const NOTHING: Bytes = new Uint8Array(0);

/** What a visitor's ClientHello asks for. */
interface RouteHello {
  readonly serverName: string | undefined;
  readonly alpnProtocols: readonly string[];
}

/** Name of a visitor's span. */
const SPAN = "visitor";

/** Options of {@link Visitors}. */
interface VisitorOptions {
  readonly clock: Clock;
  readonly memory?: MemoryBudget;
  readonly log: Logger;
  readonly sampler: LogSampler;
  readonly metrics: Metrics;
  /** Tracer for connections. Defaults to no tracing. */
  readonly tracer?: Tracer;
  readonly shares: StreamShares;
  /** An endpoint must answer within this time; 0 disables the deadline. */
  readonly answerTimeoutMs: number;
  /** Number of IDLE_TICK_MS ticks without a byte after which a visitor is disconnected. */
  readonly idleTicks: number;
  /** The session that serves a name. */
  find(serverName: string): Session | undefined | Promise<Session | undefined>;
  /** How many sessions of this node share a name; {@link find} gives them in turn. */
  sharing?(serverName: string): number;
  /** Called when another node refused a forwarded visitor because it no longer holds the name. */
  stale?(serverName: string): void;
}

/** Routes the visitors of one edge. Keeps no state of a visitor once it is spliced. */
export class Visitors {
  readonly #options: VisitorOptions;
  readonly #rules: SpliceRules;
  /** For visitors to whom the agent's first bytes have been passed on. */
  readonly #answeredRules: SpliceRules;

  constructor(options: VisitorOptions) {
    this.#options = options;
    const { clock, memory, metrics, idleTicks, answerTimeoutMs } = options;
    this.#answeredRules = { clock, memory, meter: metrics, farewell: LOST, idleTicks };
    this.#rules = {
      ...this.#answeredRules,
      ...answerTimeoutMs === 0 ? {} : { firstByteMs: answerTimeoutMs },
    };
  }

  /** Connects a visitor to the session that serves its name; `received` is everything read from it so far. */
  route(conn: Conn, remote: Address, { serverName, alpnProtocols }: RouteHello, received: Bytes): void {
    if (serverName === undefined) {
      const why = "Cannot route visitor: its ClientHello names no server (no SNI)";
      const nameless = new SallyportError("no_server_name", why, { side: "peer" });
      return this.refuse(conn, remote, nameless, AlertDescription.missing_extension);
    }
    if (isValidation(alpnProtocols)) {
      const sharing = this.#options.sharing?.(serverName) ?? 0;
      if (sharing > 1) return this.#validate(conn, remote, serverName, received.slice(), sharing);
    }
    const session = this.#options.find(serverName);
    if (session instanceof Promise) this.#routeLater(conn, remote, serverName, received.slice(), session);
    else this.#open(conn, remote, serverName, received, session);
  }

  /** Finds the agent that has an authority's challenge among those that share the name. */
  #validate(conn: Conn, remote: Address, serverName: string, received: Bytes, sharing: number): void {
    const { shares, find, clock, answerTimeoutMs } = this.#options;
    const caller = { address: remote.host, port: remote.port, serverName };
    // Other visitors take turns too, so that one agent may be met twice and another not at all.
    let left = 2 * sharing;
    const tried = new Set<Session>();
    let session: Session;
    offerValidation({
      ...{ conn, received, clock },
      withinMs: answerTimeoutMs === 0 ? FIRST_BYTE_DEADLINE_MS : answerTimeoutMs,
      next: () => {
        while (left-- > 0) {
          const found = find(serverName);
          if (found === undefined || found instanceof Promise || tried.has(found)) continue;
          tried.add(session = found);
          try {
            return { stream: shares.open(found, caller), leave: () => shares.leave(found, remote.host) };
          } catch (error) {
            this.#refused(remote, internalError("visitor", error));
          }
        }
        return undefined;
      },
      found: ({ stream }, answer) => {
        conn.write(answer);
        this.#join(conn, remote, { session, shares, stream, serverName }, NOTHING, this.#answeredRules);
      },
      refused: () => {
        const why = `Cannot route visitor: no agent of ${serverName} has the authority's challenge`;
        const error = new SallyportError("request_refused", why, { side: "peer" });
        this.refuse(conn, remote, error, AlertDescription.no_application_protocol);
      },
      left: () => {
        const why = "Cannot route visitor: it left while its challenge was looked for";
        this.#refused(remote, new SallyportError("connection_lost", why, { side: "network" }));
      },
    });
  }

  /** Looks the name up in the cluster first, which answers or gives up within seconds. */
  #routeLater(
    conn: Conn,
    remote: Address,
    serverName: string,
    received: Bytes,
    asked: Promise<Session | undefined>,
  ): void {
    let left = false;
    const close = () => {
      left = true;
      const why = "Cannot route visitor: it left while the cluster was asked for its name";
      this.#refused(remote, new SallyportError("connection_lost", why, { side: "network" }));
    };
    conn.attach({ data() {}, end() {}, drain() {}, close });
    conn.pause();
    asked.then(
      (session) => {
        if (left) return;
        this.#open(conn, remote, serverName, received, session);
        conn.resume();
      },
      (thrown) => {
        const error = internalError("visitor", thrown);
        if (left) reportFault(error, this.#options, { visitor: remote.host });
        else this.refuse(conn, remote, error, AlertDescription.internal_error);
      },
    );
  }

  #open(
    conn: Conn,
    remote: Address,
    serverName: string,
    received: Bytes,
    session: Session | undefined,
  ): void {
    if (session === undefined) {
      const why = `Cannot route visitor: no agent serves ${serverName}`;
      const unknown = new SallyportError("unrecognized_name", why, { side: "peer" });
      return this.refuse(conn, remote, unknown, AlertDescription.unrecognized_name);
    }
    // A forwarded visitor counts at the node that has the session, regardless of the node it arrived at.
    const shares = session.transport === LINK ? undefined : this.#options.shares;
    const caller = { address: remote.host, port: remote.port, serverName };
    let stream: SessionStream;
    try {
      stream = shares === undefined ? session.open(caller) : shares.open(session, caller);
    } catch (error) {
      return this.refuse(conn, remote, internalError("visitor", error), AlertDescription.internal_error);
    }
    this.#join(conn, remote, { session, shares, stream, serverName }, received);
  }

  /** Refuses a visitor, with a TLS alert if one applies. */
  refuse(conn: Conn, remote: Address, error: SallyportError, alert?: number): void {
    if (alert !== undefined) conn.write(encodeAlert(alert));
    conn.release();
    this.#refused(remote, error);
  }

  #refused(remote: Address, error: SallyportError): void {
    const { metrics, sampler, tracer } = this.#options;
    tracer?.start(SPAN, "server", { "client.address": remote.host })
      .end({ "error.type": error.code }, error.message);
    metrics.refused("visitor", error.code);
    reportFault(error, this.#options, { visitor: remote.host });
    sampler.info(`visitor ${error.code}`, { visitor: remote.host, reason: error.code }, error.message);
  }

  #join(
    conn: Conn,
    remote: Address,
    route: VisitorRoute,
    received: Bytes,
    rules: SpliceRules = this.#rules,
  ): void {
    const { log, metrics } = this.#options;
    metrics.streamOpened();
    log.debug({ server_name: route.serverName, visitor: remote.host }, "visitor connected");
    new RoutedVisitor(conn, remote, route, this.#options, rules).join(route.stream, route.stream, received);
  }
}

/** Where a visitor goes. */
interface VisitorRoute {
  readonly session: Session;
  readonly shares: StreamShares | undefined;
  readonly stream: SessionStream;
  readonly serverName: string;
}

/** A visitor that has reached its agent. */
class RoutedVisitor extends Splice {
  readonly #host: string;
  readonly #session: Session;
  readonly #shares: StreamShares | undefined;
  readonly #serverName: string;
  readonly #options: VisitorOptions;
  readonly #startedMs: number;
  readonly #span: Span | undefined;

  constructor(
    conn: Conn,
    { host }: Address,
    { session, shares, serverName }: VisitorRoute,
    options: VisitorOptions,
    rules: SpliceRules,
  ) {
    super(conn, rules);
    this.#host = host;
    this.#session = session;
    this.#shares = shares;
    this.#serverName = serverName;
    this.#options = options;
    this.#startedMs = options.clock.nowMs();
    this.#span = options.tracer?.start(SPAN, "server", {
      "server.address": serverName,
      "client.address": host,
      "sallyport.transport": session.transport,
    });
  }

  protected override done(error: Error | undefined): void {
    const { clock, log, metrics } = this.#options;
    const server_name = this.#serverName;
    this.#shares?.leave(this.#session, this.#host);
    metrics.streamClosed();
    if (error instanceof SallyportError && error.code === "unrecognized_name") {
      this.#options.stale?.(server_name);
    }
    reportFault(error, this.#options, { server_name });
    if (this.#span !== undefined) endSpan(this.#span, error);
    const seconds = (clock.nowMs() - this.#startedMs) / 1000;
    log.debug({ server_name, visitor: this.#host, seconds, error }, "visitor left");
  }
}

function endSpan(span: Span, error: Error | undefined): void {
  if (error === undefined) span.end();
  else span.end({ "error.type": error instanceof SallyportError ? error.code : error.name }, error.message);
}
