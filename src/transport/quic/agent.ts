/**
 * Dials edges with the QUIC transport, over UDP.
 *
 * @module
 */
import { fingerprintText } from "../../crypto/certificate.ts";
import { errorCode, errorMessage, SallyportError } from "../../errors.ts";
import type { Address } from "../../runtime/port.ts";
import type { Session } from "../port.ts";
import type { Grant } from "../grant.ts";
import { EdgeKey } from "../edge_key.ts";
import type { DialerParts, DialRequest, TransportDialer } from "../agent_transport.ts";

/**
 * See `dialQuic`, which is loaded when first used; also rejects as {@link EdgeKey.pin} throws, and with `edge_key_changed` if the edge presents a
 * certificate other than the pinned one.
 */
export class QuicDialer implements TransportDialer {
  readonly overUdp = true;
  readonly #parts: DialerParts;
  readonly #certificate: EdgeKey;

  constructor(parts: DialerParts) {
    this.#parts = parts;
    this.#certificate = new EdgeKey(parts.edgeCertificateFingerprint, {
      name: "certificate",
      flag: "--edge-certificate-fingerprint",
      of: (grant) => grant.edge.certificateFingerprint,
      text: fingerprintText,
    });
  }

  edgeOf({ edge }: Grant): Address {
    return { host: edge.host, port: edge.quicPort ?? edge.port };
  }

  async dial({ grant, edge, address, ...request }: DialRequest): Promise<Session> {
    const { runtime, queueLimits } = this.#parts;
    const { dialQuic } = await import("./dial.ts");
    const edgeFingerprint = this.#certificate.pin(grant);
    try {
      return await dialQuic({
        ...request,
        ...edge,
        host: address ?? edge.host,
        runtime,
        queueLimits,
        token: grant.token,
        aesKey: grant.aesKey,
        edgeFingerprint,
      });
    } catch (cause) {
      if (errorCode(cause) !== "certificate_refused") throw cause;
      throw new SallyportError(
        "edge_key_changed",
        `Cannot open session: edge ${edge.host}:${edge.port} doesn't show the certificate ` +
          `${fingerprintText(edgeFingerprint)} (${errorMessage(cause)}). If it has a new one, give ` +
          "its fingerprint, or restart the agent; if not, someone may be intercepting the connection",
        { side: "config", retryable: true, cause },
      );
    }
  }
}
