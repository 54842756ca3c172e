/**
 * Congestion control as an interface.
 *
 * @module
 */
/** Controls to choose from. */
export const CONGESTION_NAMES = ["vegas", "newreno"] as const;
/** Name of a congestion control. */
export type CongestionName = typeof CONGESTION_NAMES[number];

/** What an ACK told. One object serves all calls: take what is needed. */
export interface AckInfo {
  nowMs: number;
  /** Newly acknowledged, of packets in flight. */
  bytes: number;
  packets: number;
  /** Highest number newly acknowledged, and the next to be sent. */
  largest: number;
  nextNumber: number;
  /** A round trip measured by this ACK without the peer's delay; NaN when there is none. */
  rttMs: number;
  /** In flight before this ACK. */
  inFlightBytes: number;
  /** The window, or its pacing, was what kept the sender from sending more. */
  limited: boolean;
}

/** What a detection of losses told. One object serves all calls. */
export interface LossInfo {
  nowMs: number;
  bytes: number;
  packets: number;
  /** Highest number lost, and the next to be sent. */
  largest: number;
  nextNumber: number;
  /** Nothing sent over more than three probe time-outs came through (RFC 9002, 7.6). */
  persistent: boolean;
}

/** A congestion control. No clock, no IO. */
export interface CongestionControl {
  readonly name: CongestionName;
  /** Bytes that may be in flight. */
  readonly windowBytes: number;
  /** Still looking for the path's capacity: pacing goes at twice the window a round trip. */
  readonly slowStart: boolean;
  onAck(info: AckInfo): void;
  onLoss(info: LossInfo): void;
  /** The size of datagrams has changed. */
  setDatagramBytes(size: number): void;
  /** Another path: nothing is known of it. */
  reset(): void;
}

/** Windows are never larger: what two windows of packets' bookkeeping must hold. */
export const WINDOW_MAX_BYTES = 16 * 1024 * 1024;
/** First window in packets (RFC 9002, 7.2). */
export const INITIAL_WINDOW_PACKETS = 10;
