/**
 * Settings: listening addresses, and the edge's public name.
 *
 * @module
 */
import { AGENT, ALL, EDGES, KEY_HOLDERS, MANAGE, MASTERS, optional, setting } from "../setting.ts";
import * as value from "../values.ts";

/** Listening addresses, and the edge's public name. */
export const LISTENING = {
  config: optional({
    flag: "config",
    placeholder: "FILE",
    description:
      "Settings file, YAML or JSON. Members are flag names with _ for -, such as agent_listen; it may also list an " +
      "agent's services.",
    commands: ALL,
    schema: value.path,
  }),
  listen: setting({
    flag: "listen",
    placeholder: "HOST:PORT",
    default: ["[::]:8443"],
    description:
      "Addresses for visitors and agents. [::] includes IPv4, except where the system separates them.",
    commands: [...EDGES, "demo"],
    schema: value.many(value.hostPort(0, "0.0.0.0:8443 or [::]:8443")),
  }),
  agentListen: setting({
    flag: "agent-listen",
    placeholder: "HOST:PORT",
    default: [],
    description: "Separate addresses for agents; --listen then serves visitors only.",
    commands: EDGES,
    schema: value.many(value.hostPort(0, "0.0.0.0:8444 or [::]:8444")),
  }),
  sealedListen: setting({
    flag: "sealed-listen",
    placeholder: "HOST:PORT",
    default: [],
    description:
      "Addresses for agents that use the sealed transport only. Such agents may also connect to --listen and " +
      "--agent-listen.",
    commands: EDGES,
    schema: value.many(value.hostPort(0, "0.0.0.0:8445 or [::]:8445")),
  }),
  curveListen: setting({
    flag: "curve-listen",
    placeholder: "HOST:PORT",
    default: [],
    description: "UDP addresses for agents that use the curve transport.",
    commands: EDGES,
    schema: value.many(value.hostPort(0, "0.0.0.0:8443 or [::]:8443")),
  }),
  quicListen: setting({
    flag: "quic-listen",
    placeholder: "HOST:PORT",
    default: [],
    description:
      "UDP addresses for agents that use the QUIC transport. The port must differ from the curve transport's.",
    commands: EDGES,
    schema: value.many(value.hostPort(0, "0.0.0.0:8444 or [::]:8444")),
  }),
  quicOnBun: setting({
    flag: "quic-on-bun",
    placeholder: "WORD",
    default: "refuse",
    description:
      "Whether --quic-listen is allowed on Bun: refuse or accept-risk. Bun's QUIC lets strangers stall the whole " +
      "edge with a few hundred packets a second. Not needed on Deno.",
    commands: EDGES,
    schema: value.oneOf(["refuse", "accept-risk"]),
  }),
  publishPorts: optional({
    flag: "publish-ports",
    placeholder: "FIRST-LAST",
    description:
      "Public TCP ports that agents may request with --publish if their tokens allow it. Default: none.",
    commands: EDGES,
    schema: value.portRange,
  }),
  publishListen: setting({
    flag: "publish-listen",
    placeholder: "HOST",
    default: "::",
    description: "IP address for public ports; :: and 0.0.0.0 mean all addresses.",
    commands: EDGES,
    schema: value.ipAddress,
  }),
  masterListen: setting({
    flag: "master-listen",
    placeholder: "HOST:PORT",
    default: ["127.0.0.1:8080"],
    description:
      "Addresses of the session master's HTTP server. Put a TLS proxy in front if other machines can reach it.",
    commands: [...MASTERS, "demo"],
    schema: value.many(value.hostPort(0, "127.0.0.1:8080 or [::1]:8080")),
  }),
  metricsListen: setting({
    flag: "metrics-listen",
    placeholder: "HOST:PORT",
    default: [],
    description:
      "Addresses that serve GET /metrics, /healthz and /readyz. A session master serves them at its own address.",
    commands: ["edge", "agent"],
    schema: value.many(value.hostPort(0, "127.0.0.1:9090 or [::1]:9090")),
  }),
  publicAddress: optional({
    flag: "public-address",
    placeholder: "HOST:PORT",
    description:
      "Address of the edge as given to agents. Default: localhost and the port of the first listener for agents. A " +
      "separate edge announces it to the session masters of its cluster (--cluster).",
    commands: [...MASTERS, "edge"],
    schema: value.hostPort(1, "edge.example.org:8443"),
  }),
  curvePort: optional({
    flag: "curve-port",
    placeholder: "PORT",
    description:
      "The edge's UDP port for the curve transport, as given to agents. Default: the port of the first " +
      "--curve-listen of serve.",
    commands: MASTERS,
    schema: value.port,
  }),
  quicPort: optional({
    flag: "quic-port",
    placeholder: "PORT",
    description:
      "The edge's UDP port for the QUIC transport, as given to agents. Default: the port of the first --quic-listen " +
      "of serve.",
    commands: MASTERS,
    schema: value.port,
  }),
  dataDir: setting({
    flag: "data-dir",
    placeholder: "FOLDER",
    default: "./data",
    description:
      "Folder for generated keys, for edge keys that an agent trusted on first use, and for the transport that last " +
      "worked.",
    commands: [...KEY_HOLDERS, ...AGENT, "backup", ...MANAGE],
    schema: value.path,
  }),
};
