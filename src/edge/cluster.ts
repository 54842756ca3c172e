/**
 * The port from an edge to its cluster; `cluster/node.ts` implements it.
 *
 * @module
 */
import type { SessionClaim } from "../cluster/node.ts";
import type { Session } from "../transport/port.ts";

/** The other nodes, as seen by an edge. */
export interface EdgeCluster {
  /** No other node will take over this one's agents: all of them are stopping. */
  readonly last: boolean;
  /** Claims a session's names in the cluster. */
  register(claim: SessionClaim): void;
  /** The session no longer serves its names. */
  release(session: string): void;
  /** Finds a session through which to forward a visitor of a name that no local session holds. */
  find(name: string): Session | undefined | Promise<Session | undefined>;
  /** Whether a node that isn't draining also holds a session's name. */
  heldElsewhere?(session: string): Promise<boolean>;
  /** The other node turned out to no longer hold the name. */
  stale(name: string): void;
}
