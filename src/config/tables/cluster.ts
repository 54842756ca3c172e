/**
 * Settings: processes and machines that together form one edge.
 *
 * @module
 */
import { EDGES_PER_AGENT_MAX } from "../../wire/token/route_group.ts";
import { AGENT, EDGES, optional, setting } from "../setting.ts";
import * as value from "../values.ts";

/** Processes and machines that together form one edge. */
export const CLUSTER = {
  workers: optional({
    flag: "workers",
    placeholder: "N",
    description:
      "Processes that share the edge's ports, restarted when they die and replaced one by one at SIGUSR2; auto: one per core.",
    commands: EDGES,
    schema: value.workers,
  }),
  drainTimeout: setting({
    flag: "drain-timeout",
    placeholder: "TIME",
    default: "10m",
    description:
      "How long visitors' streams may go on when the edge stops or is replaced, such as 30s; 0s for not at all.",
    commands: EDGES,
    schema: value.duration(0, 7 * 86_400_000),
  }),
  cluster: optional({
    flag: "cluster",
    placeholder: "URL",
    description:
      "Redis or Valkey through which several machines are one edge: redis://HOST:PORT, rediss:// with TLS, or " +
      "redis+sentinel://HOST:PORT,HOST:PORT/MASTER. A master alone looks there which edges it can send agents to.",
    commands: [...EDGES, "master"],
    schema: value.redisUrl,
  }),
  clusterListen: setting({
    flag: "cluster-listen",
    placeholder: "HOST:PORT",
    default: "[::]:8446",
    description:
      "Where other nodes of the cluster connect; with --workers each takes the first free port from this one on.",
    commands: EDGES,
    schema: value.hostPort(0, "0.0.0.0:8446 or [::]:8446"),
  }),
  clusterAddress: optional({
    flag: "cluster-address",
    placeholder: "HOST",
    description:
      "Where other nodes reach this one, with :PORT where that is another port. Default: the address of " +
      "--cluster-listen, or this machine's name where it listens on all addresses.",
    commands: EDGES,
    schema: value.hostMaybePort,
  }),
  clusterKey: optional({
    flag: "cluster-key",
    placeholder: "KEY",
    description:
      "Key by which the nodes of a cluster know each other, as keygen makes one. Default: cluster.key in the data folder, " +
      "which must be the same on every node.",
    commands: EDGES,
    schema: value.fernetKey,
  }),
  clusterKeyFile: optional({
    flag: "cluster-key-file",
    placeholder: "FILE",
    description: "File with the cluster's key.",
    commands: EDGES,
    fileOf: "clusterKey",
    schema: value.path,
  }),
  region: optional({
    flag: "region",
    placeholder: "NAME",
    description:
      "Where this edge or agent is, in the operator's own words: agents are sent to edges of their region first.",
    commands: [...EDGES, ...AGENT],
    schema: value.label,
  }),
  edges: setting({
    flag: "edges",
    placeholder: "COUNT",
    default: "1",
    description:
      "At how many edges of a cluster the agent keeps sessions at once: with 2, an edge that dies costs visitors nothing.",
    commands: AGENT,
    schema: value.count("edges", 1, EDGES_PER_AGENT_MAX),
  }),
};
