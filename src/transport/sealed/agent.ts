/**
 * Dials edges with the sealed transport, over TCP.
 *
 * @module
 */
import { type AeadChoice, chooseAeads } from "../../crypto/aead.ts";
import { loadSodium, type Sodium } from "../../crypto/sodium.ts";
import type { Address, Runtime } from "../../runtime/port.ts";
import type { Session } from "../port.ts";
import { dialSealed } from "./dial.ts";
import { SealedScratch } from "./session.ts";
import { tokenMadeAtS } from "../../protocol/token/token.ts";
import type { Grant } from "../grant.ts";
import type { DialerParts, DialRequest, TransportDialer } from "../agent_transport.ts";

/** See {@link dialSealed}; also rejects as {@link EdgeKey.pin} throws. */
export class SealedDialer implements TransportDialer {
  readonly overUdp = false;
  readonly #parts: DialerParts;
  readonly #scratch: SealedScratch;
  #crypto: Promise<{ sodium: Sodium; aeads: AeadChoice }> | undefined;

  constructor(parts: DialerParts) {
    this.#parts = parts;
    this.#scratch = new SealedScratch(parts.runtime.memory);
  }

  edgeOf({ edge }: Grant): Address {
    return { host: edge.host, port: edge.port };
  }

  async dial({ grant, edge, ...request }: DialRequest): Promise<Session> {
    const { runtime, queueLimits, libsodium, edgeKey } = this.#parts;
    const edgePublicKey = edgeKey.pin(grant);
    this.#crypto ??= loadCrypto(libsodium, runtime);
    return await dialSealed({
      ...request,
      ...edge,
      ...await this.#crypto,
      runtime,
      clock: runtime.clock,
      queueLimits,
      scratch: this.#scratch,
      token: grant.token,
      aesKey: grant.aesKey,
      edgePublicKey,
      // A device without a battery-backed clock boots with a date in the past: the master's clock is used, and no token
      // is issued in the future.
      unixSeconds: Math.max(
        Math.floor((runtime.clock.wallMs() + (grant.clockOffsetMs ?? 0)) / 1000),
        tokenMadeAtS(grant.token),
      ),
    });
  }
}

async function loadCrypto(
  build: Sodium["name"] | undefined,
  runtime: Runtime,
): Promise<{ sodium: Sodium; aeads: AeadChoice }> {
  const sodium = await loadSodium(build);
  return { sodium, aeads: chooseAeads(sodium, runtime) };
}
