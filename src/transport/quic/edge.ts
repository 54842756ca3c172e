/**
 * The edge's QUIC transport.
 *
 * @module
 */
import { isAlwaysValid } from "../../crypto/certificate.ts";
import { SallyportError } from "../../errors.ts";
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";
import type { QuicIdentity } from "../../runtime/quic_port.ts";
import type { EdgeTransport } from "../edge_transport.ts";
import { listenQuic } from "./accept.ts";
import { QUIC } from "./session.ts";

/** Options of {@link quicTransport}. */
export interface QuicTransportOptions {
  /**
   * The edge's certificate and key; agents pin its fingerprint. The certificate must be valid at any date, as
   * `makeCertificate({ validDays: "always", keyPem })` makes one for a key: Deno's agents judge a pinned one by its dates.
   */
  readonly identity: QuicIdentity;
  /** Queue limits of its sessions. Defaults apply when absent. */
  readonly queueLimits?: QueueLimits;
}

/**
 * Accepts agents over the runtime's QUIC, on its own UDP sockets. Listening rejects with `config_invalid` if agents would
 * refuse the certificate at some date.
 */
export function quicTransport(options: QuicTransportOptions): EdgeTransport {
  return {
    name: QUIC,
    async listen(address, { runtime, admission }) {
      assertUndated(options.identity);
      return await listenQuic({ ...options, ...address, runtime, admission });
    },
  };
}

function assertUndated({ certificatePem }: QuicIdentity): void {
  if (isAlwaysValid(certificatePem)) return;
  const why =
    "Cannot listen for QUIC agents: the certificate isn't valid from 1970 to 9999, and agents on Deno " +
    'judge even a pinned one by its dates; makeCertificate({ validDays: "always", keyPem }) makes one for the same key';
  throw new SallyportError("config_invalid", why, { side: "config" });
}
