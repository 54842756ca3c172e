/**
 * Dials edges with SniTun over TCP.
 *
 * @module
 */
import { type HeaderLibrary, headerLibrary } from "../../crypto/header_cipher.ts";
import { SendScratch } from "../../protocol/mux/snitun/sender.ts";
import type { Address } from "../../runtime/port.ts";
import type { Session } from "../port.ts";
import { dialSnitun } from "./dial.ts";
import type { Grant } from "../grant.ts";
import type { DialerParts, DialRequest, TransportDialer } from "../agent_transport.ts";

/** See {@link dialSnitun}. */
export class SnitunDialer implements TransportDialer {
  readonly overUdp = false;
  readonly #parts: DialerParts;
  readonly #scratch: SendScratch;
  readonly #library: HeaderLibrary;

  constructor(parts: DialerParts) {
    this.#parts = parts;
    this.#scratch = new SendScratch(parts.runtime.memory);
    this.#library = headerLibrary(parts.runtime.systemCiphers());
  }

  edgeOf({ edge }: Grant): Address {
    return { host: edge.host, port: edge.port };
  }

  dial({ grant, edge, ...request }: DialRequest): Promise<Session> {
    const { runtime, queueLimits } = this.#parts;
    const { token, aesKey, aesIv, cipher, protocolVersion } = grant;
    return dialSnitun({
      ...request,
      ...edge,
      runtime,
      clock: runtime.clock,
      queueLimits,
      scratch: this.#scratch,
      library: this.#library,
      token,
      aesKey,
      aesIv,
      cipher,
      protocolVersion,
    });
  }
}
