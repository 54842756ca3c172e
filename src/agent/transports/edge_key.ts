/**
 * The edge's public key, as an agent believes it.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Bytes } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";
import type { Grant } from "../grant.ts";

/** The edge's public key, one for all transports of an agent: set, or the first that a session master names. */
export class EdgeKey {
  readonly #fixed: boolean;
  #pinned: Bytes | undefined;

  /** @param fixed the key that was set, which no other replaces */
  constructor(fixed?: Bytes) {
    this.#fixed = fixed !== undefined;
    this.#pinned = fixed;
  }

  /** Whether a key was set, or this grant names one. */
  named(grant: Grant): boolean {
    return this.#fixed || grant.edge.publicKey !== undefined;
  }

  /**
   * The key to insist on. The first that is heard of stays, until the agent is started again.
   *
   * @throws SallyportError `config_invalid` where nobody names one, `edge_key_changed` where the grant names another
   */
  pin(grant: Grant): Bytes {
    const named = grant.edge.publicKey;
    const pinned = this.#pinned ?? named;
    if (pinned === undefined) {
      throw new SallyportError(
        "config_invalid",
        "Cannot open session: the session master doesn't name the edge's public key; give it with --edge-public-key",
        { side: "config" },
      );
    }
    if (named !== undefined && !named.every((byte, i) => byte === pinned[i])) {
      const whose = this.#fixed ? "by --edge-public-key" : "was at first";
      const mend = this.#fixed ? "set that" : "start the agent again";
      throw new SallyportError(
        "edge_key_changed",
        `Cannot open session: the edge's public key is ${keyText(named)} by the session master, and ` +
          `${
            keyText(pinned)
          } ${whose}. If the edge was given a new key, ${mend}; if not, somebody stands between`,
        { side: "config", retryable: !this.#fixed },
      );
    }
    this.#pinned = pinned;
    return pinned;
  }
}

/** A public key as settings and messages have it: base64url. */
export function keyText(key: Bytes): string {
  return Buffer.from(key).toString("base64url");
}
