/**
 * A node of a cluster: it claims the names of its sessions, finds those that other nodes hold, and forwards visitors
 * to them (docs/protocols/cluster.md). It never stands in the way of its own sessions: without the directory, running
 * sessions and known routes go on, and claims are made up for later.
 *
 * @module
 */
import type { MemoryBudget } from "../bytes/memory_budget.ts";
import { errorCode, errorMessage, SallyportError } from "../errors.ts";
import type { Clock, Timer } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Session, SessionHandler, SessionStream } from "../transport/port.ts";
import { splice } from "../transport/splice.ts";
import type { StreamShares } from "../transport/stream_shares.ts";
import { wildcardOf } from "../wire/wildcard.ts";
import type { Directory, DirectoryChange, NodeRecord, RouteClaim, RouteHolder } from "./directory.ts";
import { NODE_RENEW_MS } from "./directory.ts";

/** A route that was found is asked for again after this; changes that are heard of come sooner. */
export const ROUTE_FRESH_MS = 10_000;
/** A name that nobody holds is not asked for again before this: visitors of unknown names cost the directory little. */
export const ROUTE_UNKNOWN_MS = 1_000;
/** Names whose route is remembered; the one that was asked for longest ago is forgotten beyond it. */
export const ROUTES_CACHED_MAX = 100_000;
/** Questions to the directory at a time; visitors of further unknown names are refused. */
export const LOOKUPS_MAX = 256;
/** A node that could not be reached is not tried again before this. */
export const LINK_RETRY_MS = 1_000;
/** A node that leaves looks this often whether its links carry visitors. */
const LINKS_CHECK_MS = 100;
/** Claims and confirmations that are under way at a time. */
const CLAIMS_AT_ONCE = 32;
/** Every claim is confirmed this often, paced evenly, so that what the directory has lost is repaired. */
export const CONFIRM_MS = 600_000;

/** What a session claims: one name or several. */
export interface SessionClaim {
  /** Unique in the cluster. */
  readonly session: string;
  /** The token's hostname. */
  readonly owner: string;
  /** See {@link RouteClaim.group}. */
  readonly group: string;
  /** See {@link RouteClaim.member}. */
  readonly member?: string | undefined;
  readonly madeAtMs: number;
  readonly names: readonly string[];
  /** The session has lost these names to a newer one, or they belong to somebody else. */
  lost(names: readonly string[], reason: "name_taken" | "replaced"): void;
}

/** What {@link ClusterNode} is made of. */
interface ClusterNodeOptions {
  readonly directory: Directory;
  readonly clock: Clock;
  /** The bytes that wait in the process; nobody counts them when absent. */
  readonly memory?: MemoryBudget;
  readonly log: Logger;
  /** This node's entry, as it is now. */
  readonly record: () => NodeRecord;
  /** Opens a link to another node; `handler` hears of its session. */
  link(node: NodeRecord, handler: SessionHandler): Promise<Session>;
  /** A session of this node for the name, of those that hold it. */
  local(name: string): Session | undefined;
  /** How many streams of one source a session takes, from whichever node they come; without limit when absent. */
  shares?(): StreamShares | undefined;
  /** Counts a forwarded visitor: `out` to another node, `in` from one. */
  forwarded?(direction: "in" | "out"): void;
}

interface Registration {
  readonly claim: SessionClaim;
  /** Names that are still to be held: all of the claim's, without those that were lost. */
  readonly names: Set<string>;
  /** Names that the directory has confirmed. */
  readonly held: Set<string>;
  released: boolean;
}

interface CachedRoute {
  holders: readonly RouteHolder[];
  /** Asked for again from then on. */
  freshUntilMs: number;
  asking: Promise<readonly RouteHolder[]> | undefined;
}

interface LinkState {
  session: Session | undefined;
  opening: Promise<Session | undefined> | undefined;
  /** Not tried before then. */
  retryAtMs: number;
}

/** See the module. */
export class ClusterNode {
  /** Another process of this machine takes its agents over; undefined where nobody has said so. */
  successor: boolean | undefined;
  readonly #options: ClusterNodeOptions;
  readonly #registrations = new Map<string, Registration>();
  readonly #routes = new Map<string, CachedRoute>();
  readonly #links = new Map<string, LinkState>();
  /** Names still to be claimed, by session and name. */
  readonly #waiting = new Map<string, { readonly registration: Registration; readonly name: string }>();
  readonly #incoming = new Set<Session>();
  #nodes = new Map<string, NodeRecord>();
  #claiming = 0;
  #lookups = 0;
  #directoryAway = false;
  #renewal: Timer | undefined;
  #confirmation: Timer | undefined;
  #unwatch: (() => void) | undefined;
  #closed = false;

  constructor(options: ClusterNodeOptions) {
    this.#options = options;
  }

  /** Enters the cluster, and stays in it; resolves when the first attempt is over. */
  async start(): Promise<void> {
    this.#unwatch = this.#options.directory.watch((change) => this.#changed(change));
    await this.#renew();
    this.#confirmLater();
  }

  /** Claims a session's names; what is refused or lost later comes to `claim.lost`. */
  register(claim: SessionClaim): void {
    const registration: Registration = {
      claim,
      names: new Set(claim.names),
      held: new Set(),
      released: false,
    };
    this.#registrations.set(claim.session, registration);
    this.#claimAll(registration);
  }

  /** The session serves its names no more. */
  release(session: string): void {
    const registration = this.#registrations.get(session);
    if (registration === undefined) return;
    this.#registrations.delete(session);
    registration.released = true;
    for (const name of registration.held) this.#giveUp(name, session);
  }

  /**
   * A session in which a visitor of this name can be forwarded: at once where route and link are known, else as soon
   * as they are; undefined where no other node holds the name.
   */
  find(name: string): Session | undefined | Promise<Session | undefined> {
    const wildcard = wildcardOf(name);
    const exact = this.#known(name);
    if (exact instanceof Promise) {
      return exact.then((holders) => this.#reach(holders)).then((found) =>
        found ?? (wildcard === undefined ? undefined : this.#findWildcard(wildcard))
      );
    }
    const found = this.#reach(exact);
    if (found !== undefined) return found;
    return wildcard === undefined ? undefined : this.#findWildcard(wildcard);
  }

  /** A visitor was refused by the node that a route named: the directory is asked anew. */
  stale(name: string): void {
    this.#routes.delete(name);
    const wildcard = wildcardOf(name);
    if (wildcard !== undefined) this.#routes.delete(wildcard);
  }

  /** Whether a node that stays holds a session's name too, so that visitors lose nothing when this session goes. */
  async heldElsewhere(session: string): Promise<boolean> {
    const { directory, record } = this.#options;
    const claim = this.#registrations.get(session)?.claim;
    if (claim === undefined || claim.member === undefined) return false;
    const holders = await directory.lookup(claim.owner).catch(() => []);
    const { id } = record();
    return holders.some(({ node, group }) =>
      node !== id && group === claim.group && this.#nodes.get(node)?.draining === false
    );
  }

  /** What another node's link hands on: each stream is a visitor for a session of this node. */
  accepted(session: Session): SessionHandler {
    this.#incoming.add(session);
    return {
      stream: (stream) => this.#serve(stream),
      streamClosed() {},
      streamRefused() {},
      ended: () => void this.#incoming.delete(session),
    };
  }

  /** No other node will take this one's agents over: all of them stop. */
  get last(): boolean {
    if (this.successor === true) return false;
    const { id, machine } = this.#options.record();
    // The processes of one machine stop together.
    const stopsToo = (node: NodeRecord) => machine !== undefined && node.machine === machine;
    return ![...this.#nodes.values()].some((node) => node.id !== id && !node.draining && !stopsToo(node));
  }

  /** Nodes that live, as far as is known, this one included. */
  get size(): number {
    return this.#nodes.size;
  }

  /** Whether the directory has answered when it was last asked. */
  get directoryAnswers(): boolean {
    return !this.#directoryAway;
  }

  /** Links that stand, in either direction. */
  get links(): number {
    return this.#incoming.size +
      [...this.#links.values()].filter(({ session }) => session !== undefined).length;
  }

  /** Visitors that are being forwarded to this node. */
  get incomingStreams(): number {
    return [...this.#incoming].reduce((sum, { streams }) => sum + streams, 0);
  }

  get #linkStreams(): number {
    return [...this.#links.values()].reduce(
      (sum, { session }) => sum + (session?.streams ?? 0),
      this.incomingStreams,
    );
  }

  /** Tells the directory about this node's state now, as when it starts to drain. */
  async announce(): Promise<void> {
    this.#renewal?.cancel();
    await this.#renew();
  }

  /** Leaves the cluster, and ends its links when the visitors in them have left, or after `graceMs`. */
  async close(graceMs = 0): Promise<void> {
    if (this.#closed) return;
    const deadlineMs = this.#options.clock.nowMs() + graceMs;
    while (this.#linkStreams > 0 && this.#options.clock.nowMs() < deadlineMs) {
      const waited = Promise.withResolvers<void>();
      this.#options.clock.after(LINKS_CHECK_MS, waited.resolve);
      await waited.promise;
    }
    this.#closed = true;
    this.#renewal?.cancel();
    this.#confirmation?.cancel();
    this.#unwatch?.();
    await this.#options.directory.leave(this.#options.record().id).catch(() => {});
    const over = new SallyportError("shutdown", "Link ended: the node is shutting down", { side: "local" });
    for (const { session } of this.#links.values()) session?.close(over);
    for (const session of this.#incoming) session.close(over);
  }

  // The lease.

  async #renew(): Promise<void> {
    const { directory, clock, log, record } = this.#options;
    try {
      const outcome = await directory.enter(record());
      this.#nodes = new Map((await directory.nodes()).map((node) => [node.id, node]));
      if (this.#directoryAway) log.info({}, "the directory answers again");
      // Whatever was claimed before counts no more, or may have been given to others meanwhile.
      if (outcome === "entered" || this.#directoryAway) {
        for (const registration of this.#registrations.values()) this.#claimAll(registration);
      }
      this.#directoryAway = false;
    } catch (error) {
      this.#away(error);
    }
    if (this.#closed) return;
    this.#renewal = clock.after(NODE_RENEW_MS, () => void this.#renew());
  }

  #away(error: unknown): void {
    if (!this.#directoryAway) {
      this.#options.log.warn(
        { reason: errorCode(error) },
        `The directory does not answer, so known routes stay as they are: ${errorMessage(error)}`,
      );
    }
    this.#directoryAway = true;
  }

  // Claims.

  #claimAll(registration: Registration): void {
    for (const name of registration.names) {
      this.#waiting.set(`${registration.claim.session} ${name}`, { registration, name });
    }
    this.#claimNext();
  }

  #claimNext(): void {
    while (this.#claiming < CLAIMS_AT_ONCE) {
      const [first] = this.#waiting;
      if (first === undefined) return;
      const [key, next] = first;
      this.#waiting.delete(key);
      if (next.registration.released) continue;
      this.#claiming++;
      void this.#claim(next.registration, next.name).finally(() => {
        this.#claiming--;
        this.#claimNext();
      });
    }
  }

  async #claim(registration: Registration, name: string): Promise<void> {
    const { directory, record } = this.#options;
    const { session, owner, group, member, madeAtMs } = registration.claim;
    const claim: RouteClaim = {
      ...{ name, owner, group, madeAtMs, session, node: record().id },
      ...member === undefined ? {} : { member },
    };
    try {
      const outcome = await directory.claim(claim);
      if (outcome.kind === "granted") {
        if (registration.released) return this.#giveUp(name, session);
        registration.held.add(name);
        this.#routes.delete(name);
      } else {
        this.#lost(registration, name, outcome.reason);
      }
    } catch (error) {
      // Made up for when the lease is renewed again.
      this.#away(error);
    }
  }

  #lost(registration: Registration, name: string, reason: "name_taken" | "replaced"): void {
    registration.held.delete(name);
    if (registration.names.delete(name)) registration.claim.lost([name], reason);
  }

  #giveUp(name: string, session: string): void {
    this.#routes.delete(name);
    // What fails here counts no more when the lease ends, or is refused by the node that it names.
    this.#options.directory.release(name, session).catch((error) => this.#away(error));
  }

  #confirmLater(): void {
    this.#confirmation = this.#options.clock.after(CONFIRM_MS / 60, () => {
      if (this.#closed) return;
      // A sixtieth of all at a time, by turns.
      const all = [...this.#registrations.values()];
      const share = Math.ceil(all.length / 60);
      for (const registration of all.slice(0, share)) {
        this.#registrations.delete(registration.claim.session);
        this.#registrations.set(registration.claim.session, registration);
        this.#claimAll(registration);
      }
      this.#confirmLater();
    });
  }

  // What others changed.

  #changed(change: DirectoryChange): void {
    switch (change.kind) {
      case "claimed": {
        const { holder, replaced } = change;
        this.#routes.delete(holder.name);
        for (const { session, name } of replaced) {
          const registration = this.#registrations.get(session);
          if (registration !== undefined) this.#lost(registration, name, "replaced");
        }
        return;
      }
      case "released":
        return void this.#routes.delete(change.name);
      case "node_left": {
        this.#links.get(change.node)?.session?.goAway(
          new SallyportError("shutdown", "Cannot forward: the node has left", { side: "network" }),
        );
        return this.#dropNode(change.node);
      }
      case "reconnected":
        for (const route of this.#routes.values()) route.freshUntilMs = 0;
        for (const registration of this.#registrations.values()) this.#claimAll(registration);
    }
  }

  #dropNode(node: string): void {
    for (const [name, { holders }] of this.#routes) {
      if (holders.some((holder) => holder.node === node)) this.#routes.delete(name);
    }
  }

  // Routes.

  #findWildcard(wildcard: string): Session | undefined | Promise<Session | undefined> {
    const known = this.#known(wildcard);
    return known instanceof Promise ? known.then((holders) => this.#reach(holders)) : this.#reach(known);
  }

  /** The holders of a name as far as they are known; a promise where the directory has to be asked first. */
  #known(name: string): readonly RouteHolder[] | Promise<readonly RouteHolder[]> {
    const nowMs = this.#options.clock.nowMs();
    const cached = this.#routes.get(name);
    if (cached !== undefined && cached.freshUntilMs > nowMs) return cached.holders;
    // A known route is used while it is asked for again; only an unknown one is waited for.
    const asking = cached?.asking ?? this.#ask(name, cached);
    if (cached !== undefined && cached.holders.length > 0) return cached.holders;
    return asking ?? [];
  }

  #ask(name: string, cached: CachedRoute | undefined): Promise<readonly RouteHolder[]> | undefined {
    if (this.#lookups >= LOOKUPS_MAX || this.#closed) return undefined;
    this.#lookups++;
    const { clock, directory } = this.#options;
    const route: CachedRoute = cached ?? { holders: [], freshUntilMs: 0, asking: undefined };
    this.#routes.delete(name);
    this.#routes.set(name, route);
    if (this.#routes.size > ROUTES_CACHED_MAX) this.#routes.delete(this.#routes.keys().next().value!);
    const asking = directory.lookup(name).then(
      (holders) => {
        route.freshUntilMs = clock.nowMs() + (holders.length > 0 ? ROUTE_FRESH_MS : ROUTE_UNKNOWN_MS);
        const others = holders.filter(({ node }) => node !== this.#options.record().id);
        // The directory has lost the name, or its node was too busy to renew its lease: as long as the link to it stands,
        // that node says itself whether it still has the name.
        const forgotten = holders.length === 0 &&
          route.holders.some(({ node }) => this.#links.get(node)?.session !== undefined);
        if (!forgotten) route.holders = others;
        return route.holders;
      },
      (error) => {
        this.#away(error);
        route.freshUntilMs = clock.nowMs() + ROUTE_UNKNOWN_MS;
        return route.holders;
      },
    ).finally(() => {
      this.#lookups--;
      route.asking = undefined;
    });
    route.asking = asking;
    return asking;
  }

  /** A link to one of the holders: the newest that is linked already, else whichever is reached first. */
  #reach(holders: readonly RouteHolder[]): Session | undefined | Promise<Session | undefined> {
    const openings: Promise<Session | undefined>[] = [];
    for (const { node } of holders) {
      const { session, opening } = this.#link(node);
      if (session !== undefined) return session;
      if (opening !== undefined) openings.push(opening);
    }
    if (openings.length < 2) return openings[0];
    const reached = openings.map((opening) => opening.then((session) => session ?? Promise.reject(session)));
    return Promise.any(reached).catch(() => undefined);
  }

  #link(node: string): LinkState {
    const { clock } = this.#options;
    let state = this.#links.get(node);
    if (state === undefined) {
      state = { session: undefined, opening: undefined, retryAtMs: 0 };
      this.#links.set(node, state);
    }
    if (state.session === undefined && state.opening === undefined && state.retryAtMs <= clock.nowMs()) {
      state.opening = this.#openLink(node, state).finally(() => state.opening = undefined);
    }
    return state;
  }

  async #openLink(node: string, state: LinkState): Promise<Session | undefined> {
    const { clock, directory, log, link } = this.#options;
    try {
      let record = this.#nodes.get(node);
      if (record === undefined) {
        this.#nodes = new Map((await directory.nodes()).map((known) => [known.id, known]));
        record = this.#nodes.get(node);
      }
      if (record === undefined) {
        this.#dropNode(node);
        this.#links.delete(node);
        return undefined;
      }
      const session = await link(record, {
        // The node that accepts opens no streams.
        stream: (stream) => stream.abort(),
        streamClosed() {},
        streamRefused() {},
        goingAway: () => void this.#links.delete(node),
        ended: () => {
          if (this.#links.get(node) === state) this.#links.delete(node);
        },
      });
      state.session = new ForwardingSession(
        session,
        (name) => this.#routes.delete(name),
        this.#options.forwarded,
      );
      return state.session;
    } catch (error) {
      state.retryAtMs = clock.nowMs() + LINK_RETRY_MS;
      log.warn({ node, reason: errorCode(error) }, `Cannot link to node: ${errorMessage(error)}`);
      return undefined;
    }
  }

  // Visitors from other nodes.

  #serve(stream: SessionStream): void {
    const { clock, memory, local, forwarded } = this.#options;
    const { serverName, address } = stream.caller;
    const session = serverName === undefined ? undefined : local(serverName);
    if (session === undefined) {
      // The node that forwarded it asks the directory again.
      return stream.abort(
        new SallyportError(
          "unrecognized_name",
          `Cannot serve forwarded visitor: no session of this node has its name`,
          {
            side: "network",
            retryable: true,
          },
        ),
      );
    }
    const shares = this.#options.shares?.();
    if (shares?.enter(session, address) === false) {
      const why = `Cannot serve forwarded visitor: its source has too many streams to ${serverName} already`;
      return stream.abort(
        new SallyportError("limit_exceeded", why, { side: "peer", retryable: true }),
      );
    }
    const done = () => shares?.leave(session, address);
    let target: SessionStream;
    try {
      target = session.open(stream.caller);
    } catch (error) {
      done();
      return stream.abort(error as Error);
    }
    forwarded?.("in");
    splice({ visitorSide: stream, agentSide: target, stream: target, clock, memory, done });
  }
}

/** A link as a visitor's splice sees it: a session like any other, whose streams are counted. */
class ForwardingSession implements Session {
  readonly #link: Session;
  readonly #stale: (name: string) => void;
  readonly #forwarded: ((direction: "out") => void) | undefined;

  constructor(
    link: Session,
    stale: (name: string) => void,
    forwarded: ((direction: "out") => void) | undefined,
  ) {
    this.#link = link;
    this.#stale = stale;
    this.#forwarded = forwarded;
  }

  get transport(): string {
    return this.#link.transport;
  }
  get remote(): Session["remote"] {
    return this.#link.remote;
  }
  get protocolVersion(): number | undefined {
    return this.#link.protocolVersion;
  }
  get cipher(): string {
    return this.#link.cipher;
  }
  get halfClose(): boolean {
    return this.#link.halfClose;
  }
  get streams(): number {
    return this.#link.streams;
  }
  get bytesSent(): number {
    return this.#link.bytesSent;
  }
  get bytesReceived(): number {
    return this.#link.bytesReceived;
  }
  get rttMs(): number | undefined {
    return this.#link.rttMs;
  }

  open(caller: Parameters<Session["open"]>[0]): SessionStream {
    try {
      const stream = this.#link.open(caller);
      this.#forwarded?.("out");
      return stream;
    } catch (error) {
      // The next visitor asks anew.
      if (caller.serverName !== undefined) this.#stale(caller.serverName);
      throw error;
    }
  }

  askToMove(): void {
    this.#link.askToMove();
  }

  goAway(reason: SallyportError): void {
    this.#link.goAway(reason);
  }

  close(reason: SallyportError): void {
    this.#link.close(reason);
  }
}
