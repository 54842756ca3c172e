/**
 * The QUIC transport as an edge has it.
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
  /** Queue figures of its sessions; the defaults when absent. */
  readonly queueLimits?: QueueLimits;
}

/** Lets agents in over the runtime's QUIC, at UDP sockets of its own. */
export function quicTransport(options: QuicTransportOptions): EdgeTransport {
  return {
    name: QUIC,
    listen: (address, { runtime, admission }) => listenQuic({ ...options, ...address, runtime, admission }),
  };
}
