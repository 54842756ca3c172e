/**
 * Who may have tokens, and for which names. Keys are held as SHA-256 digests, so that a dump of the memory or a store
 * has none, and compared in constant time.
 *
 * @module
 */

import { createHash, timingSafeEqual } from "node:crypto";
import { SallyportError } from "../errors.ts";
import { parsePublishClaim } from "../wire/token/publish_claim.ts";

/** Somebody who may ask for tokens. */
export interface Credential {
  /** Names it in logs and counts its requests; not a secret. */
  readonly id: string;
  /** Whether it may serve `hostname`, a name in canonical form. */
  mayServe(hostname: string): boolean;
  /** Whether it may have this public port, `tcp:2222`, or any one, `tcp`; none when absent. */
  mayPublish?(port: string): boolean;
}

/** Where the master looks credentials up: its port to a store. */
export interface Credentials {
  /** The credential behind the key that a client presented, undefined for an unknown one. */
  find(bearer: string): Credential | undefined | Promise<Credential | undefined>;
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
  for (const { id, key, names, publish = [] } of list) {
    if (key === "") throw refuse(id, "its key is empty");
    const wrong = publish.find((port) => port !== "*" && parsePublishClaim(port) === undefined);
    if (wrong !== undefined) throw refuse(id, `${wrong} is no public port: tcp:2222, tcp or *`);
    const patterns = names.map((pattern) => canonicalPattern(id, pattern));
    const own = digest(key);
    for (const other of known) {
      if (other.credential.id === id) throw refuse(id, "the id occurs twice");
      if (timingSafeEqual(other.digest, own)) throw refuse(id, `${other.credential.id} has the same key`);
    }
    const mayServe = (hostname: string) => patterns.some((pattern) => coversName(pattern, hostname));
    const mayPublish = (port: string) => publish.some((own) => own === "*" || own === "tcp" || own === port);
    known.push({ digest: own, credential: { id, mayServe, mayPublish } });
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

/** The one credential `admin`, which may serve every name and have every public port. Throws `config_invalid` for an empty key. */
export function adminCredentials(adminKey: string): Credentials {
  return staticCredentials([{ id: "admin", key: adminKey, names: ["*"], publish: ["*"] }]);
}
