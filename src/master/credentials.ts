/**
 * Who may have tokens, and for which names. Keys are held as SHA-256 digests, so that a dump of the memory or a store
 * has none, and compared in constant time.
 *
 * @module
 */

import { createHash, timingSafeEqual } from "node:crypto";
import { SallyportError } from "../errors.ts";
import type { AgentClaim } from "../wire/token/agent_claim.ts";
import { parsePublishClaim } from "../wire/token/claims.ts";
import { type Agent, type Scope, SCOPES } from "./model.ts";

/** Somebody who may ask for tokens. */
export interface Credential {
  /** Names it in logs and counts its requests; not a secret. */
  readonly id: string;
  /** Whether it may serve `hostname`, a name in canonical form. */
  mayServe(hostname: string): boolean;
  /** Whether it may have this public port, `tcp:2222`, or any one, `tcp`; none when absent. */
  mayPublish?(port: string): boolean;
  /** What it may do besides asking for tokens; nothing when absent. */
  readonly scopes?: readonly Scope[];
  /** The tenant that it sees by the API; all of them when absent. */
  readonly tenant?: string;
  /** The agent whose own it is: tokens are for its names, with its limits. */
  readonly agent?: Agent;
  /** What tokens are to say of an agent that the store doesn't have, such as its limits. */
  readonly claim?: Partial<AgentClaim>;
  /** Milliseconds since 1970 after which tokens mustn't be good any more. */
  readonly expiresAtMs?: number;
}

/** The request that a credential came with. */
export interface CredentialUse {
  readonly method: string;
  /** The path, without query. */
  readonly path: string;
}

/** Where the master looks credentials up: its port to a store. */
export interface Credentials {
  /**
   * The credential behind what a client presented, undefined for an unknown one. May throw a {@link Problem} that says
   * more, for something that can't be guessed.
   */
  find(bearer: string, use: CredentialUse): Credential | undefined | Promise<Credential | undefined>;
}

/** A key of {@link staticCredentials}. */
export interface StaticCredential {
  /** Names it in logs and counts its requests; not a secret. */
  readonly id: string;
  /** What its holder presents; a secret. */
  readonly key: string;
  /** Names that it may serve: `a.example.org`, `*.example.org` (all below, at any depth), or `*` (every name). */
  readonly names: readonly string[];
  /** Public ports that it may have: `tcp:2222`, `tcp` (any of the edge's range), or `*`; none when absent. */
  readonly publish?: readonly string[];
  /** What it may do besides asking for tokens; nothing when absent. */
  readonly scopes?: readonly Scope[];
}

function digest(key: string): Uint8Array {
  return createHash("sha256").update(key, "utf8").digest();
}

/**
 * Whether `pattern` covers `hostname`. A pattern is a name, `*.` and a name for all that is below it at any depth
 * (not the name itself), or `*`.
 */
export function coversName(pattern: string, hostname: string): boolean {
  if (pattern === "*") return true;
  if (pattern.startsWith("*.")) {
    return hostname.length > pattern.length - 1 && hostname.endsWith(pattern.slice(1));
  }
  return pattern === hostname;
}

/** Puts a pattern into the form of the names it is compared with; throws `config_invalid` for one that can't match. */
function canonicalPattern(id: string, pattern: string): string {
  const plain = pattern.toLowerCase().replace(/\.$/, "");
  if (plain !== "*" && !/^(\*\.)?[^*.\s]+(\.[^*.\s]+)*$/.test(plain)) {
    throw new SallyportError(
      "config_invalid",
      `Cannot use credential ${id}: ${pattern} is no name, *.name or *`,
      {
        side: "config",
      },
    );
  }
  return plain;
}

/**
 * A fixed list of keys. Throws `config_invalid` for an empty key, a key or an id that occurs twice, and a pattern
 * that can't match.
 */
export function staticCredentials(list: readonly StaticCredential[]): Credentials {
  const refuse = (id: string, why: string) =>
    new SallyportError("config_invalid", `Cannot use credential ${id}: ${why}`, { side: "config" });
  const known: { readonly digest: Uint8Array; readonly credential: Credential }[] = [];
  for (const { id, key, names, publish = [], scopes } of list) {
    if (key === "") throw refuse(id, "its key is empty");
    const wrong = publish.find((port) => port !== "*" && parsePublishClaim(port) === undefined);
    if (wrong !== undefined) throw refuse(id, `${wrong} is no public port: tcp:2222, tcp or *`);
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
      // Every entry is compared, so that the time says nothing about where the match was.
      for (const entry of known) if (timingSafeEqual(entry.digest, presented)) found = entry.credential;
      return found;
    },
  };
}

/** The one credential `admin`, which may do everything. Throws `config_invalid` for an empty key. */
export function adminCredentials(adminKey: string): Credentials {
  return staticCredentials([{ id: "admin", key: adminKey, names: ["*"], publish: ["*"], scopes: SCOPES }]);
}

/** The first of several that knows what a client presented. */
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
  return patterns.some((pattern) => coversName(pattern, hostname));
}

/** Whether these public ports, or `*` for all, include one. */
export function allowsPort(ports: readonly string[], port: string): boolean {
  return ports.some((own) => own === "*" || own === "tcp" || own === port);
}
