/**
 * The agent: behind NAT, it dials the edge, stays connected, and hands visitors' streams to its connector.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { errorMessage, SallyportError } from "../errors.ts";
import * as limits from "../limits.ts";
import { SendScratch } from "../mux/sender.ts";
import type { Runtime, Timer } from "../runtime/port.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import type { Session, SessionHandler, SessionStream } from "../transport/port.ts";
import { dialSnitun } from "../transport/snitun.ts";
import { Backoff } from "./backoff.ts";
import type { Connector } from "./connector.ts";
import type { Grant, GrantSource } from "./grant.ts";

/** What {@link createAgent} takes. */
export interface AgentOptions {
  readonly runtime: Runtime;
  /** Where tokens come from, such as {@link masterGrants}; asked before each connection. */
  readonly grants: GrantSource;
  /** What becomes of visitors' streams, such as {@link tcpConnector}. */
  readonly connector: Connector;
  /** Dials this edge in place of the one that the grant names. */
  readonly edge?: { readonly host: string; readonly port: number };
  readonly log?: Logger;
  readonly queueLimits?: limits.QueueLimits;
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
   * Connects and stays connected; resolves after `close`. Rejects only where the first attempt shows that none can
   * succeed: `credential_refused`, `config_invalid`.
   */
  run(): Promise<void>;
  /** Ends all sessions; streams may finish for `graceMs`. */
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
  readonly #scratch = new SendScratch();
  readonly #backoff: Backoff;
  readonly #sessions = new Set<AgentSession>();
  readonly #closing = Promise.withResolvers<void>();
  #current: AgentSession | undefined;
  #closed = false;
  #everConnected = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#runtime = options.runtime;
    this.#log = options.log ?? silentLogger;
    this.#backoff = new Backoff(options.random);
  }

  get session(): Session | undefined {
    return this.#current?.session;
  }

  async run(): Promise<void> {
    while (!this.#closed) {
      try {
        const agent = await this.#connect();
        const ended = await Promise.race([agent.over, agent.renewal, this.#closing.promise]);
        // Who was let in and thrown out at once would be so again.
        if (ended !== undefined && agent.livedMs < limits.SESSION_SETTLED_MS) await this.#afterFailure(ended);
      } catch (error) {
        await this.#afterFailure(error);
      }
    }
    await Promise.all([...this.#sessions].map((session) => session.over));
  }

  async close(graceMs: number = limits.SHUTDOWN_GRACE_MS): Promise<void> {
    this.#closed = true;
    this.#closing.resolve();
    const over = new SallyportError("shutdown", "Cannot keep session: the agent is shutting down", {
      side: "local",
    });
    await Promise.all([...this.#sessions].map((session) => session.retire(over, graceMs)));
  }

  async #connect(): Promise<AgentSession> {
    const grant = await this.#options.grants();
    const edge = this.#options.edge ?? grant.edge;
    const agent = new AgentSession(this.#runtime, grant, (stream) => this.#serve(stream));
    const session = await dialSnitun({
      runtime: this.#runtime,
      clock: this.#runtime.clock,
      scratch: this.#scratch,
      queueLimits: this.#options.queueLimits,
      host: edge.host,
      port: edge.port,
      token: grant.token,
      aesKey: grant.aesKey,
      aesIv: grant.aesIv,
      cipher: grant.cipher,
      protocolVersion: grant.protocolVersion,
      admitted: (session) => agent.begin(session),
    }).catch((error) => Promise.reject(explain(error, grant, this.#runtime)));
    this.#adopt(agent, session, `${edge.host}:${edge.port}`);
    return agent;
  }

  #adopt(agent: AgentSession, session: Session, edge: string): void {
    const { hostname, protocolVersion, cipher } = agent.grant;
    this.#everConnected = true;
    this.#sessions.add(agent);
    this.#current = agent;
    this.#log.info({ hostname, edge, protocol_version: protocolVersion, cipher }, "connected to the edge");
    this.#options.connected?.(session);
    void agent.over.then((error) => {
      this.#sessions.delete(agent);
      if (agent.livedMs >= limits.SESSION_SETTLED_MS) this.#backoff.reset();
      if (this.#current !== agent) return;
      this.#current = undefined;
      if (!this.#closed) this.#log.warn({ hostname, edge, reason: error.code }, error.message);
    });
    if (this.#closed) {
      agent.session.close(new SallyportError("shutdown", "Cannot keep session: shutting down"));
    }
  }

  async #afterFailure(error: unknown): Promise<void> {
    if (this.#closed) return;
    const known = error instanceof SallyportError;
    const hopeless = known && !error.retryable && error.side === "config";
    if (hopeless && !this.#everConnected) throw error;
    await this.#pause(known ? error.code : "connection_lost", errorMessage(error));
  }

  async #pause(reason: string, message: string): Promise<void> {
    const delayMs = this.#backoff.next();
    this.#log.warn({ reason, next_attempt_seconds: Math.round(delayMs / 100) / 10 }, message);
    const waited = Promise.withResolvers<void>();
    const timer = this.#runtime.clock.after(delayMs, () => waited.resolve());
    await Promise.race([waited.promise, this.#closing.promise]);
    timer.cancel();
  }

  #serve(stream: SessionStream): void {
    const failed = (error: unknown) => {
      this.#log.warn({ visitor: stream.caller.address }, `Cannot serve visitor: ${errorMessage(error)}`);
      stream.abort(error instanceof Error ? error : new Error(String(error)));
    };
    try {
      this.#options.connector(stream)?.catch(failed);
    } catch (error) {
      failed(error);
    }
  }
}

/** One session of the agent. A renewed one goes on beside it until the edge has let go of the older. */
class AgentSession implements SessionHandler {
  readonly grant: Grant;
  /** The session is over, with the reason. */
  readonly over: Promise<SallyportError>;
  /** It's time for a fresh token. */
  readonly renewal: Promise<void>;
  session!: Session;
  readonly #runtime: Runtime;
  readonly #serve: (stream: SessionStream) => void;
  readonly #over = Promise.withResolvers<SallyportError>();
  readonly #renewal = Promise.withResolvers<void>();
  #bornMs = Infinity;
  #renewTimer: Timer | undefined;
  #retired: SallyportError | undefined;

  constructor(runtime: Runtime, grant: Grant, serve: (stream: SessionStream) => void) {
    this.#runtime = runtime;
    this.grant = grant;
    this.#serve = serve;
    this.over = this.#over.promise;
    this.renewal = this.#renewal.promise;
  }

  /** The edge has let us in. Before that there is nothing to renew, nor to clean up where it doesn't. */
  begin(session: Session): this {
    this.session = session;
    this.#bornMs = this.#runtime.clock.nowMs();
    const renewInMs = lifetimeMs(this.grant, this.#runtime) * limits.TOKEN_RENEW_AT;
    this.#renewTimer = this.#runtime.clock.after(renewInMs, () => this.#renewal.resolve());
    return this;
  }

  get livedMs(): number {
    return this.#runtime.clock.nowMs() - this.#bornMs;
  }

  async retire(reason: SallyportError, graceMs: number): Promise<void> {
    this.#retired = reason;
    const timer = this.#runtime.clock.after(graceMs, () => this.session.close(reason));
    this.streamClosed();
    await this.over;
    timer.cancel();
  }

  stream(stream: SessionStream): void {
    this.#serve(stream);
  }

  streamClosed(): void {
    if (this.#retired !== undefined && this.session.streams === 0) this.session.close(this.#retired);
  }

  streamRefused(): void {}

  ended(error: SallyportError): void {
    this.#renewTimer?.cancel();
    this.#over.resolve(error);
  }
}

/** How long the token lives by the clock of who made it, so that a wrong clock here does no harm. */
function lifetimeMs(grant: Grant, runtime: Runtime): number {
  // Fernet spec: a version byte, then the time of making in seconds, 64 bits big-endian.
  const head = Buffer.from(grant.token.slice(0, 12), "base64url");
  const madeS = head.length === 9 && head[0] === 0x80 ? Number(head.readBigUInt64BE(1)) : 0;
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
