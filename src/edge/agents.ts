/**
 * Agents at the edge: their admission, the names they claim, and the end of their sessions.
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import type { FernetRing } from "../crypto/fernet.ts";
import { type InternalError, internalError, SallyportError } from "../errors.ts";
import { tokenId, tokenMadeAtS, tryOpenToken } from "../protocol/token/token.ts";
import type { OpenedToken } from "../protocol/token/token_reader.ts";
import type { Address, Clock } from "../runtime/port.ts";
import { reportFault } from "../telemetry/faults.ts";
import type { Logger } from "../telemetry/log.ts";
import type { LogSampler } from "../telemetry/log_sampler.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { AgentAdmission } from "../transport/admission.ts";
import type { Session, SessionHandler, SessionStream } from "../transport/port.ts";
import { Slices } from "../transport/slices.ts";
import { SNITUN } from "../transport/snitun/session.ts";
import { SessionCarrier } from "../tunnel/carriers/session_carrier.ts";
import type { Router } from "../tunnel/requests/router.ts";
import { Tunnel } from "../tunnel/tunnel.ts";
import { printableName } from "../wire/hostname.ts";
import { type AgentRequest, agentRequest, type Authorize, type EdgeTunnels } from "./agent_request.ts";
import type { EdgeLedger } from "./ledger/ledger.ts";
import { Offenders } from "./offenders.ts";
import { type Claim, type Claimed, Routes, type TokenAge } from "./routes.ts";
import { sharedInstance, tokenTransports } from "../wire/token/claims.ts";
import { routeGroup } from "../wire/token/route_group.ts";
import type { EdgeCluster } from "./cluster.ts";
import { type KeyUseStore, UsedKeys } from "./used_keys.ts";

/**
 * A draining edge waits this long for its agents to move to another node. The Python reference cannot be asked to move.
 */
export const MOVE_PATIENCE_MS = 5_000;
/** Agents asked to move per batch, followed by a pause: 1,000 a second. */
const MOVES_AT_ONCE = 20;
const MOVE_PAUSE_MS = 20;
/**
 * A draining node keeps serving visitors of agents that have moved for this long, since other nodes may still send
 * them.
 */
export const LEFT_MS = 3_000;
/** Pause between disconnecting two agents that cannot be asked to move. */
const CUT_PAUSE_MS = 5;
/** A replaced session's streams have this long to finish. */
export const REPLACED_GRACE_MS = 30_000;

/** Options of an {@link AgentRegistry}. */
interface AgentOptions {
  readonly clock: Clock;
  readonly ring: FernetRing;
  readonly log: Logger;
  /** Samples log lines caused by strangers. */
  readonly sampler: LogSampler;
  readonly metrics: Metrics;
  readonly authorize?: Authorize;
  /** Agents' limits and usage. */
  readonly ledger: EdgeLedger;
  /** Record of used tokens, shared by edges with the same Fernet keys. */
  readonly keyUses?: KeyUseStore;
  readonly tunnels?: EdgeTunnels;
  /** The other nodes of the cluster, if the edge belongs to one. */
  readonly cluster?: EdgeCluster;
}

/** Callbacks from a session to its registry. */
interface AgentEvents {
  readonly clock: Clock;
  /** The session is over. */
  ended(agent: AdmittedSession, error: SallyportError): void;
  /** The session refused or dropped a stream. */
  streamRefused(code: SallyportError["code"]): void;
  /** Our own code has thrown, in the session or in one of its streams. */
  fault(agent: AdmittedSession, error: SallyportError): void;
  /** The agent wants no new visitors. */
  goingAway(agent: AdmittedSession): void;
  /** The agent no longer receives visitors. */
  left(agent: AdmittedSession, why: string): void;
}

/** The agents of one edge. */
export class AgentRegistry {
  readonly #options: AgentOptions;
  readonly #routes = new Routes<AdmittedSession>();
  readonly #usedKeys: UsedKeys;
  readonly #offenders = new Offenders();
  readonly #started: { readonly nowMs: number; readonly wallMs: number };
  /** Time slices shared by all transports' handshakes. */
  readonly #slices: Slices;
  readonly #sessions = new Set<AdmittedSession>();
  readonly #events: AgentEvents;
  #draining = false;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#events = {
      clock: options.clock,
      ended: (agent, error) => this.#ended(agent, error),
      streamRefused: (code) => this.#streamRefused(code),
      fault: (agent, error) => this.#fault(agent, error),
      goingAway: (agent) => this.#goingAway(agent),
      left: (agent, why) => this.#left(agent, why),
    };
    this.#slices = new Slices(options.clock);
    this.#started = { nowMs: options.clock.nowMs(), wallMs: options.clock.wallMs() };
    this.#usedKeys = new UsedKeys(() => (options.clock.wallMs() - this.#upMs) / 1000, options.keyUses);
  }

  /** Number of sessions, including replaced ones that are finishing their streams. */
  get sessions(): number {
    return this.#sessions.size;
  }

  /** The session that serves a canonical name. */
  find(serverName: string): Session | undefined {
    return this.#routes.find(serverName)?.visitors;
  }

  /** Number of sessions that share a canonical name. */
  sharing(serverName: string): number {
    return this.#routes.sharing(serverName);
  }

  /** The tunnel to the agent that serves a canonical name, if there is one. */
  findTunnel(serverName: string): Tunnel | undefined {
    return this.#routes.find(serverName)?.tunnel;
  }

  /** The admission of a transport's agents. */
  admission(transport: string): AgentAdmission {
    const { clock, ring } = this.#options;
    return {
      openToken: (token) => tryOpenToken(ring, token, clock.wallMs() / 1000),
      authorize: (token, remote) => this.#authorize(token, remote, transport),
      admit: (token, session, remote) => this.#admit(token, session, remote),
      refused: (error, token, remote, known) =>
        this.#refused(error, token, remote, known ? "agent" : "connection"),
      slices: this.#slices,
    };
  }

  /**
   * Closes sessions whose token has expired, and forgets what is no longer needed. Call it every few seconds. A wall
   * clock that jumps neither ends sessions nor makes this edge forget a key whose token could still be used.
   */
  sweep(): void {
    const { clock } = this.#options;
    const nowMs = clock.nowMs();
    for (const agent of this.#sessions) {
      if (agent.expiresAtMs < nowMs) {
        agent.session.close(
          new SallyportError("token_expired", "Session ended: its token has expired", { side: "peer" }),
        );
      }
    }
    this.#usedKeys.sweep(Math.min(clock.wallMs(), this.#started.wallMs + this.#upMs) / 1000);
    this.#routes.sweep(nowMs);
    this.#offenders.sweep(nowMs);
  }

  /** How long this process has run. */
  get #upMs(): number {
    return this.#options.clock.nowMs() - this.#started.nowMs;
  }

  /**
   * Stops serving new visitors, and closes each session when its streams have ended, or after `graceMs` at the latest.
   * `moved` is called when agents have had their time to move to another node.
   */
  async close(graceMs: number, moved: () => void = () => {}): Promise<void> {
    const over = new SallyportError("shutdown", "Session ended: the edge is shutting down", {
      side: "local",
      retryable: true,
    });
    this.#draining = true;
    const startedMs = this.#options.clock.nowMs();
    if (this.asksToMove(graceMs)) await this.#moveAgents(graceMs, over);
    moved();
    const leftMs = Math.max(0, graceMs - (this.#options.clock.nowMs() - startedMs));
    for (const agent of this.#sessions) agent.session.goAway(over);
    await Promise.all([...this.#sessions].map((agent) => agent.retire(over, leftMs)));
  }

  /** Whether {@link close} asks the agents to move: other nodes remain, and there is time for it. */
  asksToMove(graceMs: number): boolean {
    return graceMs > 0 && this.#options.cluster?.last === false;
  }

  /**
   * Asks agents, in batches, to open a session at another node, so that they don't all reconnect at once. Until an
   * agent has moved, other nodes keep forwarding its visitors here. Resolves when all have moved and the other nodes
   * know it, or when the wait for those that cannot be asked is over.
   */
  async #moveAgents(graceMs: number, over: SallyportError): Promise<void> {
    const { clock } = this.#options;
    const pause = (ms: number) => new Promise<void>((resolve) => void clock.after(ms, resolve));
    const endMs = clock.nowMs() + graceMs;
    let asked = 0;
    for (const agent of [...this.#sessions]) {
      agent.session.askToMove();
      void this.#leaveToOthers(agent);
      if (++asked % MOVES_AT_ONCE === 0) await pause(MOVE_PAUSE_MS);
    }
    // Those asked last have as long as the others, however many they are.
    const untilMs = Math.min(endMs, clock.nowMs() + MOVE_PATIENCE_MS);
    while (clock.nowMs() < untilMs && [...this.#sessions].some(({ retiring }) => !retiring)) {
      await pause(MOVE_PAUSE_MS);
    }
    // The rest cannot be asked to move: they are disconnected one by one, and reconnect by themselves.
    for (const agent of [...this.#sessions]) {
      if (agent.retiring) continue;
      agent.session.goAway(over);
      void agent.retire(over, graceMs);
      await pause(CUT_PAUSE_MS);
    }
    await pause(Math.max(0, Math.min(LEFT_MS, endMs - clock.nowMs())));
  }

  /** An agent that also has a session at another node needs no more visitors here. */
  async #leaveToOthers(agent: AdmittedSession): Promise<void> {
    const { cluster } = this.#options;
    if (await cluster?.heldElsewhere?.(agent.id) !== true) return;
    cluster?.release(agent.id);
    agent.retiring = true;
    this.#releaseSoon(agent);
  }

  /** By then other nodes know that the names are held elsewhere, so no visitor is sent here in vain. */
  #releaseSoon(agent: AdmittedSession): void {
    this.#options.clock.after(LEFT_MS, () => this.#routes.release(agent));
  }

  #authorize(token: OpenedToken, remote: Address, transport: string): void | Promise<void> {
    checkTransport(token, transport);
    const nowMs = this.#options.clock.nowMs();
    const claim = claimOf(token);
    this.#offenders.check(agentName(claim.owner, claim.instance), nowMs);
    this.#routes.check(claim, nowMs);
    const { authorize, ledger } = this.#options;
    ledger.authorize(agentRequest(token, remote, transport));
    if (authorize === undefined) return this.#useKey(token, transport);
    const fault = (thrown: unknown): never => {
      throw internalError("authorize", thrown);
    };
    let allowed: unknown;
    try {
      allowed = authorize(agentRequest(token, remote, transport));
    } catch (thrown) {
      return fault(thrown);
    }
    // TypeScript lets a hook declared void return anything; a thenable is awaited.
    if (typeof (allowed as PromiseLike<void> | undefined)?.then !== "function") {
      return this.#useKey(token, transport);
    }
    return Promise.resolve(allowed as PromiseLike<void>).catch(fault).then(() =>
      this.#useKey(token, transport)
    );
  }

  /** The last step before a session: from here on the key counts as used, even if the session fails. */
  #useKey(token: OpenedToken, transport: string): void | Promise<void> {
    const { aesKey, cipher } = token.claims;
    const headers = transport === SNITUN;
    const { madeAtS, validUntilS } = ageOf(token);
    return this.#usedKeys.use({
      aesKey,
      madeAtS,
      validUntilS,
      repeatable: headers && cipher !== "aes-gcm",
      noncesRepeat: headers && cipher === "aes-gcm",
    });
  }

  #admit(token: OpenedToken, session: Session, remote: Address): SessionHandler {
    const { clock, log, metrics } = this.#options;
    const { claims } = token;
    const id = tokenId(token.token);
    const request = agentRequest(token, remote, session.transport);
    const agent = new AdmittedSession(this.#events, session, {
      hostname: claims.hostname,
      instance: sharedInstance(claims.extra),
      expiresAtMs: clock.nowMs() + claims.valid * 1000 - clock.wallMs(),
      tokenId: id,
      remote: remote.host,
      visitors: this.#options.ledger.opened(session, request),
    });
    let claimed: Claimed<AdmittedSession>;
    try {
      this.#openTunnel(agent, request);
      claimed = this.#routes.claim(claimOf(token), agent, clock.nowMs());
    } catch (thrown) {
      const error = internalError("callback", thrown);
      agent.carrier?.ended(error);
      this.#left(agent, error.message);
      this.#options.ledger.ended(session);
      throw error;
    }
    const { replaced, denied } = claimed;
    this.#sessions.add(agent);
    metrics.sessionOpened(session);
    log.info({
      hostname: claims.hostname,
      agent: remote.host,
      transport: session.transport,
      protocol_version: session.protocolVersion,
      cipher: session.cipher,
      token_id: id,
    }, "agent connected");
    this.#claimInCluster(agent, token, id, denied);
    for (const alias of denied) {
      metrics.refused("agent", "name_taken");
      log.warn({ hostname: claims.hostname, alias, reason: "name_taken" }, "alias belongs to another agent");
    }
    for (const older of replaced) {
      const reason = new SallyportError("replaced", "Session ended: a newer one serves its names", {
        side: "local",
      });
      void older.retire(reason, REPLACED_GRACE_MS);
    }
    return agent;
  }

  /** The agent serves its names here at once; whether the cluster grants them is known a moment later. */
  #claimInCluster(agent: AdmittedSession, token: OpenedToken, id: string, denied: readonly string[]): void {
    const { hostname, aliases, extra } = token.claims;
    this.#options.cluster?.register({
      session: agent.id,
      owner: hostname,
      ...routeGroup(hostname, extra, id),
      madeAtMs: tokenMadeAtS(token.token) * 1000,
      names: [hostname, ...aliases.filter((alias) => !denied.includes(alias))],
      lost: (names, reason) => this.#lostInCluster(agent, names, reason),
    });
  }

  #lostInCluster(agent: AdmittedSession, names: readonly string[], reason: "name_taken" | "replaced"): void {
    this.#options.log.info(
      { hostname: agent.hostname, names: names.join(","), reason },
      "names lost in the cluster",
    );
    if (!names.includes(agent.hostname)) return this.#routes.releaseNames(agent, names);
    // It has moved because this node is draining: its streams have the drain's grace period, not a replaced session's.
    if (this.#draining) {
      agent.retiring = true;
      return this.#releaseSoon(agent);
    }
    this.#routes.release(agent);
    const why = reason === "replaced"
      ? "a newer one serves its names"
      : "another agent of the cluster has its name";
    void agent.retire(
      new SallyportError(reason, `Session ended: ${why}`, { side: "peer" }),
      REPLACED_GRACE_MS,
    );
  }

  /** Runs before the routes are claimed: an exception from the operator's router refuses the agent. */
  #openTunnel(agent: AdmittedSession, request: AgentRequest): void {
    const { tunnels, clock, log } = this.#options;
    if (tunnels === undefined) return;
    const carrier = new SessionCarrier(agent.visitors);
    const [adopted, router] = this.#routerOf(tunnels, carrier, request);
    if (!adopted && router === undefined) return;
    agent.carrier = carrier;
    if (router === undefined) return;
    agent.tunnel = new Tunnel({
      carrier,
      clock,
      log,
      metrics: this.#options.metrics,
      router,
      name: request.hostname,
      refused: (code) => this.#streamRefused(code),
    });
    tunnels?.opened?.(agent.tunnel, request);
  }

  /** Calls the operator's hooks; their exceptions count as local faults. */
  #routerOf(tunnels: EdgeTunnels, carrier: SessionCarrier, request: AgentRequest): [boolean, Router?] {
    try {
      if (tunnels.adopt?.(carrier, request) ?? false) return [true];
      return [false, tunnels.router(request)];
    } catch (thrown) {
      throw internalError("callback", thrown);
    }
  }

  #ended(agent: AdmittedSession, error: SallyportError): void {
    this.#sessions.delete(agent);
    this.#options.ledger.ended(agent.session);
    this.#routes.release(agent);
    this.#options.cluster?.release(agent.id);
    const { clock, log, metrics } = this.#options;
    metrics.sessionClosed(agent.session);
    metrics.sessionEnded(error.code);
    const { hostname, remote, tokenId } = agent;
    this.#fault(agent, error);
    const fields = { hostname, agent: remote, reason: error.code, token_id: tokenId };
    log.info(fields, `agent disconnected: ${error.message}`);
    const penaltyMs = this.#offenders.ended(agentName(hostname, agent.instance), error, clock.nowMs());
    if (penaltyMs !== undefined) {
      log.warn(fields, `agent refused for ${penaltyMs / 1000} s, because its session broke the protocol`);
    }
    const summary = agent.session.summary?.();
    if (summary !== undefined) log.debug({ hostname, agent: remote, ...summary }, "counters of the session");
  }

  #streamRefused(code: SallyportError["code"]): void {
    this.#options.metrics.refused("stream", code);
  }

  #fault({ hostname, remote }: AdmittedSession, error: SallyportError): void {
    reportFault(error, this.#options, { hostname, agent: remote });
  }

  /** Frees its names for other agents. */
  #goingAway(agent: AdmittedSession): void {
    this.#routes.release(agent);
    this.#options.cluster?.release(agent.id);
    this.#left(agent, "the agent is leaving");
  }

  #left({ tunnel }: AdmittedSession, why: string): void {
    if (tunnel !== undefined) this.#options.tunnels?.left?.(tunnel, why);
  }

  #refused(
    error: SallyportError,
    token: OpenedToken | undefined,
    remote: Address,
    what: "agent" | "connection",
  ): void {
    this.#options.metrics.refused(what, error.code);
    reportFault(error, this.#options, { agent: remote.host });
    const { log, sampler } = this.#options;
    // Failures of strangers are logged at info level: anyone can send a server bytes. So is an attempt that lost a
    // race.
    const level = what === "agent" && error.code !== "connection_lost" ? "warn" : "info";
    const fields = { agent: remote.host, reason: error.code };
    if (token === undefined) return sampler[level](`${what} ${error.code}`, fields, error.message);
    const { hostname } = token.claims;
    const known = { ...fields, hostname: printableName(hostname), token_id: tokenId(token.token) };
    // An agent that was told to stay away for a while may come as often as it likes.
    if (error.code === "limit_exceeded") sampler[level](`${what} ${error.code}`, known, error.message);
    else log[level](known, error.message);
  }
}

/** What is stored about a connected agent, without its token and keys. */
interface AgentFacts {
  readonly hostname: string;
  /** The agent, if it shares the hostname with others. */
  readonly instance: string | undefined;
  /** When its token expires, on the monotonic clock. */
  readonly expiresAtMs: number;
  readonly tokenId: string;
  readonly remote: string;
  /** The session that visitors use: metered, and throttled if the agent has limits. */
  readonly visitors: Session;
}

/** One agent's session at the edge. */
class AdmittedSession implements SessionHandler, AgentFacts {
  /** Unique in a cluster. */
  readonly id: string = randomUUID();
  readonly session: Session;
  readonly hostname: string;
  readonly instance: string | undefined;
  readonly expiresAtMs: number;
  readonly tokenId: string;
  readonly remote: string;
  readonly visitors: Session;
  /** Set if agents may make requests. */
  carrier: SessionCarrier | undefined;
  tunnel: Tunnel | undefined;
  readonly #events: AgentEvents;
  #retired: { reason: SallyportError; done: () => void } | undefined;

  constructor(events: AgentEvents, session: Session, facts: AgentFacts) {
    this.#events = events;
    this.session = session;
    this.hostname = facts.hostname;
    this.instance = facts.instance;
    this.expiresAtMs = facts.expiresAtMs;
    this.tokenId = facts.tokenId;
    this.remote = facts.remote;
    this.visitors = facts.visitors;
  }

  /** Whether it has stopped serving new visitors. */
  retiring = false;

  /** Lets the streams finish, then closes the session. Resolves when it is closed. */
  retire(reason: SallyportError, graceMs: number): Promise<void> {
    this.retiring = true;
    this.#events.left(this, reason.message);
    return new Promise((resolve) => {
      const earlier = this.#retired?.done;
      const timer = this.#events.clock.after(graceMs, () => this.session.close(reason));
      this.#retired = {
        reason,
        done: () => {
          timer.cancel();
          resolve();
          earlier?.();
        },
      };
      this.#closeIfFinished();
    });
  }

  /** Agents open streams only for requests. */
  stream(stream: SessionStream): void {
    if (this.carrier !== undefined) return this.carrier.offer(stream);
    this.#events.streamRefused("access_denied");
    stream.abort(
      new SallyportError("access_denied", "Cannot open stream: the edge accepts no requests", {
        side: "peer",
      }),
    );
  }

  streamClosed(): void {
    this.carrier?.streamClosed();
    this.#closeIfFinished();
  }

  streamRefused(code: SallyportError["code"]): void {
    this.#events.streamRefused(code);
  }

  goingAway(): void {
    this.#events.goingAway(this);
  }

  fault(error: InternalError): void {
    this.#events.fault(this, error);
  }

  ended(error: SallyportError): void {
    this.carrier?.ended(error);
    this.#events.ended(this, error);
    this.#retired?.done();
  }

  #closeIfFinished(): void {
    if (this.#retired !== undefined && this.session.streams === 0) this.session.close(this.#retired.reason);
  }
}

/** Tells agents that share a hostname apart; hostnames have no spaces. */
function agentName(hostname: string, instance: string | undefined): string {
  return instance === undefined ? hostname : `${hostname} ${instance}`;
}

function claimOf(token: OpenedToken): Claim {
  const { hostname: owner, aliases, extra } = token.claims;
  return { owner, aliases, age: ageOf(token), instance: sharedInstance(extra) };
}

function ageOf({ token, claims }: OpenedToken): TokenAge {
  return { madeAtS: tokenMadeAtS(token), validUntilS: claims.valid };
}

function checkTransport({ claims }: OpenedToken, transport: string): void {
  const allowed = tokenTransports(claims.extra);
  if (allowed === undefined || allowed.includes(transport)) return;
  const why = `its token is valid for ${
    allowed.join(", ") || "no transport"
  }, but the agent uses ${transport}`;
  throw new SallyportError("access_denied", `Cannot open session: ${why}`, { side: "peer" });
}
