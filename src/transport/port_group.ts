/**
 * The processes of one machine that share a UDP port: the workers of an edge (docs/protocols/cluster.md, Workers).
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";

/** Bytes of {@link PortGroup.secret}. */
export const GROUP_SECRET_BYTES = 32;

/** A process that shares the port. */
export interface PortMember {
  /** Unique among the members, below 65,536. */
  readonly number: number;
  /** UDP port of the loopback address to which other members pass packets. */
  readonly relayPort: number;
  /** False if it takes no new connections because it is about to stop. */
  readonly accepting: boolean;
}

/** This process's place among those that share its UDP ports. */
export interface PortGroup {
  /** This process's number. */
  readonly number: number;
  /** Known to the members only. */
  readonly secret: Bytes;
  /**
   * Enters the group of a port. `changed` is called with all members before this resolves, and after every change.
   *
   * @param name names the port in all processes
   */
  join(name: string, relayPort: number, changed: (members: readonly PortMember[]) => void): Promise<void>;
}
