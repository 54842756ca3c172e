/**
 * The directory port: the nodes of a cluster, and which of them holds which hostname (docs/protocols/cluster.md). An
 * implementation decides every claim atomically, so that a name never has holders from two groups.
 *
 * @module
 */

/** A node that has not renewed its lease for this long is considered dead, and its claims are void. */
export const NODE_LEASE_MS = 10_000;
/** Interval at which a node renews its lease; two attempts may fail. */
export const NODE_RENEW_MS = 3_000;

/** How agents reach an edge; keys are base64url. */
export interface EdgeOffer {
  /** A name or an IP address. */
  readonly host: string;
  readonly port: number;
  /** Public key for the sealed and the curve transport. */
  readonly publicKey?: string;
  readonly curvePort?: number;
  readonly quicPort?: number;
  /** SHA-256 of its certificate for QUIC. */
  readonly certificateFingerprint?: string;
}

/** A node, as the other nodes see it. */
export interface NodeRecord {
  /** Identifies this run of the node's process: 128 random bits in hexadecimal. A restart gets a new id. */
  readonly id: string;
  /** Address for links from other nodes: `HOST:PORT`, or `unix:/path` if all of them are on one machine. */
  readonly address: string;
  /** Its public key for links between machines, base64url; absent if all nodes are on one machine. */
  readonly publicKey?: string;
  /** Identifies its machine if several nodes run on it: those reach each other at `socket`. */
  readonly machine?: string;
  /** The path of its Unix socket. */
  readonly socket?: string;
  /** Identifies the cluster's key: nodes with a different key cannot link to this one. */
  readonly keyId?: string;
  /** The newest version of the link protocol that it supports. */
  readonly version: number;
  /** Its region, as named by the operator. */
  readonly region?: string;
  /** How agents reach its edge, if the session master may send agents to it. */
  readonly offer?: EdgeOffer;
  /** Number of agent sessions it holds; the session master prefers nodes with few. */
  readonly sessions: number;
  /** True if it accepts no new agents because it is about to stop. */
  readonly draining: boolean;
}

/** A session's claim to a name. */
export interface RouteClaim {
  /** The hostname or wildcard, canonical. */
  readonly name: string;
  /** The hostname of the token: only sessions of the same owner may share a name or take it over from each other. */
  readonly owner: string;
  /** Sessions of one group share a name: those of one agent at two nodes, or of agents that share a name. */
  readonly group: string;
  /** The member of the group: a newer session of the same member replaces the older. */
  readonly member?: string;
  /** When the session's token was made, in Unix milliseconds: a newer group replaces an older one. */
  readonly madeAtMs: number;
  /** The node that holds the session. */
  readonly node: string;
  /** Identifies the session: unique in the cluster. */
  readonly session: string;
}

/** A claim that was granted. */
export interface RouteHolder extends RouteClaim {
  /** Increases with every claim granted in the cluster. If two holders conflict, the larger number wins. */
  readonly fence: number;
}

/** The answer to a claim. */
export type ClaimOutcome =
  | {
    readonly kind: "granted";
    readonly fence: number;
    /** Holders from older groups, or of the same member, which no longer hold the name. */
    readonly replaced: readonly RouteHolder[];
  }
  | {
    readonly kind: "refused";
    /** `name_taken`: another owner holds the name. `replaced`: a newer group of the same owner holds it. */
    readonly reason: "name_taken" | "replaced";
    readonly holder: RouteHolder;
  };

/**
 * A change, as reported to a watcher. Changes may be missed: watching keeps caches fresh, it does not make them
 * correct.
 */
export type DirectoryChange =
  | { readonly kind: "claimed"; readonly holder: RouteHolder; readonly replaced: readonly RouteHolder[] }
  | { readonly kind: "released"; readonly name: string; readonly session: string }
  | { readonly kind: "node_left"; readonly node: string }
  /** Changes may have been missed: all cached entries are suspect. */
  | { readonly kind: "reconnected" };

/** The directory of one cluster. Methods reject with `io_failed` if the store is unavailable. */
export interface Directory {
  /** Adds or renews a node with a lease of {@link NODE_LEASE_MS}. "entered": it was unknown and has no claims. */
  enter(node: NodeRecord): Promise<"entered" | "renewed">;
  /** Removes a node with all its claims. */
  leave(node: string): Promise<void>;
  /** The nodes whose lease has not expired. */
  nodes(): Promise<readonly NodeRecord[]>;
  /**
   * Decides a claim. Repeating a claim with the same session is harmless and confirms it; watchers are not notified,
   * because every node confirms all of its claims from time to time.
   */
  claim(claim: RouteClaim): Promise<ClaimOutcome>;
  /** Gives up a name, if this session still holds it. */
  release(name: string, session: string): Promise<void>;
  /** The live holders of a name, largest fence first. */
  lookup(name: string): Promise<readonly RouteHolder[]>;
  /** Calls `listener` for changes until the returned function is called. */
  watch(listener: (change: DirectoryChange) => void): () => void;
  /** Disconnects from the store; leases expire on their own. */
  close(): Promise<void>;
}

/** Decides a claim against the live holders of its name: the rule that every implementation follows. */
export function decideClaim(
  claim: RouteClaim,
  living: readonly RouteHolder[],
): {
  readonly refusal: Extract<ClaimOutcome, { kind: "refused" }> | undefined;
  readonly replaced: RouteHolder[];
} {
  const replaced: RouteHolder[] = [];
  for (const holder of living) {
    if (holder.session === claim.session) continue;
    if (holder.owner !== claim.owner) {
      return { refusal: { kind: "refused", reason: "name_taken", holder }, replaced: [] };
    }
    // Sessions of one group coexist, but each member has only one session.
    if (holder.group === claim.group && (claim.member === undefined || holder.member !== claim.member)) {
      continue;
    }
    if (holder.madeAtMs > claim.madeAtMs) {
      return { refusal: { kind: "refused", reason: "replaced", holder }, replaced: [] };
    }
    replaced.push(holder);
  }
  return { refusal: undefined, replaced };
}
