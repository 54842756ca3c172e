/**
 * The interface of congestion controls.
 *
 * @module
 */
/** Available congestion controls. */
export const CONGESTION_NAMES = ["vegas", "newreno"] as const;
/** Name of a congestion control. */
export type CongestionName = typeof CONGESTION_NAMES[number];

/** The effects of an ACK. One object is reused for all calls: copy what is needed. */
export interface AckInfo {
  nowMs: number;
  /** Newly acknowledged bytes of packets in flight. */
  bytes: number;
  packets: number;
  /** Highest packet number newly acknowledged, and the next to be sent. */
  largest: number;
  nextNumber: number;
  /** Round trip measured by this ACK, less the peer's delay; NaN if there is none. */
  rttMs: number;
  /** Bytes in flight before this ACK. */
  inFlightBytes: number;
  /** The sender was limited by the window or its pacing. */
  limited: boolean;
}

/** The result of loss detection. One object is reused for all calls. */
export interface LossInfo {
  nowMs: number;
  bytes: number;
  packets: number;
  /** Highest packet number lost, and the next to be sent. */
  largest: number;
  nextNumber: number;
  /** Nothing sent over more than three probe time-outs arrived (RFC 9002, 7.6). */
  persistent: boolean;
}

/** A congestion control. No clock, no IO. */
export interface CongestionControl {
  readonly name: CongestionName;
  /** Bytes that may be in flight. */
  readonly windowBytes: number;
  /** Still probing for the path's capacity: pacing runs at twice the window per round trip. */
  readonly slowStart: boolean;
  onAck(info: AckInfo): void;
  onLoss(info: LossInfo): void;
  /** The size of datagrams has changed. */
  setDatagramBytes(size: number): void;
  /** The path has changed: resets all state. */
  reset(): void;
}

/** Maximum window; the packet records must hold two such windows. */
export const WINDOW_MAX_BYTES = 16 * 1024 * 1024;
/** First window in packets (RFC 9002, 7.2). */
export const INITIAL_WINDOW_PACKETS = 10;
