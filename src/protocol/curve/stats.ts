/**
 * Counters of one connection, and their sum over many.
 *
 * @module
 */

/** Plain counters, only ever rising. */
export class CurveStats {
  packetsSent = 0;
  packetsReceived = 0;
  bytesSent = 0;
  bytesReceived = 0;
  /** Packets given up, and of those the ones that came through after all. */
  packetsLost = 0;
  lateAcks = 0;
  /** Bytes of streams sent more than once. */
  bytesResent = 0;
  /** Probe time-outs. */
  probes = 0;
  /** Packets whose number was seen before or is too old. */
  replays = 0;
  /** Packets that didn't open. */
  forgeries = 0;
  /** STREAM frames that brought nothing new. */
  duplicates = 0;
  /** Packets that came behind a later one. */
  reordered = 0;
  pathMoves = 0;
  streamsOpened = 0;

  /** Adds another connection's counters to these. */
  add(other: CurveStats): void {
    for (const name of COUNTER_NAMES) this[name] += other[name];
  }
}

/** Names of the counters of {@link CurveStats}. */
export const COUNTER_NAMES = [
  "packetsSent",
  "packetsReceived",
  "bytesSent",
  "bytesReceived",
  "packetsLost",
  "lateAcks",
  "bytesResent",
  "probes",
  "replays",
  "forgeries",
  "duplicates",
  "reordered",
  "pathMoves",
  "streamsOpened",
] as const;

/** How a connection does now. */
export interface CurveGauges {
  readonly rttLastMs: number;
  readonly rttMinMs: number;
  readonly rttSmoothedMs: number;
  readonly windowBytes: number;
  readonly inFlightBytes: number;
  readonly datagramBytes: number;
  readonly streams: number;
}

/** Counters of a server besides those of its connections. */
export class CurveServerStats {
  hellos = 0;
  cookiesIssued = 0;
  /** INITs whose cookie was forged, expired or foreign. */
  cookiesRefused = 0;
  /** INITs with a good cookie that weren't genuine, or came when no more connections are taken. */
  initsRefused = 0;
  /** INITs of connections that are or were there. */
  initsRepeated = 0;
  /** Datagrams that are no packet of this protocol, or of no connection. */
  strays = 0;
  connectionsOpened = 0;
  connectionsClosed = 0;
}
