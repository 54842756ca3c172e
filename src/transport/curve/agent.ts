/**
 * Dials edges with the curve transport, over UDP.
 *
 * @module
 */
import { curvePatience } from "../../protocol/curve/options.ts";
import type { Bytes } from "../../bytes/bytes.ts";
import { loadSodium, type Sodium } from "../../crypto/sodium.ts";
import type { DialledConnection } from "./socket_dialer.ts";
import { errorCode, errorMessage, SallyportError } from "../../errors.ts";
import type { Address } from "../../runtime/port.ts";
import { CurveMetrics, CurveSessionsSource } from "./metrics.ts";
import type { CurveSession } from "./session.ts";
import type { Session } from "../port.ts";
import type { Grant } from "../grant.ts";
import { keyText } from "../edge_key.ts";
import type { DialerParts, DialRequest, TransportDialer } from "../agent_transport.ts";

/** See `dialCurve`, which is loaded when first used; also rejects with `edge_key_changed` if the key differs from the pinned one. */
export class CurveDialer implements TransportDialer {
  readonly overUdp = true;
  readonly #parts: DialerParts;
  /** Keys trusted on first use, by edge. */
  readonly #believed = new Map<string, Bytes>();
  #crypto: Promise<Sodium> | undefined;
  #connection: DialledConnection | undefined;
  #sessions: CurveSessionsSource | undefined;

  constructor(parts: DialerParts) {
    this.#parts = parts;
    parts.metrics?.group(CurveMetrics);
  }

  /** The last session's connection, for rebinding to another port; undefined before the first. */
  get connection(): DialledConnection | undefined {
    return this.#connection;
  }

  edgeOf({ edge }: Grant): Address {
    return { host: edge.host, port: edge.curvePort ?? edge.port };
  }

  async dial({ grant, edge, address, ...request }: DialRequest): Promise<Session> {
    const { runtime, congestion, queueLimits, edgeKey, edgePins, libsodium } = this.#parts;
    const { dialCurve } = await import("./dial.ts");
    const name = `${edge.host}:${edge.port}`;
    const named = edgeKey.named(grant);
    const believed = named ? undefined : this.#believed.get(name) ?? await edgePins?.read(name);
    this.#crypto ??= loadSodium(libsodium);
    let proved: Bytes | undefined;
    const { session, connection } = await dialCurve({
      ...request,
      ...edge,
      host: address ?? edge.host,
      runtime,
      token: grant.token,
      aesKey: grant.aesKey,
      crypto: await this.#crypto,
      edgePublicKey: named ? edgeKey.pin(grant) : believed,
      congestion,
      options: curvePatience(queueLimits),
      edgeProved: (key) => void (proved = key.slice()),
      admitted: (session) => {
        this.#count().add(session as CurveSession);
        return request.admitted(session);
      },
    }).catch((error) =>
      Promise.reject(believed === undefined ? error : this.#explain(error, name, believed))
    );
    this.#connection = connection;
    // Pinned only once the edge has admitted us: an edge that refuses our token may be a stranger's.
    if (!named && believed === undefined && proved !== undefined) {
      this.#believed.set(name, proved);
      await edgePins?.write(name, proved).catch((error) => {
        session.close(new SallyportError("config_invalid", errorMessage(error), { side: "config" }));
        throw error;
      });
    }
    return session;
  }

  #count(): CurveSessionsSource {
    if (this.#sessions === undefined) {
      this.#sessions = new CurveSessionsSource();
      this.#parts.metrics?.group(CurveMetrics).add(this.#sessions);
    }
    return this.#sessions;
  }

  #explain(error: unknown, edge: string, believed: Bytes): unknown {
    if (errorCode(error) !== "challenge_failed") return error;
    const place = this.#parts.edgePins?.place ?? "this agent's memory";
    return new SallyportError(
      "edge_key_changed",
      `Cannot open session: the key of edge ${edge} is no longer ${
        keyText(believed)
      }, as stored in ${place}. If the ` +
        "edge has a new key, remove that line; if not, someone may be intercepting the connection",
      { side: "config", retryable: true, cause: error },
    );
  }
}
