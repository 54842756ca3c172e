/**
 * How an agent's sessions come about: the transport, and the edge's key where the transport has one.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Bytes } from "../bytes/bytes.ts";
import { loadSodium, type Sodium } from "../crypto/sodium.ts";
import { SallyportError } from "../errors.ts";
import type { QueueLimits } from "../limits.ts";
import { SendScratch } from "../mux/sender.ts";
import type { Runtime } from "../runtime/port.ts";
import type { Session, SessionHandler } from "../transport/port.ts";
import { dialSealed } from "../transport/sealed_dial.ts";
import { SealedScratch } from "../transport/sealed_link.ts";
import { dialSnitun } from "../transport/snitun.ts";
import type { Grant } from "./grant.ts";

/** How a session crosses the network. */
export type TransportName = "snitun" | "sealed";

/** What a {@link Dialer} works with. */
export interface DialerOptions {
  /** The runtime below. */
  readonly runtime: Runtime;
  /** SniTun's queue figures; the reference's when absent. */
  readonly queueLimits?: QueueLimits;
  /** "snitun" when absent. */
  readonly transport?: TransportName;
  /** The edge's public key for the sealed transport; the first that a grant names when absent. */
  readonly edgePublicKey?: Bytes;
}

/** Dials edges, with what all sessions of one agent share. */
export class Dialer {
  readonly #options: DialerOptions;
  readonly #snitun = new SendScratch();
  readonly #sealed = new SealedScratch();
  #sodium: Promise<Sodium> | undefined;
  #pinned: Bytes | undefined;

  constructor(options: DialerOptions) {
    this.#options = options;
    this.#pinned = options.edgePublicKey;
  }

  /**
   * Opens a session. Rejects as {@link dialSnitun} or {@link dialSealed} do, and with `edge_key_changed` where the
   * grant names another key than the one that is pinned.
   */
  async dial(
    grant: Grant,
    edge: { readonly host: string; readonly port: number },
    signal: AbortSignal,
    admitted: (session: Session) => SessionHandler,
  ): Promise<Session> {
    const { runtime, queueLimits, transport } = this.#options;
    const { host, port } = edge;
    const shared = {
      runtime,
      clock: runtime.clock,
      queueLimits,
      host,
      port,
      token: grant.token,
      signal,
      admitted,
    };
    if (transport !== "sealed") {
      const { aesKey, aesIv, cipher, protocolVersion } = grant;
      return await dialSnitun({ ...shared, scratch: this.#snitun, aesKey, aesIv, cipher, protocolVersion });
    }
    const edgePublicKey = this.#pin(grant);
    this.#sodium ??= loadSodium();
    return await dialSealed({
      ...shared,
      sodium: await this.#sodium,
      scratch: this.#sealed,
      edgePublicKey,
      // A device without a battery starts in the past; no token comes from the future.
      unixSeconds: Math.max(Math.floor(runtime.clock.wallMs() / 1000), tokenMadeAtS(grant.token)),
    });
  }

  /** The first key that is heard of stays, until the agent is started again. */
  #pin(grant: Grant): Bytes {
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
      const fixed = this.#options.edgePublicKey !== undefined;
      throw new SallyportError(
        "edge_key_changed",
        `Cannot open session: the edge's public key is ${keyText(named)} by the session master, and ` +
          `${keyText(pinned)} ${
            fixed ? "by --edge-public-key" : "was at first"
          }. If the edge was given a new key, ` +
          `${fixed ? "set that" : "start the agent again"}; if not, somebody stands between`,
        { side: "config", retryable: !fixed },
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

/** When a token was made, in Unix seconds by the clock of who made it; 0 where it doesn't say. */
export function tokenMadeAtS(token: string): number {
  // Fernet spec: a version byte, then the time of making in seconds, 64 bits big-endian.
  const head = Buffer.from(token.slice(0, 12), "base64url");
  return head.length === 9 && head[0] === 0x80 ? Number(head.readBigUInt64BE(1)) : 0;
}
