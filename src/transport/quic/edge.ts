/**
 * The edge's QUIC transport.
 *
 * @module
 */
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";
import type { QuicIdentity } from "../../runtime/quic_port.ts";
import type { EdgeTransport } from "../edge_transport.ts";
import { listenQuic } from "./accept.ts";
import { QUIC } from "./session.ts";

/** Options of {@link quicTransport}. */
export interface QuicTransportOptions {
  /** The edge's certificate and key; agents pin its fingerprint. */
  readonly identity: QuicIdentity;
  /** Queue limits of its sessions. Defaults apply when absent. */
  readonly queueLimits?: QueueLimits;
}

/** Accepts agents over the runtime's QUIC, on its own UDP sockets. */
export function quicTransport(options: QuicTransportOptions): EdgeTransport {
  return {
    name: QUIC,
    listen: (address, { runtime, admission }) => listenQuic({ ...options, ...address, runtime, admission }),
  };
}
