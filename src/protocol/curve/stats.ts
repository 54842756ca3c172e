/**
 * Counters of one connection, and their sum over many.
 *
 * @module
 */

/** Monotonic counters. */
export class CurveStats {
  packetsSent = 0;
  packetsReceived = 0;
  bytesSent = 0;
  bytesReceived = 0;
  /** Packets declared lost, and those of them that were acknowledged after all. */
  packetsLost = 0;
  lateAcks = 0;
  /** Stream bytes retransmitted. */
  bytesResent = 0;
  /** Probe time-outs. */
  probes = 0;
  /** Packets whose number was already seen or is too old. */
  replays = 0;
  /** Packets that failed to decrypt. */
  forgeries = 0;
  /** STREAM frames without new data. */
  duplicates = 0;
  /** Packets that arrived after a later one. */
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

/** Current state of a connection. */
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
  /** INITs with a valid cookie that were forged, or arrived when no more connections were accepted. */
  initsRefused = 0;
  /** INITs of existing or ended connections. */
  initsRepeated = 0;
  /** Datagrams that aren't packets of this protocol, or belong to no connection. */
  strays = 0;
  connectionsOpened = 0;
  connectionsClosed = 0;
  /** Datagrams passed to another worker that shares the port. */
  passed = 0;
}
