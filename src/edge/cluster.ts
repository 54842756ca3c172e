/**
 * The port from an edge to its cluster; `cluster/node.ts` implements it.
 *
 * @module
 */
import type { SessionClaim } from "../cluster/node.ts";
import type { Session } from "../transport/port.ts";

/** The other nodes, as an edge uses them. */
export interface EdgeCluster {
  /** No other node will take this one's agents over: all of them stop. */
  readonly last: boolean;
  /** Claims a session's names in the cluster. */
  register(claim: SessionClaim): void;
  /** The session serves its names no more. */
  release(session: string): void;
  /** A session in which a visitor of a name that no session here holds can be forwarded. */
  find(name: string): Session | undefined | Promise<Session | undefined>;
  /** Whether a node that stays holds a session's name too. */
  heldElsewhere?(session: string): Promise<boolean>;
  /** The other node turned out not to hold the name any more. */
  stale(name: string): void;
}
