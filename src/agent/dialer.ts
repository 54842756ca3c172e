/**
 * How an agent's sessions come about: the transport, and the edge's key where the transport has one.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Bytes } from "../bytes/bytes.ts";
import { type AeadChoice, chooseAeads } from "../crypto/aead.ts";
import { loadSodium, type Sodium } from "../crypto/sodium.ts";
import type { CongestionName } from "../curve/congestion.ts";
import { type CurveCrypto, loadCurveCrypto } from "../curve/crypto.ts";
import type { CurveLink } from "../curve/dialer.ts";
import { errorCode, errorMessage, SallyportError } from "../errors.ts";
import type { QueueLimits } from "../limits.ts";
import { SendScratch } from "../mux/sender.ts";
import type { Runtime } from "../runtime/port.ts";
import { dialForCurve } from "../transport/curve_dial.ts";
import { CurveSessionsSource } from "../transport/curve_metrics.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Session, SessionHandler } from "../transport/port.ts";
import { dialSealed } from "../transport/sealed_dial.ts";
import { SealedScratch } from "../transport/sealed_link.ts";
import { dialSnitun } from "../transport/snitun.ts";
import type { Grant } from "./grant.ts";

/** How a session crosses the network. */
export type TransportName = "snitun" | "sealed" | "curve";

/** Where an agent keeps the key that it believed on first use, for edges whose key nobody names. */
export interface EdgePins {
  /** Where that is, for messages. */
  readonly place: string;
  /** The key of an edge, `HOST:PORT`; undefined where none is known. */
  read(edge: string): Promise<Bytes | undefined>;
  /** Keeps it. */
  write(edge: string, publicKey: Bytes): Promise<void>;
}

/** What a {@link Dialer} works with. */
export interface DialerOptions {
  /** The runtime below. */
  readonly runtime: Runtime;
  /** SniTun's queue figures; the reference's when absent. */
  readonly queueLimits?: QueueLimits;
  /** "snitun" when absent. */
  readonly transport?: TransportName;
  /** The build of libsodium for the sealed transport; native where it can be loaded when absent. */
  readonly libsodium?: Sodium["name"];
  /** The edge's public key for the sealed and the curve transport; the first that a grant names when absent. */
  readonly edgePublicKey?: Bytes;
  /** For the curve transport, where nobody names the edge's key; without it such a key is kept until the agent ends. */
  readonly edgePins?: EdgePins;
  /** How the curve transport finds its speed; "vegas" when absent. */
  readonly congestion?: CongestionName;
  /** Counts what the curve transport does. */
  readonly metrics?: Metrics;
}

/** Dials edges, with what all sessions of one agent share. */
export class Dialer {
  readonly #options: DialerOptions;
  readonly #snitun = new SendScratch();
  readonly #sealed = new SealedScratch();
  #crypto: Promise<{ sodium: Sodium; aeads: AeadChoice }> | undefined;
  #pinned: Bytes | undefined;
  #curveCrypto: Promise<CurveCrypto> | undefined;
  #curveLink: CurveLink | undefined;
  #curveSessions: CurveSessionsSource | undefined;
  /** Keys believed on first use, by edge. */
  readonly #believed = new Map<string, Bytes>();

  constructor(options: DialerOptions) {
    this.#options = options;
    this.#pinned = options.edgePublicKey;
  }

  /**
   * Opens a session. Rejects as {@link dialSnitun}, {@link dialSealed} or {@link dialForCurve} do, and with `edge_key_changed` where the
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
    if (transport === "curve") return await this.#dialCurve(grant, edge, signal, admitted);
    if (transport !== "sealed") {
      const { aesKey, aesIv, cipher, protocolVersion } = grant;
      return await dialSnitun({ ...shared, scratch: this.#snitun, aesKey, aesIv, cipher, protocolVersion });
    }
    const edgePublicKey = this.#pin(grant);
    this.#crypto ??= loadCrypto(this.#options.libsodium, this.#options.runtime);
    return await dialSealed({
      ...shared,
      ...await this.#crypto,
      scratch: this.#sealed,
      edgePublicKey,
      // A device without a battery starts in the past; no token comes from the future.
      unixSeconds: Math.max(Math.floor(runtime.clock.wallMs() / 1000), tokenMadeAtS(grant.token)),
    });
  }

  /** Whom to dial, by what the session master says. */
  edgeOf({ edge }: Grant): { readonly host: string; readonly port: number } {
    const port = this.#options.transport === "curve" ? edge.curvePort ?? edge.port : edge.port;
    return { host: edge.host, port };
  }

  /** The curve session's connection, to go on from another port; undefined before there is one. */
  get curveLink(): CurveLink | undefined {
    return this.#curveLink;
  }

  async #dialCurve(
    grant: Grant,
    edge: { readonly host: string; readonly port: number },
    signal: AbortSignal,
    admitted: (session: Session) => SessionHandler,
  ): Promise<Session> {
    const { runtime, congestion, edgePins } = this.#options;
    const name = `${edge.host}:${edge.port}`;
    const named = this.#options.edgePublicKey !== undefined || grant.edge.publicKey !== undefined;
    const believed = named ? undefined : this.#believed.get(name) ?? await edgePins?.read(name);
    this.#curveCrypto ??= loadCurveCrypto();
    let proved: Bytes | undefined;
    const { session, link } = await dialForCurve({
      runtime,
      ...edge,
      token: grant.token,
      signal,
      crypto: await this.#curveCrypto,
      edgePublicKey: named ? this.#pin(grant) : believed,
      congestion,
      edgeProved: (key) => void (proved = key.slice()),
      admitted: (session) => {
        this.#countCurve().add(session);
        return admitted(session);
      },
    }).catch((error) =>
      Promise.reject(believed === undefined ? error : this.#explain(error, name, believed))
    );
    this.#curveLink = link;
    // Kept only once the edge has let us in: who doesn't take our token isn't our edge.
    if (!named && believed === undefined && proved !== undefined) {
      this.#believed.set(name, proved);
      await edgePins?.write(name, proved).catch((error) => {
        session.close(new SallyportError("config_invalid", errorMessage(error), { side: "config" }));
        throw error;
      });
    }
    return session;
  }

  #countCurve(): CurveSessionsSource {
    if (this.#curveSessions === undefined) {
      this.#curveSessions = new CurveSessionsSource();
      this.#options.metrics?.curve.add(this.#curveSessions);
    }
    return this.#curveSessions;
  }

  #explain(error: unknown, edge: string, believed: Bytes): unknown {
    if (errorCode(error) !== "challenge_failed") return error;
    const place = this.#options.edgePins?.place ?? "this agent's memory";
    return new SallyportError(
      "edge_key_changed",
      `Cannot open session: the key of edge ${edge} isn't ${
        keyText(believed)
      }, which it had at first and which ` +
        `is kept in ${place}. If the edge was given a new key, remove that line; if not, somebody stands between`,
      { side: "config", retryable: true, cause: error },
    );
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

async function loadCrypto(
  build: Sodium["name"] | undefined,
  runtime: Runtime,
): Promise<{ sodium: Sodium; aeads: AeadChoice }> {
  const sodium = await loadSodium(build);
  return { sodium, aeads: chooseAeads(sodium, runtime) };
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
