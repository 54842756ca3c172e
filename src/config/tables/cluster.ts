/**
 * Settings: processes and machines that together form one edge.
 *
 * @module
 */
import { DAY_MS } from "../../calendar.ts";
import { EDGES_PER_AGENT_MAX } from "../../wire/token/route_group.ts";
import { AGENT, EDGES, optional, setting } from "../setting.ts";
import * as value from "../values.ts";

/** 100 years: no limit, in a number that every timer and message takes. */
const DRAIN_MAX_MS = 36_500 * DAY_MS;

/** Processes and machines that together form one edge. */
export const CLUSTER = {
  workers: optional({
    flag: "workers",
    placeholder: "N",
    description:
      "Number of processes that share the edge's ports; auto means one per core. A worker that dies is restarted, " +
      "and SIGUSR2 replaces them one by one.",
    commands: EDGES,
    schema: value.workers,
  }),
  drainTimeout: setting({
    flag: "drain-timeout",
    placeholder: "TIME",
    default: "10m",
    description:
      "How long visitors' streams may continue when the edge stops or is replaced, such as 30s; 0s ends them at " +
      "once, 36500d lets the last one end by itself.",
    commands: EDGES,
    schema: value.duration(0, DRAIN_MAX_MS),
  }),
  cluster: optional({
    flag: "cluster",
    placeholder: "URL",
    description:
      "Redis or Valkey server that joins edges on several machines: redis://HOST:PORT, rediss://HOST:PORT for TLS, " +
      "or redis+sentinel://HOST:PORT,HOST:PORT/MASTER. A separate master finds the edges there.",
    commands: [...EDGES, "master"],
    schema: value.redisUrl,
  }),
  clusterListen: setting({
    flag: "cluster-listen",
    placeholder: "HOST:PORT",
    default: "[::]:8446",
    description:
      "Address for connections from other nodes of the cluster. With --workers, each worker takes the first free " +
      "port from this one on.",
    commands: EDGES,
    schema: value.hostPort(0, "0.0.0.0:8446 or [::]:8446"),
  }),
  clusterAddress: optional({
    flag: "cluster-address",
    placeholder: "HOST",
    description:
      "Address at which other nodes reach this one, with :PORT if the port differs. Default: the address of " +
      "--cluster-listen, or this machine's name if that means all addresses.",
    commands: EDGES,
    schema: value.hostMaybePort,
  }),
  clusterKey: optional({
    flag: "cluster-key",
    placeholder: "KEY",
    description:
      "Key by which the nodes of a cluster authenticate each other, as made by keygen. Default: cluster.key in the " +
      "data folder. It must be the same on every node.",
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
    description: "Region of this edge or agent; any text. Agents prefer edges of their own region.",
    commands: [...EDGES, ...AGENT],
    schema: value.label,
  }),
  edges: setting({
    flag: "edges",
    placeholder: "COUNT",
    default: "1",
    description:
      "Number of edges of a cluster at which the agent keeps a session. With 2, visitors notice nothing when an " +
      "edge dies.",
    commands: AGENT,
    schema: value.count("edges", 1, EDGES_PER_AGENT_MAX),
  }),
};
