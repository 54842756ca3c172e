/**
 * A node of a cluster: it claims the names of its sessions, looks up those that other nodes hold, and forwards visitors
 * to them (docs/protocols/cluster.md). It never blocks its own sessions: without the directory, running sessions and
 * known routes keep working, and claims are made later.
 *
 * @module
 */
import type { MemoryBudget } from "../bytes/memory_budget.ts";
import { errorCode, errorMessage, SallyportError } from "../errors.ts";
import type { Clock, Timer } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Caller, Session, SessionHandler, SessionStream } from "../transport/port.ts";
import { splice } from "../transport/splice.ts";
import type { StreamShares } from "../transport/stream_shares.ts";
import { wildcardOf } from "../wire/wildcard.ts";
import type { Directory, DirectoryChange, NodeRecord, RouteClaim, RouteHolder } from "./directory.ts";
import { NODE_RENEW_MS } from "./directory.ts";
import { ForwardedStream, type Way } from "./forwarded_stream.ts";

/** A known route is looked up again after this; change notifications arrive sooner. */
export const ROUTE_FRESH_MS = 10_000;
/** A name without a holder is not looked up again before this: visitors of unknown names cost the directory little. */
export const ROUTE_UNKNOWN_MS = 1_000;
/** Maximum number of cached routes; beyond it the least recently looked up is evicted. */
export const ROUTES_CACHED_MAX = 100_000;
/** Maximum number of concurrent directory lookups; visitors of further unknown names are refused. */
export const LOOKUPS_MAX = 256;
/** An unreachable node is not dialled again before this. */
export const LINK_RETRY_MS = 1_000;
/** Interval at which a leaving node checks whether its links still carry visitors. */
const LINKS_CHECK_MS = 100;
/** Maximum number of concurrent claims and confirmations. */
const CLAIMS_AT_ONCE = 32;
/** Maximum number of given-up claims remembered while the directory is away; beyond it the oldest are forgotten. */
const LEFTOVERS_MAX = 100_000;
/** Every claim is confirmed at this interval, spread evenly, to repair what the directory has lost. */
export const CONFIRM_MS = 600_000;

/** What a session claims: one or more names. */
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
  /** The session has lost these names to a newer one, or they belong to another owner. */
  lost(names: readonly string[], reason: "name_taken" | "replaced"): void;
}

/** Options of {@link ClusterNode}. */
interface ClusterNodeOptions {
  readonly directory: Directory;
  readonly clock: Clock;
  /** Memory budget of the process. Defaults to no accounting. */
  readonly memory?: MemoryBudget;
  readonly log: Logger;
  /** This node's current entry. */
  readonly record: () => NodeRecord;
  /** Opens a link to another node; `handler` handles its session. */
  link(node: NodeRecord, handler: SessionHandler): Promise<Session>;
  /** A session of this node that holds the name. */
  local(name: string): Session | undefined;
  /** Maximum streams of one source in a session, across all nodes. Defaults to no limit. */
  shares?(): StreamShares | undefined;
  /** Counts a forwarded visitor: `out` to another node, `in` from one. */
  forwarded?(direction: "in" | "out"): void;
}

interface Registration {
  readonly claim: SessionClaim;
  /** Names the session should hold: all of the claim's, except those it lost. */
  readonly names: Set<string>;
}

interface CachedRoute {
  holders: readonly RouteHolder[];
  /** When the route is looked up again. */
  freshUntilMs: number;
  asking: Promise<readonly RouteHolder[]> | undefined;
}

/** A link to a node that holds a name; undefined if no node does, or none is reached. */
type Reached = ForwardingSession | undefined | Promise<ForwardingSession | undefined>;

interface LinkState {
  session: ForwardingSession | undefined;
  opening: Promise<ForwardingSession | undefined> | undefined;
  /** Earliest time of the next attempt. */
  retryAtMs: number;
}

/** This node and its view of the others. */
export class ClusterNode {
  /** Whether another process of this machine takes over its agents; undefined if not known. */
  successor: boolean | undefined;
  readonly #options: ClusterNodeOptions;
  readonly #registrations = new Map<string, Registration>();
  readonly #routes = new Map<string, CachedRoute>();
  readonly #links = new Map<string, LinkState>();
  /** Names yet to be claimed, by session and name. */
  readonly #waiting = new Map<string, { readonly registration: Registration; readonly name: string }>();
  /** Claims to release in the directory, which did not answer when they were given up, by session and name. */
  readonly #leftovers = new Map<string, { readonly name: string; readonly session: string }>();
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

  /** Enters the cluster and stays in it; resolves after the first attempt. */
  async start(): Promise<void> {
    this.#unwatch = this.#options.directory.watch((change) => this.#changed(change));
    await this.#renew();
    this.#confirmLater();
  }

  /** Claims a session's names; names refused or lost later are reported to `claim.lost`. */
  register(claim: SessionClaim): void {
    const registration: Registration = { claim, names: new Set(claim.names) };
    this.#registrations.set(claim.session, registration);
    this.#claimAll(registration);
  }

  /** Releases the names of a session. */
  release(session: string): void {
    const registration = this.#registrations.get(session);
    if (registration === undefined) return;
    this.#registrations.delete(session);
    const names = [...registration.names];
    registration.names.clear();
    for (const name of names) void this.#giveUp(name, session);
  }

  /**
   * A session to forward a visitor of this name over: at once if route and link are known, otherwise as soon as they
   * are; undefined if no other node holds the name.
   */
  find(name: string): Reached {
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

  /** The node that a route points to refused a visitor: looks the name up again. */
  stale(name: string): void {
    for (const [known, route] of this.#routesOf(name)) {
      // One that is being looked up is soon fresh.
      if (route.asking === undefined) this.#routes.delete(known);
    }
  }

  /** Whether a node that stays up also holds a session's name, so that visitors lose nothing when this session ends. */
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

  /** Handles a link from another node: each stream is a visitor for a session of this node. */
  accepted(session: Session): SessionHandler {
    this.#incoming.add(session);
    return {
      stream: (stream) => this.#serve(stream),
      streamClosed() {},
      streamRefused() {},
      ended: () => void this.#incoming.delete(session),
    };
  }

  /** True if no other node will take over this one's agents because all of them are stopping. */
  get last(): boolean {
    if (this.successor === true) return false;
    const { id, machine } = this.#options.record();
    // The processes of one machine stop together.
    const stopsToo = (node: NodeRecord) => machine !== undefined && node.machine === machine;
    return ![...this.#nodes.values()].some((node) => node.id !== id && !node.draining && !stopsToo(node));
  }

  /** Number of nodes believed alive, including this one. */
  get size(): number {
    return this.#nodes.size;
  }

  /** Whether the directory answered the last request. */
  get directoryAnswers(): boolean {
    return !this.#directoryAway;
  }

  /** Number of established links, in either direction. */
  get links(): number {
    return this.#incoming.size +
      [...this.#links.values()].filter(({ session }) => session !== undefined).length;
  }

  /** Number of visitors being forwarded to this node. */
  get incomingStreams(): number {
    return [...this.#incoming].reduce((sum, { streams }) => sum + streams, 0);
  }

  get #linkStreams(): number {
    return [...this.#links.values()].reduce(
      (sum, { session }) => sum + (session?.streams ?? 0),
      this.incomingStreams,
    );
  }

  /** Publishes this node's state now, for example when it starts to drain. */
  async announce(): Promise<void> {
    this.#renewal?.cancel();
    await this.#renew();
  }

  /** Leaves the cluster, and closes its links once their visitors are gone, or after `graceMs`. */
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
      // Earlier claims are void, or the names may have been granted to others.
      if (outcome === "entered" || this.#directoryAway) {
        for (const registration of this.#registrations.values()) this.#claimAll(registration);
      }
      this.#directoryAway = false;
      void this.#giveUpLeftovers();
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
        `The directory doesn't answer, so known routes stay as they are: ${errorMessage(error)}`,
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
      if (!next.registration.names.has(next.name)) continue;
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
      if (outcome.kind === "refused") return this.#lost(registration, name, outcome.reason);
      this.#routes.delete(name);
    } catch (error) {
      // Retried when the lease is renewed again. The directory may have granted it all the same.
      this.#away(error);
    }
    // The session has ended, or lost the name, while the directory was asked.
    if (!registration.names.has(name)) await this.#giveUp(name, session);
  }

  #lost(registration: Registration, name: string, reason: "name_taken" | "replaced"): void {
    if (registration.names.delete(name)) registration.claim.lost([name], reason);
  }

  async #giveUp(name: string, session: string): Promise<void> {
    this.#routes.delete(name);
    try {
      await this.#options.directory.release(name, session);
    } catch (error) {
      // This node's lease would keep the claim, and the name from other owners: released when the directory answers.
      this.#leftovers.set(`${session} ${name}`, { name, session });
      if (this.#leftovers.size > LEFTOVERS_MAX) this.#leftovers.delete(this.#leftovers.keys().next().value!);
      this.#away(error);
    }
  }

  /** One after the other, until none is left or the directory is away again. */
  async #giveUpLeftovers(): Promise<void> {
    for (const [key, { name, session }] of this.#leftovers) {
      this.#leftovers.delete(key);
      await this.#giveUp(name, session);
      if (this.#directoryAway) return;
    }
  }

  #confirmLater(): void {
    this.#confirmation = this.#options.clock.after(CONFIRM_MS / 60, () => {
      if (this.#closed) return;
      // A sixtieth of them each time, in rotation.
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

  // Changes made by other nodes.

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

  #findWildcard(wildcard: string): Reached {
    const known = this.#known(wildcard);
    return known instanceof Promise ? known.then((holders) => this.#reach(holders)) : this.#reach(known);
  }

  /** The known holders of a name; a promise if the directory has to be asked first. */
  #known(name: string): readonly RouteHolder[] | Promise<readonly RouteHolder[]> {
    const nowMs = this.#options.clock.nowMs();
    const cached = this.#routes.get(name);
    if (cached !== undefined && cached.freshUntilMs > nowMs) return cached.holders;
    // A known route is used while it is refreshed; only an unknown one is awaited.
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
        // The directory has lost the name, or its node was too busy to renew its lease: while the link to it is up, the
        // node itself knows whether it still has the name.
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

  /** A link to one of the holders: the newest that is already linked, otherwise the first one reached. */
  #reach(holders: readonly RouteHolder[]): Reached {
    const openings: Promise<ForwardingSession | undefined>[] = [];
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

  async #openLink(node: string, state: LinkState): Promise<ForwardingSession | undefined> {
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
        // The accepting node opens no streams.
        stream: (stream) => stream.abort(),
        streamClosed() {},
        streamRefused() {},
        goingAway: () => void this.#links.delete(node),
        ended: () => {
          if (this.#links.get(node) === state) this.#links.delete(node);
        },
      });
      state.session = new ForwardingSession(session, (caller) => this.#forward(session, caller));
      return state.session;
    } catch (error) {
      state.retryAtMs = clock.nowMs() + LINK_RETRY_MS;
      log.warn({ node, reason: errorCode(error) }, `Cannot link to node: ${errorMessage(error)}`);
      return undefined;
    }
  }

  // Visitors for other nodes.

  #forward(link: Session, caller: Caller): SessionStream {
    const { clock, forwarded } = this.#options;
    let first: SessionStream;
    try {
      first = link.open(caller);
    } catch (error) {
      // The next visitor triggers a new lookup.
      if (caller.serverName !== undefined) this.stale(caller.serverName);
      throw error;
    }
    forwarded?.("out");
    return new ForwardedStream({ clock, caller, again: (cause) => this.#again(caller, cause) }, first);
  }

  /** Another way for a visitor: to a session that has come to this node meanwhile, or over a link. */
  async #again(caller: Caller, cause: SallyportError): Promise<Way | undefined> {
    const { serverName } = caller;
    if (serverName === undefined || this.#closed) {
      throw new SallyportError("connection_lost", "Cannot forward: this node is shutting down", {
        side: "local",
        retryable: true,
        cause,
      });
    }
    const here = this.#options.local(serverName);
    if (here !== undefined) return this.#openHere(here, caller);
    if (cause.code === "unrecognized_name") this.stale(serverName);
    else this.#refresh(serverName);
    const found = await this.find(serverName);
    return found && { stream: found.link.open(caller) };
  }

  /** Looks a known route up again at its next use, without forgetting it. */
  #refresh(name: string): void {
    for (const [, route] of this.#routesOf(name)) route.freshUntilMs = 0;
  }

  /** The known routes that serve a name: its own, and that of the wildcard. */
  #routesOf(name: string): [string, CachedRoute][] {
    return [name, wildcardOf(name)].flatMap((known): [string, CachedRoute][] => {
      const route = known === undefined ? undefined : this.#routes.get(known);
      return known === undefined || route === undefined ? [] : [[known, route]];
    });
  }

  // Visitors from other nodes.

  #serve(stream: SessionStream): void {
    const { clock, memory, local, forwarded } = this.#options;
    const { serverName } = stream.caller;
    const session = serverName === undefined ? undefined : local(serverName);
    if (session === undefined) {
      // The forwarding node asks the directory again.
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
    let way: Way;
    try {
      way = this.#openHere(session, stream.caller);
    } catch (error) {
      return stream.abort(error as Error);
    }
    forwarded?.("in");
    splice({ visitorSide: stream, agentSide: way.stream, stream: way.stream, clock, memory, done: way.done });
  }

  /** Opens a stream of a session of this node. Throws as `StreamShares.open` does. */
  #openHere(session: Session, caller: Caller): Way {
    const shares = this.#options.shares?.();
    if (shares === undefined) return { stream: session.open(caller) };
    return { stream: shares.open(session, caller), done: () => shares.leave(session, caller.address) };
  }
}

/** A link as a visitor's splice sees it: an ordinary session, whose streams find another way if theirs is lost. */
class ForwardingSession implements Session {
  readonly link: Session;
  readonly open: (caller: Caller) => SessionStream;

  constructor(link: Session, open: (caller: Caller) => SessionStream) {
    this.link = link;
    this.open = open;
  }

  get transport(): string {
    return this.link.transport;
  }
  get remote(): Session["remote"] {
    return this.link.remote;
  }
  get protocolVersion(): number | undefined {
    return this.link.protocolVersion;
  }
  get cipher(): string {
    return this.link.cipher;
  }
  get halfClose(): boolean {
    return this.link.halfClose;
  }
  get streams(): number {
    return this.link.streams;
  }
  get bytesSent(): number {
    return this.link.bytesSent;
  }
  get bytesReceived(): number {
    return this.link.bytesReceived;
  }
  get rttMs(): number | undefined {
    return this.link.rttMs;
  }

  askToMove(): void {
    this.link.askToMove();
  }

  goAway(reason: SallyportError): void {
    this.link.goAway(reason);
  }

  close(reason: SallyportError): void {
    this.link.close(reason);
  }
}
