/**
 * What both ends of the QUIC transport share: its names, and what a session is made of.
 *
 * @module
 */
import type { BlockPool } from "../../bytes/block_pool.ts";
import type { Role } from "../../crypto/header_cipher.ts";
import type { ByteStream, Clock } from "../../runtime/port.ts";
import type { QuicConn } from "../../runtime/quic_port.ts";
import type { Filler } from "../../wire/snitun/snitun_frame.ts";
import type { QueueLimits } from "../../protocol/mux/queue_limits.ts";

/** The application protocol; its number is the transport's version. */
export const QUIC_ALPN = "sallyport/1";
/** The transport's name in logs and metrics, and its cipher's. */
export const QUIC = "quic";
export const QUIC_CIPHER = "tls-1.3";

/** The parts of a {@link QuicSession}. */
export interface QuicSessionOptions {
  readonly role: Role;
  readonly conn: QuicConn;
  /** The control stream, behind login and verdict. */
  readonly control: ByteStream;
  readonly clock: Clock;
  readonly random: Filler;
  /** The blocks of the streams' queues. */
  readonly blocks: BlockPool;
  readonly queueLimits?: QueueLimits;
  /** Received bytes that the session may hold; `SESSION_RECEIVE_BUDGET_BYTES` when absent. */
  readonly receiveBudgetBytes?: number;
  /** At an agent: from so many QUIC streams of the edge's on, it is offered some of the agent's. */
  readonly offerFrom?: number;
}
