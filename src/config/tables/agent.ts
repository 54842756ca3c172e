/**
 * Settings: the agent, the tokens it requests, and its session's transport.
 *
 * @module
 */
import { DAY_MS } from "../../calendar.ts";
import { AGENT, EDGES, MANAGE, optional, setting, toggle } from "../setting.ts";
import * as value from "../values.ts";
import { TRANSPORTS } from "../../transport/names.ts";
import { TOKEN_TTL_DEFAULT_S, TOKEN_TTL_MAX_S, TOKEN_TTL_MIN_S } from "../../protocol/token/token.ts";
import { PUBLISHED_PORTS_MAX } from "../../wire/token/claims.ts";

/** The agent, its tokens, and its session's transport. */
export const AGENT_SETTINGS = {
  join: optional({
    flag: "join",
    placeholder: "LINK",
    description:
      "Link with a single-use code, as printed by `agents add`. The agent makes its own key and enrols with it. " +
      "Needed only once.",
    commands: AGENT,
    schema: value.joinLink,
  }),
  master: optional({
    flag: "master",
    placeholder: "URL",
    description:
      "URL of the session master. Default: for an agent, the master that it enrolled at; for management commands, " +
      "http://127.0.0.1:8080. An edge without it reports no usage and does not learn of suspended agents.",
    commands: ["agent", "edge", ...MANAGE],
    schema: value.httpUrl,
  }),
  edgeName: optional({
    flag: "edge-name",
    placeholder: "NAME",
    description:
      "Name of this edge at the session master. Default: a generated name that is kept in the data folder.",
    commands: EDGES,
    schema: value.name,
  }),
  insecureMaster: toggle({
    flag: "insecure-master",
    description:
      "Allow http:// to a session master on another machine. Keys and tokens are then readable on the network.",
    commands: ["agent", "edge", ...MANAGE],
  }),
  credential: optional({
    flag: "credential",
    placeholder: "KEY",
    description:
      "Key that authenticates to the session master. An agent makes its own with --join; management commands read " +
      "the admin key from the data folder.",
    commands: [...AGENT, ...MANAGE],
    schema: value.bearerKey,
  }),
  credentialFile: optional({
    flag: "credential-file",
    placeholder: "FILE",
    description: "File with the credential.",
    commands: [...AGENT, ...MANAGE],
    fileOf: "credential",
    schema: value.path,
  }),
  hostname: optional({
    flag: "hostname",
    placeholder: "NAME",
    description: "Hostname that visitors use.",
    commands: ["agent", "token"],
    required: ["token"],
    schema: value.servedName,
  }),
  alias: setting({
    flag: "alias",
    placeholder: "NAME",
    default: [],
    description: "Additional hostnames.",
    commands: ["agent", "token"],
    schema: value.many(value.servedName, 255),
  }),
  to: optional({
    flag: "to",
    placeholder: "TARGET",
    description:
      "Target for visitors of --hostname. HOST:PORT or https://HOST:PORT: a server that speaks TLS. " +
      "http://HOST:PORT, https+insecure://HOST:PORT, unix:/PATH or file:///FOLDER: TLS ends in the agent. " +
      "tcp://HOST:PORT: any protocol.",
    commands: AGENT,
    schema: value.target,
  }),
  service: setting({
    flag: "service",
    placeholder: "NAME=TARGET",
    default: [],
    description:
      "Additional name with its own target. Services with more settings go into the file of --config.",
    commands: AGENT,
    schema: value.many(value.namedTarget, 1_000),
  }),
  tls: optional({
    flag: "tls",
    placeholder: "MODE",
    description:
      "Where visitors' TLS ends. passthrough: at the target. acme, self-signed or file:CERT,KEY: in the agent, with " +
      "a certificate from an authority, a self-signed one, or the given files. Default: depends on the target.",
    commands: AGENT,
    schema: value.tlsMode,
  }),
  proxyProtocol: setting({
    flag: "proxy-protocol",
    placeholder: "N",
    default: "0",
    description:
      "Sends a PROXY header of this version, 1 or 2, with the visitor's address at the start of each connection to " +
      "the target.",
    commands: AGENT,
    schema: value.proxyVersion,
  }),
  idleTimeout: setting({
    flag: "idle-timeout",
    placeholder: "TIME",
    default: "1h",
    description:
      "Ends visitors' connections that carry no byte in either direction for this time, such as 90s or 2h.",
    commands: [...EDGES, ...AGENT],
    schema: value.duration(30_000, 7 * DAY_MS),
  }),
  accessLog: optional({
    flag: "access-log",
    placeholder: "FILE",
    description: "File for one line of JSON per visitor or request; - means standard output.",
    commands: AGENT,
    schema: value.path,
  }),
  edge: optional({
    flag: "edge",
    placeholder: "HOST:PORT",
    description: "Address of the edge. Default: the one given by the session master.",
    commands: AGENT,
    schema: value.hostPort(1, "edge.example.org:8443"),
  }),
  proxy: optional({
    flag: "proxy",
    placeholder: "URL",
    description:
      "Proxy for connections to the edge, the session master and certificate authorities: http://HOST:PORT or " +
      "socks5://HOST:PORT, optionally with USER:PASSWORD@. UDP does not use it. Default: HTTPS_PROXY, except for hosts in NO_PROXY.",
    commands: AGENT,
    schema: value.proxyUrl,
  }),
  transport: setting({
    flag: "transport",
    placeholder: "NAME",
    default: "snitun",
    description:
      "Transport of the session. snitun: the default. sealed: TCP without a recognisable protocol. curve: UDP that " +
      "tolerates loss and address changes. quic: UDP. auto: the first that connects.",
    commands: AGENT,
    schema: value.oneOf([...TRANSPORTS.toReversed(), "auto"]),
  }),
  congestion: setting({
    flag: "congestion",
    placeholder: "NAME",
    default: "vegas",
    description: "Congestion control of the curve transport: vegas (by delay) or newreno (by loss).",
    commands: [...EDGES, ...AGENT],
    schema: value.oneOf(["vegas", "newreno"]),
  }),
  edgePublicKey: optional({
    flag: "edge-public-key",
    placeholder: "KEY",
    description:
      "The edge's public key for the sealed and curve transports, as printed by the edge. A master gives it to " +
      "agents; an agent accepts no other key. Default: that of serve's own edge, or the one given by the master.",
    commands: ["master", "agent"],
    schema: value.publicKey,
  }),
  edgeCertificateFingerprint: optional({
    flag: "edge-certificate-fingerprint",
    placeholder: "SHA256",
    description:
      "Fingerprint of the edge's certificate for the QUIC transport, as printed by the edge. A master gives it to " +
      "agents; an agent accepts no other certificate. Default: that of serve's own edge, or the one given by the " +
      "master.",
    commands: ["master", "agent"],
    schema: value.fingerprint,
  }),
  libsodium: setting({
    flag: "libsodium",
    placeholder: "BUILD",
    default: "any",
    description:
      "Build of libsodium: native, wasm (slower), or any. any uses the native build if it can be loaded and Deno " +
      "permits native code.",
    commands: [...EDGES, "agent"],
    schema: value.oneOf(["any", "native", "wasm"]),
  }),
  publish: setting({
    flag: "publish",
    placeholder: "tcp[:PORT][=HOST:PORT]",
    default: [],
    description:
      "Public TCP ports to request from the edge, and the target of each; tcp without a port means any port. " +
      "Default target: --to. In a token: the ports that it allows.",
    commands: ["agent", "token"],
    schema: value.many(value.published, PUBLISHED_PORTS_MAX),
  }),
  protocolVersion: setting({
    flag: "protocol-version",
    placeholder: "N",
    default: "2",
    description:
      "Version of SniTun: 2, 1 or 0. Versions 1 and 0 carry no IPv6 addresses of visitors, and version 0 has no " +
      "flow control.",
    commands: ["agent", "token"],
    schema: value.protocolVersion,
  }),
  cipher: setting({
    flag: "cipher",
    placeholder: "NAME",
    default: "aes-gcm",
    description:
      "Cipher for frame headers: aes-gcm, aes-gcm-siv, or aes-cbc, which does not detect forged headers.",
    commands: ["agent", "token"],
    schema: value.oneOf(["aes-gcm", "aes-gcm-siv", "aes-cbc"]),
  }),
  allow: setting({
    flag: "allow",
    placeholder: "CIDR",
    default: [],
    description: "Networks of visitors that are admitted. All others are refused.",
    commands: AGENT,
    schema: value.many(value.network),
  }),
  block: setting({
    flag: "block",
    placeholder: "CIDR",
    default: [],
    description: "Networks of visitors that are refused, even if --allow includes them.",
    commands: AGENT,
    schema: value.many(value.network),
  }),
  ttl: setting({
    flag: "ttl",
    placeholder: "SECONDS",
    default: String(TOKEN_TTL_DEFAULT_S),
    description: "Lifetime of the token, in seconds.",
    commands: ["token"],
    schema: value.count("seconds", TOKEN_TTL_MIN_S, TOKEN_TTL_MAX_S),
  }),
};
