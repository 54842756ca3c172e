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
      "File with settings, YAML or JSON: the flags' names with _ for -, such as agent_listen; and an agent's services.",
    commands: ALL,
    schema: value.path,
  }),
  listen: setting({
    flag: "listen",
    placeholder: "HOST:PORT",
    default: ["[::]:8443"],
    description:
      "Where visitors and agents connect. [::] is IPv4 too, except where the system separates them.",
    commands: [...EDGES, "demo"],
    schema: value.many(value.hostPort(0, "0.0.0.0:8443 or [::]:8443")),
  }),
  agentListen: setting({
    flag: "agent-listen",
    placeholder: "HOST:PORT",
    default: [],
    description: "Where agents connect, apart from visitors, who then have --listen for themselves.",
    commands: EDGES,
    schema: value.many(value.hostPort(0, "0.0.0.0:8444 or [::]:8444")),
  }),
  sealedListen: setting({
    flag: "sealed-listen",
    placeholder: "HOST:PORT",
    default: [],
    description:
      "Where agents connect by the sealed transport alone. They may also come in where agents do, or with everybody else.",
    commands: EDGES,
    schema: value.many(value.hostPort(0, "0.0.0.0:8445 or [::]:8445")),
  }),
  curveListen: setting({
    flag: "curve-listen",
    placeholder: "HOST:PORT",
    default: [],
    description: "Where agents connect by the curve transport, over UDP.",
    commands: EDGES,
    schema: value.many(value.hostPort(0, "0.0.0.0:8443 or [::]:8443")),
  }),
  quicListen: setting({
    flag: "quic-listen",
    placeholder: "HOST:PORT",
    default: [],
    description:
      "Where agents connect by the QUIC transport, over UDP; another port than the curve transport's.",
    commands: EDGES,
    schema: value.many(value.hostPort(0, "0.0.0.0:8444 or [::]:8444")),
  }),
  quicOnBun: setting({
    flag: "quic-on-bun",
    placeholder: "WORD",
    default: "refuse",
    description:
      "Whether --quic-listen works on Bun, whose QUIC lets strangers stop the whole edge with a few hundred packets a " +
      "second: refuse or accept-risk. Deno needs no consent.",
    commands: EDGES,
    schema: value.oneOf(["refuse", "accept-risk"]),
  }),
  publishPorts: optional({
    flag: "publish-ports",
    placeholder: "FIRST-LAST",
    description:
      "Public TCP ports that agents may ask for with --publish, where their tokens allow it; none when absent.",
    commands: EDGES,
    schema: value.portRange,
  }),
  publishListen: setting({
    flag: "publish-listen",
    placeholder: "HOST",
    default: "::",
    description: "The IP address on which those ports listen; :: and 0.0.0.0 are all of them.",
    commands: EDGES,
    schema: value.ipAddress,
  }),
  masterListen: setting({
    flag: "master-listen",
    placeholder: "HOST:PORT",
    default: ["127.0.0.1:8080"],
    description:
      "Where the session master answers HTTP. Put a TLS proxy before it where others can reach it.",
    commands: [...MASTERS, "demo"],
    schema: value.many(value.hostPort(0, "127.0.0.1:8080 or [::1]:8080")),
  }),
  metricsListen: setting({
    flag: "metrics-listen",
    placeholder: "HOST:PORT",
    default: [],
    description:
      "Where GET /metrics, /healthz and /readyz are answered; a session master has them at its own address.",
    commands: ["edge", "agent"],
    schema: value.many(value.hostPort(0, "127.0.0.1:9090 or [::1]:9090")),
  }),
  publicAddress: optional({
    flag: "public-address",
    placeholder: "HOST:PORT",
    description:
      "Where agents reach the edge, as tokens name it. Default: localhost and the port of the first agents' listener; an " +
      "edge alone says it to the session masters of its cluster (--cluster), and nothing without it.",
    commands: [...MASTERS, "edge"],
    schema: value.hostPort(1, "edge.example.org:8443"),
  }),
  curvePort: optional({
    flag: "curve-port",
    placeholder: "PORT",
    description:
      "The edge's UDP port for the curve transport that tokens name. Default: that of serve's own first listener for it.",
    commands: MASTERS,
    schema: value.port,
  }),
  quicPort: optional({
    flag: "quic-port",
    placeholder: "PORT",
    description:
      "The edge's UDP port for the QUIC transport that tokens name. Default: that of serve's own first listener for it.",
    commands: MASTERS,
    schema: value.port,
  }),
  dataDir: setting({
    flag: "data-dir",
    placeholder: "FOLDER",
    default: "./data",
    description:
      "Where keys are kept that are made on the first start, or that an agent believed on first use; and which transport " +
      "got it through.",
    commands: [...KEY_HOLDERS, ...AGENT, "backup", ...MANAGE],
    schema: value.path,
  }),
};
