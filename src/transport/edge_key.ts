/**
 * The edge's public key, as trusted by an agent.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { type Bytes, sameBytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import type { Grant } from "./grant.ts";

/** Edges whose keys an agent remembers; beyond it the oldest is forgotten. */
export const EDGES_PINNED_MAX = 256;

/** A way to identify an edge. */
interface EdgeKeyKind {
  /** Its name in messages: "public key". */
  readonly name: string;
  /** The flag that sets it. */
  readonly flag: string;
  /** The value named by a grant. */
  of(grant: Grant): Bytes | undefined;
  /** Formats the value as in settings and messages. */
  text(key: Bytes): string;
}

const PUBLIC_KEY: EdgeKeyKind = {
  name: "public key",
  flag: "--edge-public-key",
  of: (grant) => grant.edge.publicKey,
  text: keyText,
};

/** The edge's identity, by default its public key: configured, or the first one a session master names. */
export class EdgeKey {
  readonly #kind: EdgeKeyKind;
  /** By edge: each edge of a cluster has its own key. */
  readonly #pinned = new Map<string, Bytes>();
  readonly #fixed: Bytes | undefined;

  /** @param fixed the configured key, which no other replaces */
  constructor(fixed?: Bytes, kind: EdgeKeyKind = PUBLIC_KEY) {
    this.#kind = kind;
    this.#fixed = fixed;
  }

  /** Whether a key was set, or this grant names one. */
  named(grant: Grant): boolean {
    return this.#fixed !== undefined || this.#kind.of(grant) !== undefined;
  }

  /**
   * The key to require. The first one named for an edge is kept until the agent restarts.
   *
   * @throws SallyportError `config_invalid` if no key is named, `edge_key_changed` if the grant names another
   */
  pin(grant: Grant): Bytes {
    const { name, flag, of, text } = this.#kind;
    const named = of(grant);
    const edge = `${grant.edge.host}:${grant.edge.port}`;
    const pinned = this.#fixed ?? this.#pinned.get(edge) ?? named;
    if (pinned === undefined) {
      throw new SallyportError(
        "config_invalid",
        `Cannot open session: the session master doesn't name the edge's ${name}; give it with ${flag}`,
        { side: "config" },
      );
    }
    if (named !== undefined && !sameBytes(named, pinned)) {
      const fixed = this.#fixed !== undefined;
      const source = fixed ? `by ${flag}` : "at first";
      const remedy = fixed ? `correct ${flag}` : "restart the agent";
      throw new SallyportError(
        "edge_key_changed",
        `Cannot open session: the session master gives ${
          text(named)
        } as the edge's ${name}, but it was given as ` +
          `${
            text(pinned)
          } ${source}. If the edge has a new one, ${remedy}; if not, someone may be intercepting the ` +
          "connection",
        { side: "config", retryable: !fixed },
      );
    }
    if (this.#fixed === undefined && !this.#pinned.has(edge)) {
      const [oldest] = this.#pinned.keys();
      if (this.#pinned.size >= EDGES_PINNED_MAX && oldest !== undefined) this.#pinned.delete(oldest);
      this.#pinned.set(edge, pinned);
    }
    return pinned;
  }
}

/** Formats a public key as in settings and messages: base64url. */
export function keyText(key: Bytes): string {
  return Buffer.from(key).toString("base64url");
}
