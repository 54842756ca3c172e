/**
 * The port of an agent's transports, which open sessions. Each transport has one small dialer in its folder; an agent
 * has a table of them.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { Sodium } from "../crypto/sodium.ts";
import type { CongestionName } from "../protocol/curve/congestion/congestion.ts";
import type { Address, AddressJudge, Runtime } from "../runtime/port.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Session, SessionHandler } from "./port.ts";
import type { Grant } from "./grant.ts";
import type { EdgeKey } from "./edge_key.ts";
import type { QueueLimits } from "../protocol/mux/queue_limits.ts";

/** Store for edge keys trusted on first use, for edges whose key isn't configured or granted. */
export interface EdgePins {
  /** The store's location, for messages. */
  readonly place: string;
  /** The stored key of an edge, `HOST:PORT`; undefined if none. */
  read(edge: string): Promise<Bytes | undefined>;
  /** Stores the key. */
  write(edge: string, publicKey: Bytes): Promise<void>;
}

/** Options of dialers. */
export interface DialerOptions {
  /** The runtime. */
  readonly runtime: Runtime;
  /** SniTun's queue limits. Defaults to the reference implementation's. */
  readonly queueLimits?: QueueLimits;
  /** The libsodium build for the sealed and the curve transport. Defaults to native where it can be loaded. */
  readonly libsodium?: Sodium["name"];
  /** The edge's public key for the sealed and the curve transport. Defaults to the first one a grant names. */
  readonly edgePublicKey?: Bytes;
  /** SHA-256 of the edge's certificate for the QUIC transport. Defaults to the first one a grant names. */
  readonly edgeCertificateFingerprint?: Bytes;
  /** For the curve transport, when the edge's key isn't given; if absent, such a key is kept until the agent exits. */
  readonly edgePins?: EdgePins;
  /** Congestion control of the curve transport. Defaults to "vegas". */
  readonly congestion?: CongestionName;
  /** Metrics of the curve transport. */
  readonly metrics?: Metrics;
}

/** {@link DialerOptions}, plus state shared by the dialers of one agent. */
export interface DialerParts extends DialerOptions {
  /** The edge's public key. */
  readonly edgeKey: EdgeKey;
}

/** One attempt to open a session. */
export interface DialRequest {
  /** The token and its content; not used by any other attempt. */
  readonly grant: Grant;
  /** The edge to dial. */
  readonly edge: Address;
  /** Which of its addresses to use. Defaults to the transport's choice. */
  readonly address?: string;
  /** Which addresses of the edge's name may be dialled. Defaults to all. */
  readonly permits?: AddressJudge | undefined;
  /** Aborts the attempt: the promise rejects with the signal's reason and all resources are released. */
  readonly signal: AbortSignal;
  /**
   * Awaited just before the token is sent, so that only one of several parallel attempts authenticates. Rejects if
   * another one has. If absent, the token is sent at once.
   */
  turn?(): Promise<void>;
  /** The edge has admitted us; returns the session's handler. */
  admitted(session: Session): SessionHandler;
}

/** Dials edges over one transport; holds state shared by all its sessions of one agent. */
export interface TransportDialer {
  /** Whether it uses UDP, which some networks drop. */
  readonly overUdp: boolean;
  /** The edge to dial, from the session master's grant. */
  edgeOf(grant: Grant): Address;
  /** Opens a session; rejects as the transport does. */
  dial(request: DialRequest): Promise<Session>;
}
