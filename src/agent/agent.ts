/**
 * The agent: behind NAT, it dials the edge, stays connected, and hands visitors' streams to its connector.
 *
 * @module
 */
import { errorCode, errorMessage, SallyportError } from "../errors.ts";
import * as limits from "../limits.ts";
import type { Clock, Runtime, Timer } from "../runtime/port.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Session, SessionHandler, SessionStream } from "../transport/port.ts";
import { Backoff } from "./backoff.ts";
import type { Connector } from "./connector.ts";
import { createDialer } from "./dialer.ts";
import { type Grant, type GrantSource, tokenMadeAtS } from "./grant.ts";
import type { DialerOptions, TransportDialer } from "./transports/port.ts";

/** What {@link createAgent} takes. */
export interface AgentOptions extends DialerOptions {
  /** Where tokens come from, such as {@link masterGrants}; asked before each connection. */
  readonly grants: GrantSource;
  /** What becomes of visitors' streams, such as {@link tcpConnector}. */
  readonly connector: Connector;
  /** Dials this edge in place of the one that the grant names. */
  readonly edge?: { readonly host: string; readonly port: number };
  /** Where it logs; nowhere when absent. */
  readonly log?: Logger;
  /** Counts sessions and visitors' streams; what they carry is counted by the connector's meter. */
  readonly metrics?: Metrics;
  /** Draws the jitter, from 0 to 1; `Math.random` when absent. */
  readonly random?: () => number;
  /** Hears of each session that stands. */
  connected?(session: Session): void;
}

/** An agent. */
export interface Agent {
  /** The session that visitors use now. */
  readonly session: Session | undefined;
  /**
   * Connects and stays connected; resolves after `close`. Rejects only where no session has stood yet and an attempt
   * shows that none can: `credential_refused`, `config_invalid`. Further calls give the same promise.
   */
  run(): Promise<void>;
  /** Gives up whatever attempt is under way and ends all sessions; streams may finish for `graceMs`. */
  close(graceMs?: number): Promise<void>;
}

/**
 * Makes an agent. It does nothing until `run`.
 *
 * @example
 * ```ts
 * const agent = createAgent({
 *   runtime,
 *   grants: masterGrants({ master: "http://127.0.0.1:8080", credential, hostname: "myhome.example.org" }),
 *   connector: tcpConnector({ runtime, host: "127.0.0.1", port: 8123 }),
 * });
 * await agent.run();
 * ```
 */
export function createAgent(options: AgentOptions): Agent {
  return new AgentNode(options);
}

class AgentNode implements Agent {
  readonly #options: AgentOptions;
  readonly #runtime: Runtime;
  readonly #log: Logger;
  readonly #dialer: TransportDialer;
  readonly #backoff: Backoff;
  readonly #sessions = new Set<AgentSession>();
  readonly #closing = new AbortController();
  #current: AgentSession | undefined;
  #running: Promise<void> | undefined;
  #everConnected = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#runtime = options.runtime;
    this.#log = options.log ?? silentLogger;
    this.#backoff = new Backoff(options.random);
    this.#dialer = createDialer(options);
  }

  get session(): Session | undefined {
    return this.#current?.session;
  }

  run(): Promise<void> {
    return this.#running ??= this.#run();
  }

  async close(graceMs: number = limits.SHUTDOWN_GRACE_MS): Promise<void> {
    const over = new SallyportError("shutdown", "Cannot keep session: the agent is shutting down", {
      side: "local",
    });
    this.#closing.abort(over);
    await Promise.all([...this.#sessions].map((session) => session.retire(over, graceMs)));
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted;
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      try {
        const agent = await this.#connect();
        // Undefined where it's time for a fresh token: the next session is opened before this one goes.
        const ended = await this.#unlessClosing(agent.overOrRenewal);
        if (ended !== undefined) await this.#pause();
      } catch (error) {
        if (this.#closed) break;
        const hopeless = error instanceof SallyportError && !error.retryable && error.side === "config";
        if (hopeless && !this.#everConnected) throw error;
        await this.#pause(error);
      }
    }
    await Promise.all([...this.#sessions].map((session) => session.over));
  }

  async #connect(): Promise<AgentSession> {
    const grant = await this.#unlessClosing(this.#options.grants());
    const edge = this.#options.edge ?? this.#dialer.edgeOf(grant);
    const agent = new AgentSession(
      this.#runtime,
      grant,
      (stream) => this.#serve(stream),
      this.#options.metrics,
    );
    const { signal } = this.#closing;
    const admitted = (session: Session) => this.#adopt(agent, session, `${edge.host}:${edge.port}`);
    await this.#dialer.dial({ grant, edge, signal, admitted })
      .catch((error) => Promise.reject(explain(error, grant, this.#runtime)));
    this.#tellConnected(agent.session);
    return agent;
  }

  #adopt(agent: AgentSession, session: Session, edge: string): AgentSession {
    const { hostname } = agent.grant;
    const { transport, protocolVersion, cipher } = session;
    agent.begin(session);
    this.#everConnected = true;
    this.#sessions.add(agent);
    this.#current = agent;
    this.#log.info(
      { hostname, edge, transport, protocol_version: protocolVersion, cipher },
      "connected to the edge",
    );
    void agent.over.then((error) => {
      this.#sessions.delete(agent);
      const summary = session.summary?.();
      if (summary !== undefined) this.#log.info({ hostname, edge, ...summary }, "what the session counted");
      // Who was let in and thrown out at once would be so again.
      if (agent.livedMs >= limits.SESSION_SETTLED_MS) this.#backoff.reset();
      if (this.#current !== agent) return;
      this.#current = undefined;
      if (!this.#closed) this.#log.warn({ hostname, edge, reason: error.code }, error.message);
    });
    return agent;
  }

  #tellConnected(session: Session): void {
    try {
      this.#options.connected?.(session);
    } catch (error) {
      this.#log.error({ error: asError(error) }, "the agent's connected callback threw");
    }
  }

  /**
   * Waits before the next attempt: after a failure, and after a session that stood, because every agent of its edge
   * has lost one with it.
   */
  async #pause(failure?: unknown): Promise<void> {
    const delayMs = this.#backoff.next();
    const next_attempt_seconds = Math.round(delayMs / 100) / 10;
    if (failure === undefined) this.#log.info({ next_attempt_seconds }, "dialling again");
    else this.#log.warn({ reason: errorCode(failure), next_attempt_seconds }, errorMessage(failure));
    const waited = Promise.withResolvers<undefined>();
    const timer = this.#runtime.clock.after(delayMs, () => waited.resolve(undefined));
    // Closing isn't a failure: the loop looks whether to go on.
    await this.#unlessClosing(waited.promise).catch(() => {});
    timer.cancel();
  }

  /** The promise's outcome; rejects with the reason at once where the agent is closed first. */
  #unlessClosing<T>(promise: Promise<T>): Promise<T> {
    const { signal } = this.#closing;
    return new Promise((resolve, reject) => {
      const giveUp = () => reject(signal.reason);
      if (signal.aborted) giveUp();
      else signal.addEventListener("abort", giveUp, { once: true });
      promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", giveUp));
    });
  }

  #serve(stream: SessionStream): void {
    const failed = (error: unknown) => {
      this.#log.warn({ visitor: stream.caller.address }, `Cannot serve visitor: ${errorMessage(error)}`);
      stream.abort(asError(error));
    };
    try {
      const served: unknown = this.#options.connector(stream);
      // TypeScript lets a connector return anything where void is asked for.
      Promise.resolve(served).catch(failed);
    } catch (error) {
      failed(error);
    }
  }
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}

/** One session of the agent. A renewed one goes on beside it until the edge has let go of the older. */
class AgentSession implements SessionHandler {
  readonly grant: Grant;
  /** The session is over, with the reason. */
  readonly over: Promise<SallyportError>;
  /** The same, or that the edge takes no new visitors; undefined when it's time for a fresh token before that. */
  readonly overOrRenewal: Promise<SallyportError | undefined>;
  session!: Session;
  readonly #clock: Clock;
  readonly #serve: (stream: SessionStream) => void;
  readonly #over = Promise.withResolvers<SallyportError>();
  readonly #overOrRenewal = Promise.withResolvers<SallyportError | undefined>();
  readonly #renewAtMs: number;
  #bornMs = 0;
  #renewTimer: Timer | undefined;
  readonly #metrics: Metrics | undefined;
  #retired: SallyportError | undefined;

  /** To be made as soon as the grant is there: from then on its token ages. */
  constructor(
    runtime: Runtime,
    grant: Grant,
    serve: (stream: SessionStream) => void,
    metrics: Metrics | undefined,
  ) {
    this.#clock = runtime.clock;
    this.grant = grant;
    this.#serve = serve;
    this.#metrics = metrics;
    this.over = this.#over.promise;
    this.overOrRenewal = this.#overOrRenewal.promise;
    this.#renewAtMs = this.#clock.nowMs() + lifetimeMs(grant, runtime) * limits.TOKEN_RENEW_AT;
  }

  /** The edge has let us in. */
  begin(session: Session): void {
    this.session = session;
    this.#metrics?.sessionOpened(session);
    this.#bornMs = this.#clock.nowMs();
    this.#renewTimer = this.#clock.after(
      Math.max(0, this.#renewAtMs - this.#bornMs),
      () => this.#overOrRenewal.resolve(undefined),
    );
  }

  /** How long the session has stood. */
  get livedMs(): number {
    return this.#clock.nowMs() - this.#bornMs;
  }

  async retire(reason: SallyportError, graceMs: number): Promise<void> {
    this.#retired = reason;
    this.session.goAway(reason);
    const timer = this.#clock.after(graceMs, () => this.session.close(reason));
    this.#closeIfRetired();
    await this.over;
    timer.cancel();
  }

  stream(stream: SessionStream): void {
    this.#metrics?.streamOpened();
    this.#serve(stream);
  }

  streamClosed(): void {
    this.#metrics?.streamClosed();
    this.#closeIfRetired();
  }

  streamRefused(code: SallyportError["code"]): void {
    this.#metrics?.refused("stream", code);
  }

  goingAway(code: SallyportError["code"]): void {
    const why = `Cannot keep session: the edge takes no new visitors any more: ${code}`;
    this.#overOrRenewal.resolve(new SallyportError("shutdown", why, { retryable: true }));
  }

  #closeIfRetired(): void {
    if (this.#retired !== undefined && this.session.streams === 0) this.session.close(this.#retired);
  }

  ended(error: SallyportError): void {
    this.#renewTimer?.cancel();
    this.#metrics?.sessionClosed(this.session);
    this.#metrics?.sessionEnded(error.code);
    this.#over.resolve(error);
    this.#overOrRenewal.resolve(error);
  }
}

/** How long the token lives by the clock of who made it, so that a wrong clock here does no harm. */
function lifetimeMs(grant: Grant, runtime: Runtime): number {
  const madeS = tokenMadeAtS(grant.token);
  const lifeMs = grant.valid * 1000 - (madeS > 0 ? madeS * 1000 : runtime.clock.wallMs());
  return Math.max(limits.RECONNECT_FIRST_MS, lifeMs);
}

/** SniTun's edge refuses by closing; what can be known of the reason from here is said. */
function explain(error: unknown, grant: Grant, runtime: Runtime): unknown {
  const refused = error instanceof SallyportError && error.code === "session_refused";
  if (!refused || grant.valid * 1000 > runtime.clock.wallMs()) return error;
  return new SallyportError(
    "token_expired",
    `${error.message}; by this machine's clock the token has expired`,
    {
      retryable: true,
      cause: error,
    },
  );
}
