/**
 * `--cluster`: this process as one of several nodes on different machines.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import type { Directory, EdgeOffer, NodeRecord } from "../cluster/directory.ts";
import { type ClusterHost, joinCluster, type Membership, type NetworkPlace } from "../cluster/membership.ts";
import { connectRedisDirectory, type RedisDirectory } from "../cluster/redis_directory.ts";
import type { Config } from "../config/config.ts";
import { chooseAeads } from "../crypto/aead.ts";
import { KEY_BYTES, type KeyPair, loadSodium, type Sodium } from "../crypto/sodium.ts";
import type { Edge } from "../edge/edge.ts";
import type { KeyUseStore } from "../edge/used_keys.ts";
import { SallyportError } from "../errors.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { SHUTDOWN_GRACE_MS } from "../transport/port.ts";
import type { FoundKey, Keys } from "./keys.ts";
import type { EdgePlace } from "./edge_server.ts";
import type { Base } from "./parts.ts";
import { libsodiumBuild, type SealedPart } from "./sealed.ts";
import { formatHostPort } from "../wire/ip/host_port.ts";

/** A process's part in a cluster of several machines. */
export interface ClusterPart {
  readonly url: string;
  readonly key: FoundKey<string>;
  readonly sodium: Sodium;
}

/** The cluster's key and the encryption of links, if `--cluster` is set. */
export async function findCluster(
  keys: Keys,
  config: Config,
  sealed: SealedPart | undefined,
): Promise<ClusterPart | undefined> {
  if (config.cluster === undefined) return undefined;
  if (config.workers !== undefined && config.clusterAddress?.port !== undefined) {
    const why = "each worker has its own port; leave the port out";
    throw new SallyportError(
      "config_invalid",
      `Cannot use --cluster-address with a port and --workers: ${why}`,
      {
        side: "config",
      },
    );
  }
  const sodium = sealed?.sodium ?? await loadSodium(libsodiumBuild(config.libsodium));
  return { url: config.cluster, key: await keys.cluster(), sodium };
}

/** A node's address in the network. */
export async function networkPlace(
  { runtime, log }: Base,
  config: Config,
  { url, key, sodium }: ClusterPart,
): Promise<NetworkPlace & { readonly directory: RedisDirectory }> {
  const { clusterListen, clusterAddress, region } = config;
  const everywhere = clusterListen.host === "::" || clusterListen.host === "0.0.0.0";
  const host = clusterAddress?.host ?? (everywhere ? hostname() : clusterListen.host);
  return {
    directory: await connectRedisDirectory({ url, clock: runtime.clock, log }),
    links: {
      sodium,
      aeads: chooseAeads(sodium, runtime),
      keys: freshKeys(sodium),
      clusterKey: new Uint8Array(Buffer.from(key.value, "base64url")),
    },
    listen: clusterListen,
    address: (port) => formatHostPort({ host, port: clusterAddress?.port ?? port }),
    region,
  };
}

/** A node's keys live only as long as its process, which gives forward secrecy. */
function freshKeys(sodium: Sodium): KeyPair {
  const secretKey = new Uint8Array(randomBytes(KEY_BYTES));
  return { secretKey, publicKey: sodium.publicKey(secretKey) };
}

/** The edge of this process, as its node sees it: there is none yet while the process joins. */
export function clusterHost(
  place: Pick<EdgePlace, "edge" | "offer">,
  metrics: Metrics,
): ClusterHost {
  return {
    local: (name) => place.edge?.session(name),
    sessions: () => place.edge?.sessions ?? 0,
    shares: () => place.edge?.shares,
    offer: () => place.offer,
    forwarded: (direction) => metrics.visitorForwarded(direction),
  };
}

/** Joins the cluster, if there is one and this process doesn't leave that to its workers. */
export async function joinAsNode(
  base: Base,
  config: Config,
  cluster: ClusterPart | undefined,
  offered: EdgePlace["offered"],
): Promise<ClusterPlace | undefined> {
  if (cluster === undefined || config.workers !== undefined) return undefined;
  const place = new ClusterPlace(offered);
  await place.join(base, config, cluster);
  return place;
}

/** This process's place in a cluster, if it isn't a worker. */
export class ClusterPlace {
  /** The running edge. */
  edge: Edge | undefined;
  offer: EdgeOffer | undefined;
  readonly offered: EdgePlace["offered"];
  readonly reusePort = false;
  readonly graceMs: number = SHUTDOWN_GRACE_MS;
  membership!: Membership;
  keyUses!: KeyUseStore;
  #directory!: Directory;

  /** `offered`: see {@link EdgePlace.offered}. */
  constructor(offered: EdgePlace["offered"]) {
    this.offered = offered;
  }

  /** Joins the cluster. */
  async join(base: Base, config: Config, part: ClusterPart): Promise<void> {
    const network = await networkPlace(base, config, part);
    this.keyUses = network.directory;
    this.#directory = network.directory;
    this.membership = await joinCluster({
      runtime: base.runtime,
      log: base.log,
      id: randomBytes(16).toString("hex"),
      network,
      host: clusterHost(this, base.metrics),
    });
    base.metrics.watchCluster(() => this.membership.node);
    base.life.add("cluster", () => this.membership.close(drainMs(base, config, this.graceMs)));
  }

  /** This process uses its settings unchanged. */
  settings(config: Config): Config {
    return config;
  }

  /** The live nodes of the cluster. */
  nodes(): Promise<readonly NodeRecord[]> {
    return this.#directory.nodes();
  }

  /** Announces that it is about to stop, so that agents move elsewhere. */
  async draining(): Promise<void> {
    await this.membership.draining();
  }
}

/** The live nodes of a cluster, for a session master that isn't one of them; undefined without a cluster. */
export async function clusterNodes(
  { runtime, log, life }: Base,
  url: string | undefined,
): Promise<(() => Promise<readonly NodeRecord[]>) | undefined> {
  if (url === undefined) return undefined;
  const directory = await connectRedisDirectory({ url, clock: runtime.clock, log });
  life.add("cluster's directory", () => directory.close());
  return () => directory.nodes();
}

/** How long streams may continue if this process stops now. */
export function drainMs(
  { life }: Base,
  { drainTimeout }: Pick<Config, "drainTimeout">,
  graceMs: number,
): number {
  return life.signal === "SIGTERM" ? drainTimeout : graceMs;
}

/** The lines of a start message about the cluster. */
export function clusterFacts(
  part: ClusterPart | undefined,
  membership: Membership | undefined,
): (readonly [string, string])[] {
  if (part === undefined) return [];
  const { from, made } = part.key;
  const key = from === "settings"
    ? "as set"
    : made
    ? `${from}, made just now; every node needs the same`
    : from;
  const node = membership?.address === undefined ? [] : [
    [
      "cluster",
      `node at ${formatHostPort(membership.address)}, ${nodesText(membership.node.size)}`,
    ] as const,
  ];
  return [...node, ["cluster key", key]];
}

function nodesText(count: number): string {
  return count <= 1 ? "the only one now" : `one of ${count}`;
}
