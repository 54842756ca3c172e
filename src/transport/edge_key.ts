/**
 * The edge's public key, as an agent believes it.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Bytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import type { Grant } from "./grant.ts";

/** Edges whose keys an agent remembers; the one that it heard of first is forgotten beyond it. */
export const EDGES_PINNED_MAX = 256;

/** What an edge is known by. */
interface EdgeKeyKind {
  /** Its name in messages: "public key". */
  readonly name: string;
  /** The flag that sets it. */
  readonly flag: string;
  /** What a grant names. */
  of(grant: Grant): Bytes | undefined;
  /** As settings and messages have it. */
  text(key: Bytes): string;
}

const PUBLIC_KEY: EdgeKeyKind = {
  name: "public key",
  flag: "--edge-public-key",
  of: (grant) => grant.edge.publicKey,
  text: keyText,
};

/** What the edge is known by, its public key when nothing else is said: set, or the first that a session master names. */
export class EdgeKey {
  readonly #kind: EdgeKeyKind;
  readonly #fixed: boolean;
  /** By edge: those of a cluster have a key each. */
  readonly #pinned = new Map<string, Bytes>();
  readonly #set: Bytes | undefined;

  /** @param fixed the key that was set, which no other replaces */
  constructor(fixed?: Bytes, kind: EdgeKeyKind = PUBLIC_KEY) {
    this.#kind = kind;
    this.#fixed = fixed !== undefined;
    this.#set = fixed;
  }

  /** Whether a key was set, or this grant names one. */
  named(grant: Grant): boolean {
    return this.#fixed || this.#kind.of(grant) !== undefined;
  }

  /**
   * The key to insist on. The first that is heard of an edge stays, until the agent is started again.
   *
   * @throws SallyportError `config_invalid` where nobody names one, `edge_key_changed` where the grant names another
   */
  pin(grant: Grant): Bytes {
    const { name, flag, of, text } = this.#kind;
    const named = of(grant);
    const edge = `${grant.edge.host}:${grant.edge.port}`;
    const pinned = this.#set ?? this.#pinned.get(edge) ?? named;
    if (pinned === undefined) {
      throw new SallyportError(
        "config_invalid",
        `Cannot open session: the session master doesn't name the edge's ${name}; give it with ${flag}`,
        { side: "config" },
      );
    }
    if (named !== undefined && !named.every((byte, i) => byte === pinned[i])) {
      const whose = this.#fixed ? `by ${flag}` : "was at first";
      const mend = this.#fixed ? "set that" : "start the agent again";
      throw new SallyportError(
        "edge_key_changed",
        `Cannot open session: the edge's ${name} is ${text(named)} by the session master, and ` +
          `${
            text(pinned)
          } ${whose}. If the edge was given a new one, ${mend}; if not, somebody stands between`,
        { side: "config", retryable: !this.#fixed },
      );
    }
    if (this.#set === undefined && !this.#pinned.has(edge)) {
      const [oldest] = this.#pinned.keys();
      if (this.#pinned.size >= EDGES_PINNED_MAX && oldest !== undefined) this.#pinned.delete(oldest);
      this.#pinned.set(edge, pinned);
    }
    return pinned;
  }
}

/** A public key as settings and messages have it: base64url. */
export function keyText(key: Bytes): string {
  return Buffer.from(key).toString("base64url");
}
