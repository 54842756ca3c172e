/**
 * Settings: the agent, the tokens it requests, and its session's transport.
 *
 * @module
 */
import { AGENT, EDGES, MANAGE, optional, setting, toggle } from "../setting.ts";
import * as value from "../values.ts";
import { TRANSPORTS } from "../../agent/dialer.ts";
import { TOKEN_TTL_DEFAULT_S, TOKEN_TTL_MAX_S, TOKEN_TTL_MIN_S } from "../../protocol/token/token.ts";
import { PUBLISHED_PORTS_MAX } from "../../wire/token/claims.ts";

/** The agent, its tokens, and its session's transport. */
export const AGENT_SETTINGS = {
  join: optional({
    flag: "join",
    placeholder: "LINK",
    description:
      "Link with a single-use code, as `agents add` prints it: the agent makes a key of its own and enrols with it. Not " +
      "needed any more once it has.",
    commands: AGENT,
    schema: value.joinLink,
  }),
  master: optional({
    flag: "master",
    placeholder: "URL",
    description:
      "The session master. Default: for an agent the one that it has enrolled at; for commands that manage one, " +
      "http://127.0.0.1:8080; an edge without it hears of no suspended agents and reports no usage.",
    commands: ["agent", "edge", ...MANAGE],
    schema: value.httpUrl,
  }),
  edgeName: optional({
    flag: "edge-name",
    placeholder: "NAME",
    description:
      "How the session master calls this edge. Default: a name that is made once and kept in the data folder.",
    commands: EDGES,
    schema: value.name,
  }),
  insecureMaster: toggle({
    flag: "insecure-master",
    description:
      "Allow http:// to a session master on another machine: everybody on the way sees keys and tokens.",
    commands: ["agent", "edge", ...MANAGE],
  }),
  credential: optional({
    flag: "credential",
    placeholder: "KEY",
    description:
      "Key that the session master knows the asker by. An agent makes its own with --join; commands that manage a master " +
      "find the admin key in the data folder.",
    commands: [...AGENT, ...MANAGE],
    schema: value.bearerKey,
  }),
  credentialFile: optional({
    flag: "credential-file",
    placeholder: "FILE",
    description: "File with that key.",
    commands: [...AGENT, ...MANAGE],
    fileOf: "credential",
    schema: value.path,
  }),
  hostname: optional({
    flag: "hostname",
    placeholder: "NAME",
    description: "The name that visitors ask for.",
    commands: ["agent", "token"],
    required: ["token"],
    schema: value.servedName,
  }),
  alias: setting({
    flag: "alias",
    placeholder: "NAME",
    default: [],
    description: "Further names.",
    commands: ["agent", "token"],
    schema: value.many(value.servedName, 255),
  }),
  to: optional({
    flag: "to",
    placeholder: "TARGET",
    description:
      "What visitors of --hostname reach: HOST:PORT or https://HOST:PORT, a server that speaks TLS itself; " +
      "http://HOST:PORT, https+insecure://HOST:PORT, unix:/PATH or file:///FOLDER, for which TLS ends in the agent; " +
      "tcp://HOST:PORT.",
    commands: AGENT,
    schema: value.target,
  }),
  service: setting({
    flag: "service",
    placeholder: "NAME=TARGET",
    default: [],
    description: "A further name with a target of its own; --config FILE takes services with more settings.",
    commands: AGENT,
    schema: value.many(value.namedTarget, 1_000),
  }),
  tls: optional({
    flag: "tls",
    placeholder: "MODE",
    description:
      "Where the visitors' TLS ends: passthrough, at the target; acme, here, with a certificate from an authority; " +
      "self-signed, here; file:CERT,KEY, here. Default: by the kind of the target.",
    commands: AGENT,
    schema: value.tlsMode,
  }),
  proxyProtocol: setting({
    flag: "proxy-protocol",
    placeholder: "N",
    default: "0",
    description:
      "Puts a PROXY header of this version, 1 or 2, in front of each connection to the target, with the visitor's address.",
    commands: AGENT,
    schema: value.proxyVersion,
  }),
  idleTimeout: setting({
    flag: "idle-timeout",
    placeholder: "TIME",
    default: "1h",
    description: "Visitors without a byte either way are ended after this time, such as 90s or 2h.",
    commands: [...EDGES, ...AGENT],
    schema: value.duration(30_000, 7 * 86_400_000),
  }),
  accessLog: optional({
    flag: "access-log",
    placeholder: "FILE",
    description: "Gets a line of JSON for each visitor or request; - for standard output.",
    commands: AGENT,
    schema: value.path,
  }),
  edge: optional({
    flag: "edge",
    placeholder: "HOST:PORT",
    description: "The edge to connect to. Default: the one that the token names.",
    commands: AGENT,
    schema: value.hostPort(1, "edge.example.org:8443"),
  }),
  proxy: optional({
    flag: "proxy",
    placeholder: "URL",
    description:
      "Goes to the edge and the session master through this proxy: http://HOST:PORT or socks5://HOST:PORT, with " +
      "USER:PASSWORD@ where it wants them; UDP doesn't. Default: HTTPS_PROXY, except for hosts in NO_PROXY.",
    commands: AGENT,
    schema: value.proxyUrl,
  }),
  transport: setting({
    flag: "transport",
    placeholder: "NAME",
    default: "snitun",
    description:
      "How the session crosses the network: snitun; sealed, without visible protocol; curve, UDP that bears loss and moves; " +
      "quic; " +
      "auto: the first of those that the edge offers that gets through.",
    commands: AGENT,
    schema: value.oneOf([...TRANSPORTS.toReversed(), "auto"]),
  }),
  congestion: setting({
    flag: "congestion",
    placeholder: "NAME",
    default: "vegas",
    description: "How the curve transport finds its speed: vegas, by the round trip; newreno, by loss.",
    commands: [...EDGES, ...AGENT],
    schema: value.oneOf(["vegas", "newreno"]),
  }),
  edgePublicKey: optional({
    flag: "edge-public-key",
    placeholder: "KEY",
    description:
      "The edge's public key for the sealed and the curve transport, as the edge prints it. A master hands it to agents; " +
      "an agent refuses every other one. Default: what serve's own edge has, and what the master names.",
    commands: ["master", "agent"],
    schema: value.publicKey,
  }),
  edgeCertificateFingerprint: optional({
    flag: "edge-certificate-fingerprint",
    placeholder: "SHA256",
    description:
      "Fingerprint of the edge's certificate for the QUIC transport, as the edge prints it. A master hands it to agents; " +
      "an agent refuses every other certificate. Default: what serve's own edge has, and what the master names.",
    commands: ["master", "agent"],
    schema: value.fingerprint,
  }),
  libsodium: setting({
    flag: "libsodium",
    placeholder: "BUILD",
    default: "any",
    description:
      "Which build of libsodium is used: native, wasm (slower), or any: native where it can be loaded and Deno permits native code.",
    commands: [...EDGES, "agent"],
    schema: value.oneOf(["any", "native", "wasm"]),
  }),
  publish: setting({
    flag: "publish",
    placeholder: "tcp[:PORT][=HOST:PORT]",
    default: [],
    description:
      "Public TCP ports to ask the edge for, tcp without a port for any one, and where who connects there gets; --to when " +
      "absent. In a token: ports that it allows.",
    commands: ["agent", "token"],
    schema: value.many(value.published, PUBLISHED_PORTS_MAX),
  }),
  protocolVersion: setting({
    flag: "protocol-version",
    placeholder: "N",
    default: "2",
    description:
      "SniTun's version: 2; or 1 and 0, without visitors' IPv6 addresses, and in 0 without flow control.",
    commands: ["agent", "token"],
    schema: value.protocolVersion,
  }),
  cipher: setting({
    flag: "cipher",
    placeholder: "NAME",
    default: "aes-gcm",
    description:
      "Cipher of the frames' headers: aes-gcm, aes-gcm-siv, or aes-cbc, which can't tell a forged header.",
    commands: ["agent", "token"],
    schema: value.oneOf(["aes-gcm", "aes-gcm-siv", "aes-cbc"]),
  }),
  allow: setting({
    flag: "allow",
    placeholder: "CIDR",
    default: [],
    description: "Networks of visitors that get through; all others don't.",
    commands: AGENT,
    schema: value.many(value.network),
  }),
  block: setting({
    flag: "block",
    placeholder: "CIDR",
    default: [],
    description: "Networks of visitors that don't get through, even where --allow names them.",
    commands: AGENT,
    schema: value.many(value.network),
  }),
  ttl: setting({
    flag: "ttl",
    placeholder: "SECONDS",
    default: String(TOKEN_TTL_DEFAULT_S),
    description: "How long the token is good for.",
    commands: ["token"],
    schema: value.count("seconds", TOKEN_TTL_MIN_S, TOKEN_TTL_MAX_S),
  }),
};
