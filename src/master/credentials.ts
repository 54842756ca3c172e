/**
 * Who may request tokens, and for which names. Keys are stored as SHA-256 digests, so that a dump of the memory or a
 * store contains none, and compared in constant time.
 *
 * @module
 */

import { createHash, timingSafeEqual } from "node:crypto";
import { SallyportError } from "../errors.ts";
import type { AgentClaim } from "../wire/token/agent_claim.ts";
import { parsePublishClaim } from "../wire/token/claims.ts";
import { type Agent, type Scope, SCOPES } from "./model.ts";

/** A client that may request tokens. */
export interface Credential {
  /** Identifies it in logs and request counts; not a secret. */
  readonly id: string;
  /** Whether it may serve `hostname`, a name in canonical form. */
  mayServe(hostname: string): boolean;
  /** Whether it may use this public port, `tcp:2222`, or any port, `tcp`. Defaults to none. */
  mayPublish?(port: string): boolean;
  /** Its other permissions. Default to none. */
  readonly scopes?: readonly Scope[];
  /** The tenant it can see through the API. Defaults to all. */
  readonly tenant?: string;
  /** The agent it belongs to: tokens are for its names, with its limits. */
  readonly agent?: Agent;
  /** Claims in tokens for an agent that the store doesn't have, such as its limits. */
  readonly claim?: Partial<AgentClaim>;
  /** Milliseconds since 1970 after which tokens must no longer be valid. */
  readonly expiresAtMs?: number;
}

/** The request that presented a credential. */
export interface CredentialUse {
  readonly method: string;
  /** The path, without query. */
  readonly path: string;
}

/** Looks up credentials: the master's port to a store. */
export interface Credentials {
  /**
   * The credential for the key presented by a client, undefined if it is unknown. For keys that can't be guessed it may
   * throw a more specific {@link Problem}.
   */
  find(bearer: string, use: CredentialUse): Credential | undefined | Promise<Credential | undefined>;
}

/** A key of {@link staticCredentials}. */
export interface StaticCredential {
  /** Identifies it in logs and request counts; not a secret. */
  readonly id: string;
  /** The key presented by its holder; a secret. */
  readonly key: string;
  /** Names it may serve: `a.example.org`, `*.example.org` (all below, at any depth), or `*` (every name). */
  readonly names: readonly string[];
  /** Public ports it may use: `tcp:2222`, `tcp` (any of the edge's range), or `*`. Defaults to none. */
  readonly publish?: readonly string[];
  /** Its other permissions. Default to none. */
  readonly scopes?: readonly Scope[];
}

function digest(key: string): Uint8Array {
  return createHash("sha256").update(key, "utf8").digest();
}

/**
 * Whether `pattern` covers `hostname`. A pattern is a name, `*.` and a name for everything below it at any depth (not
 * the name itself), or `*`.
 */
export function patternCovers(pattern: string, hostname: string): boolean {
  if (pattern === "*") return true;
  if (pattern.startsWith("*.")) {
    return hostname.length > pattern.length - 1 && hostname.endsWith(pattern.slice(1));
  }
  return pattern === hostname;
}

/** Canonicalizes a pattern like the names it is compared with; throws `config_invalid` for one that can't match. */
function canonicalPattern(id: string, pattern: string): string {
  const plain = pattern.toLowerCase().replace(/\.$/, "");
  if (plain !== "*" && !/^(\*\.)?[^*.\s]+(\.[^*.\s]+)*$/.test(plain)) {
    throw new SallyportError(
      "config_invalid",
      `Cannot use credential ${id}: ${pattern} isn't a name, *.name or *`,
      {
        side: "config",
      },
    );
  }
  return plain;
}

/**
 * A fixed list of keys. Throws `config_invalid` for an empty key, a duplicate key or id, and a pattern that can't
 * match.
 */
export function staticCredentials(list: readonly StaticCredential[]): Credentials {
  const refuse = (id: string, why: string) =>
    new SallyportError("config_invalid", `Cannot use credential ${id}: ${why}`, { side: "config" });
  const known: { readonly digest: Uint8Array; readonly credential: Credential }[] = [];
  for (const { id, key, names, publish = [], scopes } of list) {
    if (key === "") throw refuse(id, "its key is empty");
    const wrong = publish.find((port) => port !== "*" && parsePublishClaim(port) === undefined);
    if (wrong !== undefined) throw refuse(id, `${wrong} isn't a public port: tcp:2222, tcp or *`);
    const patterns = names.map((pattern) => canonicalPattern(id, pattern));
    const own = digest(key);
    for (const other of known) {
      if (other.credential.id === id) throw refuse(id, "the id occurs twice");
      if (timingSafeEqual(other.digest, own)) throw refuse(id, `${other.credential.id} has the same key`);
    }
    const mayServe = (hostname: string) => coversAny(patterns, hostname);
    const mayPublish = (port: string) => allowsPort(publish, port);
    known.push({ digest: own, credential: { id, mayServe, mayPublish, ...scopes && { scopes } } });
  }
  return {
    find(bearer) {
      const presented = digest(bearer);
      let found: Credential | undefined;
      // All entries are compared, so that the time doesn't reveal where the match was.
      for (const entry of known) if (timingSafeEqual(entry.digest, presented)) found = entry.credential;
      return found;
    },
  };
}

/** The single credential `admin`, with all permissions. Throws `config_invalid` for an empty key. */
export function adminCredentials(adminKey: string): Credentials {
  return staticCredentials([{ id: "admin", key: adminKey, names: ["*"], publish: ["*"], scopes: SCOPES }]);
}

/** Combines several sources: the first that recognises the key wins. */
export function firstOf(...all: readonly Credentials[]): Credentials {
  return {
    async find(bearer, use) {
      for (const credentials of all) {
        const found = await credentials.find(bearer, use);
        if (found !== undefined) return found;
      }
      return undefined;
    },
  };
}

/** Whether these patterns cover a hostname. */
export function coversAny(patterns: readonly string[], hostname: string): boolean {
  return patterns.some((pattern) => patternCovers(pattern, hostname));
}

/** Whether these public ports, or `*` for all, include `port`. */
export function allowsPort(ports: readonly string[], port: string): boolean {
  return ports.some((own) => own === "*" || own === "tcp" || own === port);
}
