/**
 * Maps hostnames to the sessions that serve them. A name has an owner: the hostname of the token that claimed it. Only
 * a newer session of the owner takes it over, and only the session that holds a name can release it. If tokens say that
 * their agents share the owner's names, each agent has its own session, and visitors are distributed over them.
 *
 * @module
 */
import { SallyportError } from "../errors.ts";
import { wildcardOf } from "../wire/wildcard.ts";

/**
 * More take-overs of one name than this within a minute count as flapping: sessions whose token is no newer than the
 * holder's are refused until it subsides.
 */
export const TAKEOVERS_PER_MINUTE_MAX = 5;

const MINUTE_MS = 60_000;

/** A token's age by the session master's clock: when it was issued and when it expires, in Unix seconds. */
export interface TokenAge {
  readonly madeAtS: number;
  readonly validUntilS: number;
}

/** A session that holds a name. */
interface Holder<S> {
  readonly session: S;
  /** Age of the owner's token. */
  readonly age: TokenAge;
  /** The agent, if it shares the name with others; otherwise undefined. */
  readonly instance: string | undefined;
}

interface Route<S> {
  readonly owner: string;
  /** Several if agents share the name; visitors are assigned round-robin. */
  readonly holders: readonly Holder<S>[];
  turn: number;
}

/** The names a session claims. */
export interface Claim {
  /** The hostname of its token. */
  readonly owner: string;
  readonly aliases: readonly string[];
  readonly age: TokenAge;
  /** The agent, if it shares its names with others. Absent: the names are exclusive. */
  readonly instance?: string | undefined;
}

/** Result of {@link Routes.claim}. */
export interface Claimed<S> {
  /** The owner's older sessions, which no longer serve anything. Those of other agents that share its names stay. */
  readonly replaced: readonly S[];
  /** Aliases that belong to another owner and stay there. */
  readonly denied: readonly string[];
}

/** Routes to sessions of type `S`. Names are canonical (see wire/hostname.ts and wire/wildcard.ts). */
export class Routes<S> {
  readonly #routes = new Map<string, Route<S>>();
  /** Names held by each session, so that releasing them doesn't scan all routes. */
  readonly #names = new Map<S, string[]>();
  readonly #takeovers = new Map<string, number[]>();

  /** Number of names served. */
  get size(): number {
    return this.#routes.size;
  }

  /** Number of sessions that share `name`. */
  sharing(name: string): number {
    return this.#routeOf(name)?.holders.length ?? 0;
  }

  /** The session that serves `name`: by exact name, else by the wildcard that covers it; round-robin among several. */
  find(name: string): S | undefined {
    const route = this.#routeOf(name);
    if (route === undefined) return undefined;
    const { holders } = route;
    if (holders.length === 1) return holders[0]!.session;
    route.turn = (route.turn + 1) % holders.length;
    return holders[route.turn]!.session;
  }

  #routeOf(name: string): Route<S> | undefined {
    const wildcard = wildcardOf(name);
    return this.#routes.get(name) ?? (wildcard === undefined ? undefined : this.#routes.get(wildcard));
  }

  /**
   * Throws `name_taken` or `name_flapping` if a session can't claim its owner's name now. A token newer than the
   * holder's always can: the session master has just vouched for it. So can one that shares the name.
   */
  check({ owner, age, instance }: Omit<Claim, "aliases">, nowMs: number): void {
    const held = this.#routes.get(owner);
    if (held === undefined) return;
    if (held.owner !== owner) {
      throw new SallyportError("name_taken", `Cannot serve ${owner}: the name is an alias of ${held.owner}`, {
        side: "peer",
      });
    }
    const replaced = replacedBy(instance, held.holders);
    if (replaced.every((holder) => isNewer(age, holder.age))) return;
    if (this.#recent(owner, nowMs).length >= TAKEOVERS_PER_MINUTE_MAX) {
      throw new SallyportError(
        "name_flapping",
        `Cannot serve ${owner}: taken over ${TAKEOVERS_PER_MINUTE_MAX} times within a minute; do two agents use it? ` +
          "Agents may share a name if each sets shared: true",
        { side: "peer", retryable: true },
      );
    }
  }

  /**
   * Assigns `session` its names: the owner's hostname, and those aliases that no other owner holds. Throws as `check`
   * does.
   */
  claim(claim: Claim, session: S, nowMs: number): Claimed<S> {
    this.check(claim, nowMs);
    const { owner, aliases, age, instance } = claim;
    const replaced = replacedBy(instance, this.#routes.get(owner)?.holders ?? []).map((holder) =>
      holder.session
    );
    if (replaced.length > 0) {
      this.#takeovers.set(owner, [...this.#recent(owner, nowMs), nowMs]);
      for (const older of replaced) this.release(older);
    }
    const denied: string[] = [];
    const held = [owner];
    for (const alias of aliases) {
      const route = this.#routes.get(alias);
      if (route !== undefined && route.owner !== owner) denied.push(alias);
      else held.push(alias);
    }
    const holder = { session, age, instance };
    for (const name of held) {
      const { holders = [], turn = 0 } = this.#routes.get(name) ?? {};
      this.#routes.set(name, { owner, holders: [...holders, holder], turn });
    }
    this.#names.set(session, held);
    return { replaced, denied };
  }

  /** Releases every name that `session` holds; a second call does nothing. */
  release(session: S): void {
    for (const name of this.#names.get(session) ?? []) this.#leave(name, session);
    this.#names.delete(session);
  }

  /** Releases some of the names that `session` holds. */
  releaseNames(session: S, names: readonly string[]): void {
    const held = this.#names.get(session);
    if (held === undefined) return;
    for (const name of names) this.#leave(name, session);
    this.#names.set(session, held.filter((name) => !names.includes(name)));
  }

  /** The other sessions that hold the name keep it. */
  #leave(name: string, session: S): void {
    const route = this.#routes.get(name);
    if (route === undefined) return;
    const holders = route.holders.filter((holder) => holder.session !== session);
    if (holders.length === 0) this.#routes.delete(name);
    else this.#routes.set(name, { ...route, holders });
  }

  /** Forgets take-overs older than a minute. */
  sweep(nowMs: number): void {
    for (const name of this.#takeovers.keys()) {
      if (this.#recent(name, nowMs).length === 0) this.#takeovers.delete(name);
    }
  }

  #recent(name: string, nowMs: number): number[] {
    return (this.#takeovers.get(name) ?? []).filter((at) => at > nowMs - MINUTE_MS);
  }
}

function isNewer(one: TokenAge, other: TokenAge): boolean {
  return one.madeAtS > other.madeAtS ||
    (one.madeAtS === other.madeAtS && one.validUntilS > other.validUntilS);
}

/** The sessions that a newer one replaces: all of the owner's, or only the same agent's if agents share its names. */
function replacedBy<S>(instance: string | undefined, holders: readonly Holder<S>[]): readonly Holder<S>[] {
  if (instance === undefined) return holders;
  return holders.filter((holder) => holder.instance === undefined || holder.instance === instance);
}
