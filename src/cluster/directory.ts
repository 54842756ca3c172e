/**
 * The directory port: which nodes a cluster has, and which of them holds which hostname
 * (docs/protocols/cluster.md). An implementation decides every claim in one atomic step, so that a name never has
 * holders of two groups.
 *
 * @module
 */

/** A node that says nothing for this long is dead: its lease has expired, and its claims count no more. */
export const NODE_LEASE_MS = 10_000;
/** A node renews its lease this often, so that two attempts may fail. */
export const NODE_RENEW_MS = 3_000;

/** How agents reach an edge; keys are base64url. */
export interface EdgeOffer {
  /** A name or an IP address. */
  readonly host: string;
  readonly port: number;
  /** For the sealed and the curve transport. */
  readonly publicKey?: string;
  readonly curvePort?: number;
  readonly quicPort?: number;
  /** SHA-256 of its certificate for QUIC. */
  readonly certificateFingerprint?: string;
}

/** A node, as the others see it. */
export interface NodeRecord {
  /** Names this run of the node's process: 128 random bits in hexadecimal. A restarted node is another one. */
  readonly id: string;
  /** Where other nodes reach it: `HOST:PORT`, or `unix:/path` where all of them are on one machine. */
  readonly address: string;
  /** Its public key for links between machines, base64url; absent where all nodes are on one machine. */
  readonly publicKey?: string;
  /** Names its machine, where several nodes are on it: those reach each other at `socket`. */
  readonly machine?: string;
  /** The path of its unix socket. */
  readonly socket?: string;
  /** Names the cluster's key: nodes with another one cannot link to this one. */
  readonly keyId?: string;
  /** The newest version of the link protocol that it speaks. */
  readonly version: number;
  /** Where it is, as its operator calls it. */
  readonly region?: string;
  /** How agents reach its edge, where the session master is to send some there. */
  readonly offer?: EdgeOffer;
  /** Agents' sessions that it holds; the session master prefers nodes with few. */
  readonly sessions: number;
  /** It takes no new agents: it is about to stop. */
  readonly draining: boolean;
}

/** What a session claims a name with. */
export interface RouteClaim {
  /** The hostname or wildcard, canonical. */
  readonly name: string;
  /** The hostname of the token: only sessions of one owner may hold a name after each other, or together. */
  readonly owner: string;
  /** Sessions of one group hold a name together: those of one agent at two nodes, or of agents that share a name. */
  readonly group: string;
  /** Which of the group's agents or sessions this is: a newer session of the same member replaces the older. */
  readonly member?: string;
  /** When the session's token was made, in Unix milliseconds: a newer group replaces an older one. */
  readonly madeAtMs: number;
  /** The node that holds the session. */
  readonly node: string;
  /** Names the session: unique in the cluster. */
  readonly session: string;
}

/** A claim that was granted. */
export interface RouteHolder extends RouteClaim {
  /** Grows with every granted claim of the cluster. Of two holders that disagree, the larger number is right. */
  readonly fence: number;
}

/** The answer to a claim. */
export type ClaimOutcome =
  | {
    readonly kind: "granted";
    readonly fence: number;
    /** Holders of older groups, and of the same member, which hold the name no more. */
    readonly replaced: readonly RouteHolder[];
  }
  | {
    readonly kind: "refused";
    /** `name_taken`: another owner holds the name. `replaced`: a newer group of the same owner does. */
    readonly reason: "name_taken" | "replaced";
    readonly holder: RouteHolder;
  };

/** What changed, as a watcher hears it. Watching may miss changes: it makes caches fresh, it does not make them right. */
export type DirectoryChange =
  | { readonly kind: "claimed"; readonly holder: RouteHolder; readonly replaced: readonly RouteHolder[] }
  | { readonly kind: "released"; readonly name: string; readonly session: string }
  | { readonly kind: "node_left"; readonly node: string }
  /** Changes may have been missed: everything that is cached is in doubt. */
  | { readonly kind: "reconnected" };

/** The directory of one cluster. Methods reject with `io_failed` when the store cannot be asked. */
export interface Directory {
  /** Enters or renews a node with a lease of {@link NODE_LEASE_MS}. "entered": it was unknown, and has no claims. */
  enter(node: NodeRecord): Promise<"entered" | "renewed">;
  /** Takes a node out, with all its claims. */
  leave(node: string): Promise<void>;
  /** The nodes whose lease has not expired. */
  nodes(): Promise<readonly NodeRecord[]>;
  /**
   * Decides a claim. Claiming again with the same session is harmless, and confirms the claim; watchers hear nothing of
   * it, because every node confirms all of its claims from time to time.
   */
  claim(claim: RouteClaim): Promise<ClaimOutcome>;
  /** Gives up a name, if this session still holds it. */
  release(name: string, session: string): Promise<void>;
  /** The living holders of a name, those with the largest fence first. */
  lookup(name: string): Promise<readonly RouteHolder[]>;
  /** Calls `listener` for changes until the returned function is called. */
  watch(listener: (change: DirectoryChange) => void): () => void;
  /** Lets go of the store; leases run out by themselves. */
  close(): Promise<void>;
}

/** Decides a claim against the living holders of its name: the one rule of every implementation. */
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
    // Sessions of one group stand together, but a member of it has one session alone.
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
