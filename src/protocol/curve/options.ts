/**
 * Options of curve connections, with defaults.
 *
 * @module
 */
import type { CongestionName } from "./congestion/congestion.ts";
import { CREDIT_STREAM_FIRST_BYTES } from "../mux/credit/windows.ts";
import type { Patience } from "../mux/heartbeat.ts";
import { SESSION_RECEIVE_BUDGET_BYTES } from "../mux/queue_limits.ts";
import type { StreamSetLimits } from "./streams/stream_set.ts";
import { DATAGRAM_MIN_BYTES } from "../../wire/curve/curve_packet.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

/** Options of a connection; durations in milliseconds, sizes in bytes. */
export interface CurveOptions extends StreamSetLimits {
  readonly congestion: CongestionName;
  /** Largest datagram to send and to accept, 1,088 to 16,384. */
  readonly maxDatagramBytes: number;
  /** The client sends something at least this often. */
  readonly keepAliveMs: number;
  /** A peer that is silent for this long is dead. */
  readonly idleTimeoutMs: number;
  /** Time allowed until the server admits the client. */
  readonly handshakeTimeoutMs: number;
}

/** The defaults (docs/protocols/curve.md). */
export const DEFAULT_CURVE_OPTIONS: CurveOptions = {
  congestion: "vegas",
  // Ethernet's 1500 less the IPv6 and UDP headers: passes unfragmented nearly everywhere.
  maxDatagramBytes: 1_452,
  // NATs forget UDP after 30 s at the earliest.
  keepAliveMs: 5_000,
  idleTimeoutMs: 15_000,
  handshakeTimeoutMs: 15_000,
  firstWindowBytes: CREDIT_STREAM_FIRST_BYTES,
  // A stream at 270 Mbit/s over 60 ms.
  windowBytes: 2 * MiB,
  connectionWindowBytes: SESSION_RECEIVE_BUDGET_BYTES,
  streamsMax: 4_096,
  sendHighBytes: 1 * MiB,
  sendLowBytes: 512 * KiB,
  sendMaxBytes: 12 * MiB,
};

/** How soon a vanished peer is detected, as options of a connection. */
export function curvePatience({ pingIntervalMs, silenceMaxMs }: Patience = {}): Partial<CurveOptions> {
  return {
    ...pingIntervalMs === undefined ? {} : { keepAliveMs: pingIntervalMs },
    ...silenceMaxMs === undefined ? {} : { idleTimeoutMs: silenceMaxMs },
  };
}

/** Largest datagram that any configuration allows. */
export const DATAGRAM_MAX_BYTES = 16_384;

/** Options with defaults filled in; datagram sizes are clamped to 1,088 to 16,384. */
export function curveOptions(options: Partial<CurveOptions> = {}): CurveOptions {
  const all = { ...DEFAULT_CURVE_OPTIONS, ...options };
  const maxDatagramBytes = Math.min(DATAGRAM_MAX_BYTES, Math.max(DATAGRAM_MIN_BYTES, all.maxDatagramBytes));
  const firstWindowBytes = Math.min(all.firstWindowBytes, all.windowBytes);
  return { ...all, maxDatagramBytes, firstWindowBytes };
}
