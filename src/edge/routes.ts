/**
 * Which session serves which hostname. A name has an owner: the hostname of the token that claimed it. Only the
 * owner's newer session takes it over, and only the session that holds a name can give it up.
 *
 * @module
 */
import { SallyportError } from "../errors.ts";
import { wildcardOf } from "../wire/wildcard.ts";

/**
 * More take-overs of one name than this within a minute are flapping: sessions whose token is no newer than the
 * holder's are refused until it calms.
 */
export const TAKEOVERS_PER_MINUTE_MAX = 5;

const MINUTE_MS = 60_000;

/** How new a token is, by the session master's own clock: when it was made and when it ends, in Unix seconds. */
export interface TokenAge {
  readonly madeAtS: number;
  readonly validUntilS: number;
}

interface Route<S> {
  readonly owner: string;
  readonly session: S;
  /** Of the owner's token. */
  readonly age: TokenAge;
}

/** What {@link Routes.claim} did. */
export interface Claimed<S> {
  /** The owner's older session, which serves nothing any more. */
  readonly replaced: S | undefined;
  /** Aliases that belong to another owner and stay there. */
  readonly denied: readonly string[];
}

/** Routes to sessions of type `S`. Names are canonical (see wire/hostname.ts and wire/wildcard.ts). */
export class Routes<S> {
  readonly #routes = new Map<string, Route<S>>();
  /** What each session holds, so that giving it up doesn't look through all routes. */
  readonly #names = new Map<S, string[]>();
  readonly #takeovers = new Map<string, number[]>();

  /** Names that are served. */
  get size(): number {
    return this.#routes.size;
  }

  /** The session that serves `name`: by that name, else by the wildcard that covers it. */
  find(name: string): S | undefined {
    const exact = this.#routes.get(name);
    if (exact !== undefined) return exact.session;
    const wildcard = wildcardOf(name);
    return wildcard === undefined ? undefined : this.#routes.get(wildcard)?.session;
  }

  /**
   * Throws `name_taken` or `name_flapping` where `owner` couldn't claim its own name now. A token that is newer than the
   * holder's always may: the session master has just vouched for it.
   */
  check(owner: string, age: TokenAge, nowMs: number): void {
    const held = this.#routes.get(owner);
    if (held === undefined) return;
    if (held.owner !== owner) {
      throw new SallyportError("name_taken", `Cannot serve ${owner}: the name is an alias of ${held.owner}`, {
        side: "peer",
      });
    }
    if (isNewer(age, held.age)) return;
    if (this.#recent(owner, nowMs).length >= TAKEOVERS_PER_MINUTE_MAX) {
      throw new SallyportError(
        "name_flapping",
        `Cannot serve ${owner}: taken over ${TAKEOVERS_PER_MINUTE_MAX} times within a minute; do two agents share it?`,
        { side: "peer", retryable: true },
      );
    }
  }

  /** Gives `session` its names: the owner's own, and those aliases that no other owner holds. Throws as `check`. */
  claim(owner: string, aliases: readonly string[], session: S, age: TokenAge, nowMs: number): Claimed<S> {
    this.check(owner, age, nowMs);
    const replaced = this.#routes.get(owner)?.session;
    if (replaced !== undefined) {
      this.#takeovers.set(owner, [...this.#recent(owner, nowMs), nowMs]);
      this.release(replaced);
    }
    const denied: string[] = [];
    const held = [owner];
    for (const alias of aliases) {
      const route = this.#routes.get(alias);
      if (route !== undefined && route.owner !== owner) denied.push(alias);
      else held.push(alias);
    }
    for (const name of held) this.#routes.set(name, { owner, session, age });
    this.#names.set(session, held);
    return { replaced, denied };
  }

  /** Gives up every name that `session` holds, and no other; does nothing the second time. */
  release(session: S): void {
    for (const name of this.#names.get(session) ?? []) this.#routes.delete(name);
    this.#names.delete(session);
  }

  /** Gives up some of the names that `session` holds. */
  releaseNames(session: S, names: readonly string[]): void {
    const held = this.#names.get(session);
    if (held === undefined) return;
    for (const name of names) if (held.includes(name)) this.#routes.delete(name);
    this.#names.set(session, held.filter((name) => !names.includes(name)));
  }

  /** Forgets take-overs of more than a minute ago. */
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
