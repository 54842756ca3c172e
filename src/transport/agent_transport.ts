/**
 * The port of an agent's transports: how a session comes about over one of them. Each transport has one small dialer, in
 * its folder; an agent has a table of them.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import type { Sodium } from "../crypto/sodium.ts";
import type { CongestionName } from "../protocol/curve/congestion/congestion.ts";
import type { Address, Runtime } from "../runtime/port.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Session, SessionHandler } from "./port.ts";
import type { Grant } from "./grant.ts";
import type { EdgeKey } from "./edge_key.ts";
import type { QueueLimits } from "../protocol/mux/queue_limits.ts";

/** Where an agent keeps the key that it believed on first use, for edges whose key nobody names. */
export interface EdgePins {
  /** Where that is, for messages. */
  readonly place: string;
  /** The key of an edge, `HOST:PORT`; undefined where none is known. */
  read(edge: string): Promise<Bytes | undefined>;
  /** Keeps it. */
  write(edge: string, publicKey: Bytes): Promise<void>;
}

/** What dialers work with. */
export interface DialerOptions {
  /** The runtime below. */
  readonly runtime: Runtime;
  /** SniTun's queue figures; the reference's when absent. */
  readonly queueLimits?: QueueLimits;
  /** The build of libsodium for the sealed and the curve transport; native where it can be loaded when absent. */
  readonly libsodium?: Sodium["name"];
  /** The edge's public key for the sealed and the curve transport; the first that a grant names when absent. */
  readonly edgePublicKey?: Bytes;
  /** SHA-256 of the edge's certificate for the QUIC transport; the first that a grant names when absent. */
  readonly edgeCertificateFingerprint?: Bytes;
  /** For the curve transport, where nobody names the edge's key; without it such a key is kept until the agent ends. */
  readonly edgePins?: EdgePins;
  /** How the curve transport finds its speed; "vegas" when absent. */
  readonly congestion?: CongestionName;
  /** Counts what the curve transport does. */
  readonly metrics?: Metrics;
}

/** The same, with what the dialers of one agent share. */
export interface DialerParts extends DialerOptions {
  /** The edge's public key. */
  readonly edgeKey: EdgeKey;
}

/** One attempt to open a session. */
export interface DialRequest {
  /** The token and what belongs to it; no other attempt uses it. */
  readonly grant: Grant;
  /** Whom to dial. */
  readonly edge: Address;
  /** The one of its addresses to use; the transport's choice when absent. */
  readonly address?: string;
  /** Gives up when it is aborted: the promise rejects with its reason, and nothing stays behind. */
  readonly signal: AbortSignal;
  /**
   * Awaited when all is there to show the token, and before that is done: only one of several attempts is to
   * authenticate. Rejects where another one has. At once when absent.
   */
  turn?(): Promise<void>;
  /** The edge has let us in; gives the session's handler. */
  admitted(session: Session): SessionHandler;
}

/** Dials edges over one transport, with what all its sessions of one agent share. */
export interface TransportDialer {
  /** It uses UDP, which some networks drop. */
  readonly overUdp: boolean;
  /** Whom to dial, by what the session master says. */
  edgeOf(grant: Grant): Address;
  /** Opens a session; rejects as the transport does. */
  dial(request: DialRequest): Promise<Session>;
}
