/**
 * A process's membership in a cluster: its node, the links to the other nodes, and the shared directory.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import { sha256 } from "../crypto/hkdf.ts";
import { SallyportError } from "../errors.ts";
import type { Address, Runtime } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Session } from "../transport/port.ts";
import type { StreamShares } from "../transport/stream_shares.ts";
import type { Directory, EdgeOffer, NodeRecord } from "./directory.ts";
import { LINK_VERSION } from "./link_handshake.ts";
import { ClusterNode } from "./node.ts";
import { LINK_PORTS_TRIED, type MachineLinks, NodeLinks, type NodeLinksOptions } from "./node_links.ts";

/** What the cluster needs from the edge of its process. */
export interface ClusterHost {
  /** A session of this process for the name. */
  local(name: string): Session | undefined;
  /** The number of its sessions. */
  sessions(): number;
  /** The number of streams of each source. */
  shares(): StreamShares | undefined;
  /** How agents reach its edge, if the session master may send agents to it. */
  offer?(): EdgeOffer | undefined;
  /** Counts a forwarded visitor. */
  forwarded?(direction: "in" | "out"): void;
}

/** Settings for a cluster of several machines. */
export interface NetworkPlace {
  readonly directory: Directory;
  readonly links: MachineLinks;
  readonly listen: Address;
  /** The address announced to other nodes, given the port that this node listens on. */
  readonly address: (port: number) => string;
  readonly region?: string | undefined;
}

/** Options of {@link joinCluster}. */
interface JoinOptions {
  readonly runtime: Runtime;
  readonly log: Logger;
  readonly host: ClusterHost;
  /** The node's id. */
  readonly id: string;
  /** Set if the cluster spans several machines. */
  readonly network?: NetworkPlace | undefined;
  /** Set if the machine runs several processes: their shared secret, and this one's socket. */
  readonly machine?: NodeLinksOptions["machine"] & { readonly socket: string } | undefined;
  /** The directory, if there is no network. */
  readonly directory?: Directory;
}

/** A node that has joined. */
export interface Membership {
  readonly node: ClusterNode;
  /** The address that nodes on other machines link to. */
  readonly address: Address | undefined;
  /** Announces that this node accepts no new agents. */
  draining(): Promise<void>;
  /** Leaves the cluster once forwarded visitors are gone, or after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/**
 * Joins a cluster. Rejects with `config_invalid` if its nodes use another key, or if the listen address is unavailable.
 */
export async function joinCluster(options: JoinOptions): Promise<Membership> {
  const { runtime, log, host, id, network, machine } = options;
  const directory = network?.directory ?? options.directory!;
  const keyId = network === undefined ? undefined : clusterKeyId(network.links.clusterKey);
  if (keyId !== undefined) await checkKey(directory, keyId);
  let draining = false;
  const links = new NodeLinks({
    runtime,
    log,
    node: id,
    ...machine === undefined ? {} : { machine },
    ...network === undefined ? {} : { network: network.links },
  });
  const node = new ClusterNode({
    directory,
    clock: runtime.clock,
    memory: runtime.memory,
    log,
    record: () => ({
      id,
      ...links.reach,
      version: LINK_VERSION,
      sessions: host.sessions(),
      draining,
      ...offerOf(host),
      ...network?.region === undefined ? {} : { region: network.region },
      ...keyId === undefined ? {} : { keyId },
    }),
    link: (to, handler) => links.dial(to, handler),
    local: (name) => host.local(name),
    shares: () => host.shares(),
    ...host.forwarded === undefined ? {} : { forwarded: (direction) => host.forwarded!(direction) },
  });
  const accepted = (session: Session) => node.accepted(session);
  let address: Address | undefined;
  try {
    if (network !== undefined) {
      const tried = machine === undefined ? 1 : LINK_PORTS_TRIED;
      address = await links.listenNetwork(network.listen, tried, network.address, accepted);
    }
    if (machine !== undefined) await links.listenUnix(machine.socket, accepted);
    await node.start();
  } catch (error) {
    links.close();
    throw error;
  }
  return {
    node,
    address,
    async draining() {
      draining = true;
      await node.announce();
    },
    async close(graceMs) {
      await node.close(graceMs);
      links.close();
      await network?.directory.close();
    },
  };
}

function offerOf(host: ClusterHost): Pick<NodeRecord, "offer"> {
  const offer = host.offer?.();
  return offer === undefined ? {} : { offer };
}

/** Identifies a cluster's key without revealing it. */
function clusterKeyId(key: Bytes): string {
  return sha256("sallyport cluster key ", key).toHex().slice(0, 16);
}

/** Refuses to start a node that could not link to the others. */
async function checkKey(directory: Directory, keyId: string): Promise<void> {
  const nodes: readonly NodeRecord[] = await directory.nodes().catch(() => []);
  const other = nodes.find((node) => node.keyId !== undefined && node.keyId !== keyId);
  if (other === undefined) return;
  const why = `the node at ${other.address} has another cluster key`;
  throw new SallyportError(
    "config_invalid",
    `Cannot join the cluster: ${why}; copy cluster.key from that machine, or give all nodes the same --cluster-key-file`,
    { side: "config" },
  );
}
