/**
 * The agent: behind NAT, it dials the edge, stays connected, and passes visitors' streams to its connector.
 *
 * @module
 */
import { type ErrorCode, errorCode, errorMessage, internalError, SallyportError } from "../errors.ts";
import type { Address, AddressJudge, Runtime } from "../runtime/port.ts";
import { reportFault } from "../telemetry/faults.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import { LogSampler } from "../telemetry/log_sampler.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { type Session, type SessionStream, SHUTDOWN_GRACE_MS } from "../transport/port.ts";
import type { Router } from "../tunnel/requests/router.ts";
import type { PublicAddress } from "../wire/snocat/demand_proxy.ts";
import type { TunnelCredential } from "../tunnel/auth/port.ts";
import type { Tunnel } from "../tunnel/tunnel.ts";
import { AgentSession } from "./agent_session.ts";
import { Backoff, SESSION_SETTLED_MS } from "./backoff.ts";
import type { Connector } from "./connector.ts";
import type { TransportName, TransportSetting } from "../transport/names.ts";
import { Dialers } from "./dialer.ts";
import type { GrantSource } from "./grant.ts";
import type { Grant, GrantEdge } from "../transport/grant.ts";
import { type PublishedPort, Publisher } from "./publisher.ts";
import { type Lane, race } from "./race.ts";
import { TransportChoice, type TransportMemory, type TransportPlan } from "./transport_choice.ts";
import type { DialerOptions } from "../transport/agent_transport.ts";

/** When the agent stops serving a session's hostname, its streams have this long to finish. */
export const RENAMED_GRACE_MS = 30_000;

/** Failed attempts for one reason that are logged individually within some seconds; further ones are counted. */
const ATTEMPTS_TOLD = 3;

/** Addresses of an edge's name that are tried over UDP; if several are slow, each uses a separate token. */
export const UDP_ADDRESSES_MAX = 4;

/**
 * An agent whose last attempt the edge closed without an answer shows its next token only on a connection that lasts this
 * long: a proxy whose edge is down accepts connections and closes them at once.
 */
export const TOKEN_HELD_MS = 250;

/** A grant whose token no edge has seen is used again for this long: a master limits how many an agent gets. */
export const GRANT_UNUSED_KEPT_MS = 2_000;

/** An edge that could not be reached, or that accepts no new sessions, is tried after others for this long. */
export const EDGE_TROUBLED_MS = 30_000;
/** Edges tried at a time. */
export const EDGES_TRIED_MAX = 3;
/** An agent that finds fewer edges than the sessions it wants looks again after this time. */
export const EDGES_LOOK_MS = 60_000;

/** One of the agent's sessions, each at a different edge. */
class Slot {
  readonly index: number;
  readonly backoff: Backoff;
  /** The session that visitors use now. */
  current: AgentSession | undefined;
  askedAnew = false;
  /** The last attempt was closed without an answer: the edge has refused its token, or is down behind a proxy. */
  unanswered = false;
  /** A grant that the last attempt left unused, and when the master issued it. */
  unused: { readonly grant: Grant; readonly gotAtMs: number } | undefined;

  constructor(index: number, random: (() => number) | undefined) {
    this.index = index;
    this.backoff = new Backoff(random);
  }
}

/** A transport, and the edge's address to use with it unless the transport resolves it. */
interface Way {
  readonly edge: GrantEdge;
  readonly plan: TransportPlan;
  readonly name: TransportName;
  readonly address: string | undefined;
}

/** Options of {@link createAgent}. */
export interface AgentOptions extends DialerOptions {
  /** Transport of its sessions. Defaults to "snitun". */
  readonly transport?: TransportSetting;
  /** Source of tokens, such as {@link masterGrants}; called before each connection. */
  readonly grants: GrantSource;
  /**
   * Discards prefetched grants because an edge has refused one, or the names served have changed ({@link GrantStock}).
   */
  discardGrants?(slot?: number): void;
  /** Handles visitors' streams, such as {@link tcpConnector}. */
  readonly connector: Connector;
  /**
   * Serves the edge's requests, and enables requests by the agent ({@link Agent.tunnel}). When absent, streams that
   * begin with a request go to the connector. An empty router is enough for an agent that only makes requests.
   */
  readonly router?: Router;
  /**
   * With a router: credentials with which the agent authenticates before the tunnel opens, to an edge that requires it
   * ({@link EdgeTunnels}).
   */
  readonly credentials?: readonly TunnelCredential[];
  /** Public TCP ports to request from the edge, if the token allows them. */
  readonly publish?: readonly PublishedPort[];
  /**
   * Number of edges to keep sessions at, if the grant names several. Defaults to 1. The grants must be issued for as
   * many ({@link MasterGrantOptions.edges}).
   */
  readonly edges?: number;
  /** Dials this edge instead of the one that the grant names. */
  readonly edge?: { readonly host: string; readonly port: number };
  /** For the transport "auto": stores which one worked. Defaults to this agent's memory. */
  readonly transportMemory?: TransportMemory;
  /** For the transport "auto": identifies this machine's networks, without spaces. Defaults to its addresses. */
  readonly networks?: () => string;
  /** Logger. Defaults to no logging. */
  readonly log?: Logger;
  /** Counts sessions and visitors' streams; their bytes are counted by the connector's meter. */
  readonly metrics?: Metrics;
  /** Source of jitter, from 0 to 1. Defaults to `Math.random`. */
  readonly random?: () => number;
  /** Called for each established session, with its tunnel if there is a router. */
  connected?(session: Session, tunnel: Tunnel | undefined): void;
}

/** A failure and its time, in milliseconds since 1970. */
interface AgentFailure {
  readonly atMs: number;
  readonly code: ErrorCode;
  readonly message: string;
}

/** Status of a session. */
interface SessionFacts {
  readonly transport: string;
  /** HOST:PORT as dialled. */
  readonly edge: string;
  readonly hostname: string;
  readonly aliases: readonly string[];
  /** Milliseconds since 1970. */
  readonly sinceMs: number;
  readonly rttMs?: number;
  readonly streams: number;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** When its token expires, in milliseconds since 1970, by the master's clock. */
  readonly tokenValidUntilMs: number;
}

/** Status of an agent, for `agent status`. */
export interface AgentFacts {
  /** The session that visitors use now. */
  readonly session?: SessionFacts;
  /** Sessions at further edges ({@link AgentOptions.edges}). */
  readonly others?: readonly SessionFacts[];
  /** How the last session ended. */
  readonly lastEnd?: AgentFailure;
  /** Why the last attempt to open a session failed. */
  readonly lastFailure?: AgentFailure;
}

/** An agent. */
export interface Agent {
  /** Its current status. */
  readonly facts: AgentFacts;
  /** The session that visitors use now. */
  readonly session: Session | undefined;
  /** The tunnel in that session; only with a router. */
  readonly tunnel: Tunnel | undefined;
  /**
   * Current addresses of the ports of {@link AgentOptions.publish}, in their order; undefined for one that isn't open.
   */
  readonly published: readonly (PublicAddress | undefined)[];
  /**
   * Connects and stays connected; resolves after `close`. Rejects only if no session has been established yet and an
   * attempt shows that none can be: `credential_refused`, `config_invalid`. Further calls return the same promise.
   */
  run(): Promise<void>;
  /**
   * Requests a fresh grant now, for example with other names, and moves to a new session with it; streams of the old
   * one continue. Without a session, another attempt follows the one under way.
   */
  renew(): void;
  /** Resolves while a session serves the names that it has last asked for: at once, or with the next session. */
  online(): Promise<void>;
  /** Aborts any attempt under way and closes all sessions; streams have `graceMs` to finish. */
  close(graceMs?: number): Promise<void>;
}

/**
 * Creates an agent. It does nothing until `run` is called.
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

/** Codes with which an edge refuses a grant. */
const REFUSED: ReadonlySet<SallyportError["code"]> = new Set(
  ["session_refused", "token_invalid", "token_expired"] as const,
);
/** How a session ends when another agent has taken its name; some transports can't report it exactly. */
const PUSHED_OUT: ReadonlySet<string> = new Set(["connection_lost", "name_flapping", "replaced"]);

/** Refusals that a fresh token may resolve. */
const STALE_TOKEN: ReadonlySet<string> = new Set(["token_stale", "key_reused", "session_refused"]);

class AgentNode implements Agent {
  readonly #options: AgentOptions;
  readonly #runtime: Runtime;
  readonly #log: Logger;
  readonly #sampler: LogSampler;
  /** Attempts at an unreachable edge follow within a second: the first are logged, the others counted. */
  readonly #attempts: LogSampler;
  readonly #dialers: Dialers;
  readonly #choice: TransportChoice;
  readonly #publisher: Publisher | undefined;
  readonly #slots: readonly Slot[];
  /** Edges that had trouble, by name, and when they stop counting as troubled. */
  readonly #troubled = new Map<string, number>();
  readonly #sessions = new Set<AgentSession>();
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;
  #everConnected = false;
  /** Sessions are opened one after the other, so that no two of them use the same edge. */
  #connecting: Promise<unknown> = Promise.resolve();
  #lastEnd: AgentFailure | undefined;
  #lastFailure: AgentFailure | undefined;
  /** Number of calls of {@link renew}, to detect one made after a grant was requested. */
  #renewals = 0;
  /** Their number when the grant of the newest session was requested. */
  #renewed = 0;
  /** Those who wait until it is online. */
  readonly #waiting: (() => void)[] = [];

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#runtime = options.runtime;
    this.#log = options.log ?? silentLogger;
    this.#sampler = new LogSampler({ log: this.#log, clock: options.runtime.clock });
    this.#attempts = new LogSampler({ log: this.#log, clock: options.runtime.clock, burst: ATTEMPTS_TOLD });
    this.#slots = Array.from({ length: options.edges ?? 1 }, (_, index) => new Slot(index, options.random));
    this.#dialers = new Dialers(options);
    this.#choice = new TransportChoice({
      ...options,
      clock: this.#runtime.clock,
      log: this.#log,
      dialers: this.#dialers,
    });
    const { publish: ports = [], router, random } = options;
    this.#publisher = ports.length === 0 ? undefined : new Publisher({
      ports,
      clock: this.#runtime.clock,
      log: this.#log,
      random,
      router,
      serve: (connector, stream) => this.#serve(stream, connector),
    });
  }

  get session(): Session | undefined {
    return this.#current?.session;
  }

  get tunnel(): Tunnel | undefined {
    return this.#current?.tunnel;
  }

  get #current(): AgentSession | undefined {
    return this.#slots.find(({ current }) => current !== undefined)?.current;
  }

  get facts(): AgentFacts {
    const [session, ...others] = this.#slots.flatMap(({ current }) =>
      current === undefined ? [] : [this.#factsOf(current)]
    );
    return {
      ...this.#lastEnd === undefined ? {} : { lastEnd: this.#lastEnd },
      ...this.#lastFailure === undefined ? {} : { lastFailure: this.#lastFailure },
      ...session === undefined ? {} : { session },
      ...others.length === 0 ? {} : { others },
    };
  }

  #factsOf(agent: AgentSession): SessionFacts {
    const { session, grant } = agent;
    const { transport, rttMs, streams, bytesSent, bytesReceived } = session;
    return {
      ...{ transport, edge: agent.edge, hostname: grant.hostname, aliases: grant.aliases },
      sinceMs: Math.round(this.#runtime.clock.wallMs() - agent.livedMs),
      ...rttMs === undefined ? {} : { rttMs: Math.round(rttMs * 10) / 10 },
      ...{ streams, bytesSent, bytesReceived, tokenValidUntilMs: grant.valid * 1000 },
    };
  }

  get published(): readonly (PublicAddress | undefined)[] {
    return this.#publisher?.addresses ?? [];
  }

  run(): Promise<void> {
    return this.#running ??= this.#run();
  }

  renew(): void {
    this.#renewals++;
    for (const slot of this.#slots) {
      this.#discard(slot);
      slot.current?.renew();
    }
  }

  online(): Promise<void> {
    if (this.session !== undefined && this.#renewed === this.#renewals) return Promise.resolve();
    return new Promise((resolve) => void this.#waiting.push(resolve));
  }

  async close(graceMs: number = SHUTDOWN_GRACE_MS): Promise<void> {
    const over = new SallyportError("shutdown", "Session ended: the agent is shutting down", {
      side: "local",
    });
    this.#closing.abort(over);
    this.#publisher?.close();
    await Promise.all([...this.#sessions].map((session) => session.retire(over, graceMs)));
    await this.#choice.written;
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted;
  }

  async #run(): Promise<void> {
    await Promise.all(this.#slots.map((slot) => this.#keep(slot)));
    this.#attempts.flush();
    await Promise.all([...this.#sessions].map((session) => session.over));
  }

  /** Keeps one session open. */
  async #keep(slot: Slot): Promise<void> {
    while (!this.#closed) {
      try {
        const asked = this.#renewals;
        const agent = await this.#connectInTurn(slot);
        if (agent === undefined) {
          await this.#wait(EDGES_LOOK_MS);
          continue;
        }
        if (asked !== this.#renewals) continue;
        this.#renewed = asked;
        for (const goOn of this.#waiting.splice(0)) goOn();
        // Undefined if it's time for a fresh token: the next session is opened before this one closes.
        const ended = await this.#unlessClosing(agent.overOrRenewal);
        if (ended === undefined) {
          if (agent.leaving) this.#hasTrouble(agent.place);
          continue;
        }
        if (ended.code !== "replaced") this.#hasTrouble(agent.place);
        await this.#pause(slot);
      } catch (error) {
        if (this.#closed) break;
        if (this.#asksAnew(slot, error)) continue;
        const hopeless = error instanceof SallyportError && !error.retryable && error.side === "config";
        if (hopeless && !this.#everConnected) throw error;
        this.#fault(internalError("callback", error));
        await this.#pause(slot, error);
      }
    }
  }

  /**
   * Whether to request a fresh token at once, because the edge has refused one that may be too old, by a code or, under
   * SniTun, by closing. Only once until a session is established.
   */
  #asksAnew(slot: Slot, error: unknown): boolean {
    if (slot.askedAnew || !STALE_TOKEN.has(errorCode(error))) return false;
    slot.askedAnew = true;
    this.#log.info({ reason: errorCode(error) }, `${errorMessage(error)}; asking for a fresh token at once`);
    return true;
  }

  /** Connects one slot after the other: each of an agent's sessions must know the others' edges. */
  #connectInTurn(slot: Slot): Promise<AgentSession | undefined> {
    const connected = this.#connecting.then(() => this.#connect(slot));
    this.#connecting = connected.catch(() => {});
    return connected;
  }

  /** Opens a session; undefined if no edge is left for it. */
  async #connect(slot: Slot): Promise<AgentSession | undefined> {
    const { grant, gotAtMs } = await this.#unlessClosing(this.#grantFor(slot));
    const edges = this.#edgesFor(slot, grant);
    if (edges.length === 0) return undefined;
    this.#leaveOtherOwner(slot, grant);
    // An attempt that hasn't sent its token leaves it to the next one.
    const spare = [grant];
    const ways = await this.#ways(edges);
    const several = ways.length > 1;
    const dialled = race(
      ways.map((way) => ({ name: way.name, start: (lane) => this.#attempt(slot, way, lane, spare) })),
      {
        clock: this.#runtime.clock,
        signal: this.#closing.signal,
        lost: (name) => this.#options.metrics?.transportAttempted(name, "lost"),
        failed: (name, error) => {
          this.#options.metrics?.transportAttempted(name, "failed");
          this.#fault(internalError("handshake", error));
          if (several) this.#log.info({ transport: name, reason: errorCode(error) }, errorMessage(error));
        },
      },
    );
    const agent = await dialled.catch((error) => {
      if (spare.includes(grant)) slot.unused = { grant, gotAtMs };
      throw error;
    });
    await agent.join();
    this.#tellConnected(slot, agent);
    return agent;
  }

  async #grantFor(slot: Slot): Promise<NonNullable<Slot["unused"]>> {
    const { unused } = slot;
    slot.unused = undefined;
    const gotAtMs = this.#runtime.clock.nowMs();
    if (unused !== undefined && gotAtMs < unused.gotAtMs + GRANT_UNUSED_KEPT_MS) return unused;
    return { grant: await this.#options.grants(slot.index), gotAtMs };
  }

  #discard(slot: Slot): void {
    slot.unused = undefined;
    this.#options.discardGrants?.(slot.index);
  }

  /** The edges to try: the previous session's first, then in the grant's order, and those that had trouble last. */
  #edgesFor(slot: Slot, grant: Grant): readonly GrantEdge[] {
    if (this.#options.edge !== undefined) return slot.index === 0 ? [grant.edge] : [];
    const taken = new Set(this.#slots.filter((other) => other !== slot).map(({ current }) => current?.place));
    const nowMs = this.#runtime.clock.nowMs();
    const rank = (edge: GrantEdge): number => {
      const place = placeOf(edge);
      if ((this.#troubled.get(place) ?? 0) > nowMs) return 2;
      return place === slot.current?.place ? 0 : 1;
    };
    return (grant.edges ?? [grant.edge]).filter((edge) => !taken.has(placeOf(edge)))
      .toSorted((a, b) => rank(a) - rank(b)).slice(0, EDGES_TRIED_MAX);
  }

  #hasTrouble(place: string): void {
    const nowMs = this.#runtime.clock.nowMs();
    for (const [known, untilMs] of this.#troubled) if (untilMs <= nowMs) this.#troubled.delete(known);
    this.#troubled.set(place, nowMs + EDGE_TROUBLED_MS);
  }

  /**
   * The ways to reach the given edges, by their transports. Over UDP each address of an edge's name is a separate way,
   * since nothing is known about an address before its edge has answered; TCP races the addresses when it connects.
   */
  async #ways(edges: readonly GrantEdge[]): Promise<readonly Way[]> {
    const found = await Promise.allSettled(edges.map((edge) => this.#waysTo(edge)));
    const ways = found.flatMap((one) => one.status === "fulfilled" ? one.value : []);
    const [first] = found;
    if (ways.length === 0 && first?.status === "rejected") throw first.reason;
    return ways;
  }

  /** Which addresses of an edge's name may be dialled; any of one that was configured here. */
  #permits(edge: GrantEdge): AddressJudge | undefined {
    return this.#options.edge === undefined ? edge.permits : undefined;
  }

  async #waysTo(edge: GrantEdge): Promise<readonly Way[]> {
    const { edge: set } = this.#options;
    const plan = await this.#choice.plan(set === undefined ? edge : { ...edge, ...set });
    const overUdp = (name: TransportName) => this.#dialers.of(name).overUdp;
    // Errors of name resolution, and that no address is permitted, are reported by the dial.
    const addresses = plan.names.some(overUdp)
      ? (await this.#runtime.resolve((set ?? edge).host).catch(() => [])).filter(
        this.#permits(edge) ?? (() => true),
      )
      : [];
    return plan.names.flatMap((name): Way[] =>
      overUdp(name) && addresses.length > 1
        ? addresses.slice(0, UDP_ADDRESSES_MAX).map((address) => ({ edge, plan, name, address }))
        : [{ edge, plan, name, address: undefined }]
    );
  }

  /**
   * A session of another hostname isn't replaced by the new one, and would keep the names that the new one claims, so
   * it is closed first. If the transport can't announce this to the edge, its streams end with it.
   */
  #leaveOtherOwner(slot: Slot, { hostname }: Grant): void {
    const old = slot.current;
    if (old === undefined || old.grant.hostname === hostname) return;
    const reason = new SallyportError("replaced", "Cannot keep session: the agent serves other names now", {
      side: "local",
    });
    void old.retire(reason, old.session.transport === "snitun" ? 0 : RENAMED_GRACE_MS);
  }

  async #attempt(slot: Slot, way: Way, lane: Lane, spare: Grant[]): Promise<AgentSession> {
    const { name, plan, address } = way;
    const given = spare.pop() ?? await this.#options.grants(slot.index);
    const grant = { ...given, edge: way.edge };
    const dialer = this.#dialers.of(name);
    const place = placeOf(this.#options.edge ?? way.edge);
    const agent = new AgentSession(
      this.#runtime,
      grant,
      place,
      (stream) => this.#serve(stream),
      this.#options.metrics,
      (error) => this.#fault(error),
    );
    const edge = this.#edgeOf(name, grant);
    let [held, shown] = [false, false];
    try {
      await dialer.dial({
        grant,
        edge,
        ...address === undefined ? {} : { address },
        permits: this.#permits(way.edge),
        signal: lane.signal,
        turn: async () => {
          await lane.turn();
          if (slot.unanswered) await this.#wait(TOKEN_HELD_MS);
          [held, shown] = [slot.unanswered, true];
        },
        admitted: (session) => {
          lane.arrived();
          this.#won(agent, plan, name);
          return this.#adopt(slot, agent, session, placeOf(edge));
        },
      });
    } catch (cause) {
      const closed = errorCode(cause) === "session_refused";
      const error = closed && slot.unanswered && !shown ? unreachable(cause) : cause;
      // A connection that lasted is an edge's, which has refused the token.
      if (closed) slot.unanswered = !held;
      if (UNREACHABLE.has(errorCode(error))) {
        this.#hasTrouble(place);
        // The edge may refuse a token of before its start.
        slot.askedAnew = false;
      }
      if (!shown) spare.push(given);
      else if (REFUSED.has(errorCode(error))) this.#discard(slot);
      throw explain(error, grant, this.#runtime);
    }
    return agent;
  }

  /**
   * The address to dial: the configured edge, with the session master's port if one port doesn't serve all transports.
   */
  #edgeOf(name: TransportName, grant: Grant): Address {
    const { edge, transport } = this.#options;
    const dialer = this.#dialers.of(name);
    if (edge === undefined) return dialer.edgeOf(grant);
    return transport === "auto" ? dialer.edgeOf({ ...grant, edge: { ...grant.edge, ...edge } }) : edge;
  }

  #won(agent: AgentSession, plan: TransportPlan, name: TransportName): void {
    this.#options.metrics?.transportAttempted(name, "won");
    this.#choice.won(plan, name);
    void agent.over.then(({ code }) => {
      const instead = this.#choice.ended(plan, name, code);
      if (instead === undefined || this.#closed) return;
      this.#log.warn(
        { transport: name, reason: code },
        `${name} stalled: ${instead} is tried first from now on`,
      );
    });
  }

  #adopt(slot: Slot, agent: AgentSession, session: Session, edge: string): AgentSession {
    const { hostname } = agent.grant;
    const { transport, protocolVersion, cipher } = session;
    agent.begin(session, edge);
    const router = this.#publisher?.router ?? this.#options.router;
    const { credentials } = this.#options;
    if (router !== undefined) agent.openTunnel({ router, name: edge, log: this.#log, credentials });
    this.#everConnected = true;
    slot.askedAnew = slot.unanswered = false;
    this.#sessions.add(agent);
    slot.current = agent;
    this.#log.info(
      { hostname, edge, transport, protocol_version: protocolVersion, cipher },
      "connected to the edge",
    );
    void agent.over.then((error) => {
      this.#sessions.delete(agent);
      const summary = session.summary?.();
      if (summary !== undefined) this.#log.info({ hostname, edge, ...summary }, "counters of the session");
      // An agent admitted and disconnected at once would be again.
      if (agent.livedMs >= SESSION_SETTLED_MS) slot.backoff.reset();
      if (slot.current !== agent) return;
      slot.current = undefined;
      this.#lastEnd = this.#failureOf(error);
      if (this.#closed) return;
      const level = ORDERLY.has(error.code) ? "info" : "warn";
      // An edge assigns a name to the latest agent, so two agents with one name replace each other in turn.
      const pushedOut = agent.livedMs < SESSION_SETTLED_MS && PUSHED_OUT.has(error.code);
      const hint = pushedOut
        ? `; does another agent serve ${hostname}? An edge keeps only the newest session of a name`
        : "";
      this.#log[level]({ hostname, edge, reason: error.code }, error.message + hint);
    });
    return agent;
  }

  #fault(error: SallyportError): void {
    reportFault(error, { log: this.#log, metrics: this.#options.metrics });
  }

  #tellConnected(slot: Slot, { session, tunnel }: AgentSession): void {
    // A public port is opened at one edge only.
    if (tunnel !== undefined && slot.index === 0) this.#publisher?.connected(tunnel);
    try {
      this.#options.connected?.(session, tunnel);
    } catch (error) {
      this.#fault(internalError("callback", error));
    }
  }

  /**
   * Waits before the next attempt: after a failure, and also after an established session, because every agent of that
   * edge has lost its session at the same time.
   */
  async #pause(slot: Slot, failure?: unknown): Promise<void> {
    const backoffMs = slot.backoff.next(UNREACHABLE.has(errorCode(failure)));
    const askedMs = failure instanceof SallyportError ? failure.retryAfterMs ?? 0 : 0;
    // After the delay that the session master requests, agents return one by one, not all at the same moment.
    const delayMs = askedMs === 0 ? backoffMs : askedMs + backoffMs;
    const next_attempt_seconds = Math.round(delayMs / 100) / 10;
    if (failure !== undefined) this.#lastFailure = this.#failureOf(failure);
    if (failure === undefined) this.#log.info({ next_attempt_seconds }, "dialling again");
    else {
      const reason = errorCode(failure);
      const fields = { reason, next_attempt_seconds };
      // These attempts stay frequent for a while.
      if (UNREACHABLE.has(reason)) this.#attempts.warn(reason, fields, errorMessage(failure));
      else this.#log.warn(fields, errorMessage(failure));
    }
    await this.#wait(delayMs);
  }

  async #wait(delayMs: number): Promise<void> {
    const waited = Promise.withResolvers<undefined>();
    const timer = this.#runtime.clock.after(delayMs, () => waited.resolve(undefined));
    // Closing isn't a failure: the loop checks whether to continue.
    await this.#unlessClosing(waited.promise).catch(() => {});
    timer.cancel();
  }

  #failureOf(error: unknown): AgentFailure {
    return { atMs: this.#runtime.clock.wallMs(), code: errorCode(error), message: errorMessage(error) };
  }

  /** The promise's outcome; rejects at once with the reason if the agent is closed first. */
  #unlessClosing<T>(promise: Promise<T>): Promise<T> {
    const { signal } = this.#closing;
    return new Promise((resolve, reject) => {
      const giveUp = () => reject(signal.reason);
      if (signal.aborted) giveUp();
      else signal.addEventListener("abort", giveUp, { once: true });
      promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", giveUp));
    });
  }

  #serve(stream: SessionStream, connector: Connector = this.#options.connector): void {
    try {
      // TypeScript lets a connector declared void return anything.
      const served: unknown = connector(stream);
      if (served !== undefined) this.#watch(stream, served);
    } catch (error) {
      this.#unserved(stream, error);
    }
  }

  #watch(stream: SessionStream, served: unknown): void {
    Promise.resolve(served).catch((error) => this.#unserved(stream, error));
  }

  /** The connector has failed. */
  #unserved(stream: SessionStream, error: unknown): void {
    const reason = internalError("connector", error);
    this.#fault(reason);
    const why = `Cannot serve visitor: ${errorMessage(error)}`;
    this.#sampler.warn(reason.code, { visitor: stream.caller.address }, why);
    stream.abort(reason);
  }
}

/** The name of an edge. */
function placeOf({ host, port }: { readonly host: string; readonly port: number }): string {
  return `${host}:${port}`;
}

/** The error of a connection that was closed before it had the token. */
function unreachable(cause: unknown): SallyportError {
  return new SallyportError("edge_unreachable", errorMessage(cause), {
    side: "network",
    retryable: true,
    cause,
  });
}

/** Codes of an attempt that reached no edge. */
const UNREACHABLE: ReadonlySet<ErrorCode> = new Set(["edge_unreachable", "connection_refused"]);

/** Codes of an orderly end of a session: another one follows. */
const ORDERLY: ReadonlySet<ErrorCode> = new Set(["closed", "replaced", "shutdown"]);

/** SniTun's edge refuses by closing the connection; adds what the agent can infer about the reason. */
function explain(error: unknown, grant: Grant, runtime: Runtime): unknown {
  const refused = error instanceof SallyportError && error.code === "session_refused";
  if (!refused || grant.valid * 1000 > runtime.clock.wallMs()) return error;
  return new SallyportError(
    "token_expired",
    `${error.message}; by this machine's clock the token has expired`,
    { side: "local", retryable: true, cause: error },
  );
}
