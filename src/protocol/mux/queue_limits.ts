/**
 * Limits shared by the SniTun and credit dialects: frames, streams, and memory per session.
 *
 * @module
 */

import type { Patience } from "./heartbeat.ts";

/** Largest payload of a DATA frame that we send, and so the longest that another stream's frame waits for. */
export const FRAME_MAX_SEND_BYTES = 64 * 1024;
/**
 * Received bytes that one session may hold over all streams before it stops reading its socket: enough for a hundred
 * visitors that read nothing, each with what was in flight when it was paused.
 */
export const SESSION_RECEIVE_BUDGET_BYTES = 48 * 1024 * 1024;
/**
 * Bytes that one session may queue for sending; beyond it the stream that overflows is reset. Bun's sockets deliver up
 * to 512 KiB before they can be paused, and hundreds of visitors may be uploading when an agent's link stalls.
 */
export const SESSION_SEND_BUDGET_BYTES = 128 * 1024 * 1024;
/** A session is closed if its peer reads nothing for this long while bytes are waiting. */
export const SESSION_WRITE_STALL_MS = 90_000;
/** Maximum number of streams per session. */
export const STREAMS_PER_SESSION_MAX = 4_096;

/**
 * Session settings for operators: SniTun's per-stream queue limits, each with an environment variable named as in the
 * reference (see config.ts), and how soon a vanished peer is detected.
 */
export interface QueueLimits extends Patience {
  /** Received bytes not yet consumed; beyond this the stream is closed. */
  readonly incomingMaxBytes: number;
  /** The same for protocol version 0, which has no PAUSE. */
  readonly incomingMaxBytesV0: number;
  /** RESUME is sent at this level. */
  readonly incomingLowBytes: number;
  /** PAUSE is sent at this many received bytes not yet consumed. */
  readonly incomingHighBytes: number;
  /** Bytes written but not yet sent; beyond this the stream is reset. */
  readonly outgoingMaxBytes: number;
  /** `drain` is called at this level. */
  readonly outgoingLowBytes: number;
  /** `write` returns false at this level. */
  readonly outgoingHighBytes: number;
}

/** The reference's values (docs/protocols/snitun.md, Behaviour). */
export const DEFAULT_QUEUE_LIMITS: QueueLimits = {
  incomingMaxBytes: 65 * 1024 * 1024,
  incomingMaxBytesV0: 256 * 1024 * 1024,
  incomingLowBytes: 512 * 1024,
  incomingHighBytes: 2 * 1024 * 1024,
  outgoingMaxBytes: 12 * 1024 * 1024,
  outgoingLowBytes: 512 * 1024,
  outgoingHighBytes: 1 * 1024 * 1024,
};
