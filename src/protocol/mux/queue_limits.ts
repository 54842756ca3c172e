/**
 * Limits that the SniTun and the credit dialect share: frames, streams, and what a session may hold.
 *
 * @module
 */

import type { Patience } from "./heartbeat.ts";

/** Largest payload of a DATA frame that we send: what a neighbour waits for at most. */
export const FRAME_MAX_SEND_BYTES = 64 * 1024;
/** What one session may hold of received bytes, over all streams, before its socket isn't read any more. */
export const SESSION_RECEIVE_BUDGET_BYTES = 32 * 1024 * 1024;
/**
 * What one session may hold of bytes to send; beyond it the stream that overflows is reset. Bun's sockets bring up to
 * 512 KiB before they can be paused, and some hundreds of visitors may be uploading when an agent's link stalls.
 */
export const SESSION_SEND_BUDGET_BYTES = 128 * 1024 * 1024;
/** A session whose peer reads nothing for this long, with bytes waiting, is closed. */
export const SESSION_WRITE_STALL_MS = 90_000;
/** Streams of one session. */
export const STREAMS_PER_SESSION_MAX = 4_096;

/**
 * What an operator sets of sessions: SniTun's queue figures, per stream, each with an environment variable of the
 * reference's name (see config.ts), and how soon a vanished peer is found.
 */
export interface QueueLimits extends Patience {
  /** Received and not yet taken; beyond it the stream is closed. */
  readonly incomingMaxBytes: number;
  /** The same for protocol version 0, which has no PAUSE. */
  readonly incomingMaxBytesV0: number;
  /** RESUME is sent at this much. */
  readonly incomingLowBytes: number;
  /** PAUSE is sent at this much received and not yet taken. */
  readonly incomingHighBytes: number;
  /** Written and not yet sent; beyond it the stream is reset. */
  readonly outgoingMaxBytes: number;
  /** `drain` comes at this much. */
  readonly outgoingLowBytes: number;
  /** `write` says false at this much. */
  readonly outgoingHighBytes: number;
}

/** The reference's figures (docs/protocols/snitun.md, Behaviour). */
export const DEFAULT_QUEUE_LIMITS: QueueLimits = {
  incomingMaxBytes: 65 * 1024 * 1024,
  incomingMaxBytesV0: 256 * 1024 * 1024,
  incomingLowBytes: 512 * 1024,
  incomingHighBytes: 2 * 1024 * 1024,
  outgoingMaxBytes: 12 * 1024 * 1024,
  outgoingLowBytes: 512 * 1024,
  outgoingHighBytes: 1 * 1024 * 1024,
};
