/**
 * The table of settings: every flag, environment variable and member of the configuration file, with its default, what
 * it is for, and the schema that judges it.
 *
 * @module
 */
import { z } from "zod";
import { DEFAULT_QUEUE_LIMITS, TOKEN_TTL_DEFAULT_S, TOKEN_TTL_MAX_S, TOKEN_TTL_MIN_S } from "../limits.ts";
import { LOG_LEVELS } from "../telemetry/log.ts";
import * as value from "./values.ts";

/** A command that takes settings. */
export type CommandName = "serve" | "edge" | "master" | "agent" | "token" | "demo";

/** One setting, apart from its schema. */
export interface SettingInfo {
  /** The flag without dashes; absent where there is none. */
  readonly flag?: string;
  /** The environment variable. */
  readonly env: string;
  /** The member of the configuration file. */
  readonly member: string;
  /** What stands for its value in help texts, `HOST:PORT` for example. */
  readonly placeholder: string;
  /** Takes several values: the flag repeated, or separated by commas; in the file also as a list. */
  readonly many: boolean;
  /** What holds when it is set nowhere, as text; several values for `many`. */
  readonly default?: string | readonly string[];
  /** What it is for, in one or two sentences. */
  readonly description: string;
  /** The commands that take it. */
  readonly commands: readonly CommandName[];
  /** The commands that don't start without it. */
  readonly required: readonly CommandName[];
  /** The setting whose value is read from the file that this one names. */
  readonly fileOf?: string;
}

/** A setting with the schema of its value: from text, or a list of texts for `many`. */
export interface Setting<Schema extends z.ZodType = z.ZodType> extends SettingInfo {
  readonly schema: Schema;
}

type Given<Schema extends z.ZodType> =
  & { readonly flag: string; readonly schema: Schema }
  & Pick<SettingInfo, "placeholder" | "description" | "commands">
  & Partial<Pick<SettingInfo, "default" | "required" | "fileOf">>;

function setting<Schema extends z.ZodType>(given: Given<Schema>): Setting<Schema> {
  const word = given.flag.replaceAll("-", "_");
  const many = given.schema instanceof z.ZodArray;
  return { required: [], ...given, env: `SALLYPORT_${word.toUpperCase()}`, member: word, many };
}

function optional<Schema extends z.ZodType>(given: Given<Schema>): Setting<z.ZodOptional<Schema>> {
  return { ...setting(given), schema: given.schema.optional() };
}

/** One of SniTun's queue figures: by environment and file alone, under the reference's own name. */
function queueFigure(name: string, figure: number, description: string) {
  const env = `MULTIPLEXER_${name}`;
  return {
    env,
    member: env.toLowerCase(),
    placeholder: "BYTES",
    many: false,
    default: String(figure),
    description,
    commands: ["serve", "edge", "agent"] as CommandName[],
    required: [],
    schema: value.count("bytes", 1),
  } satisfies Setting;
}

const EDGES: readonly CommandName[] = ["serve", "edge"];
const MASTERS: readonly CommandName[] = ["serve", "master"];
const KEY_HOLDERS: readonly CommandName[] = ["serve", "edge", "master", "token"];
const AGENT: readonly CommandName[] = ["agent"];
const ALL: readonly CommandName[] = ["serve", "edge", "master", "agent", "token", "demo"];

/** All settings; the names are those of {@link import("../config.ts").Config}. */
export const SETTINGS = {
  config: optional({
    flag: "config",
    placeholder: "FILE",
    description: "JSON file with settings: the flags' names with _ for -, such as agent_listen.",
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
      "The edge's address that tokens name. Default: localhost and the port of the first agents' listener.",
    commands: MASTERS,
    schema: value.hostPort(1, "edge.example.org:8443"),
  }),
  dataDir: setting({
    flag: "data-dir",
    placeholder: "FOLDER",
    default: "./data",
    description:
      "Where keys are kept that are made on the first start, or that an agent believed on first use.",
    commands: [...KEY_HOLDERS, ...AGENT],
    schema: value.path,
  }),
  fernetKeys: optional({
    flag: "fernet-keys",
    placeholder: "KEY",
    description: "Keys that tokens are made with (the first) and opened with (any): newest first. " +
      "Default: those of the data folder.",
    commands: KEY_HOLDERS,
    schema: value.many(value.fernetKey).min(1, "there is no key in it"),
  }),
  fernetKeysFile: optional({
    flag: "fernet-keys-file",
    placeholder: "FILE",
    description: "File with the Fernet keys, one a line, newest first.",
    commands: KEY_HOLDERS,
    fileOf: "fernetKeys",
    schema: value.path,
  }),
  adminKey: optional({
    flag: "admin-key",
    placeholder: "KEY",
    description: "Key that may ask the session master for any name. Default: that of the data folder.",
    commands: MASTERS,
    schema: value.bearerKey,
  }),
  adminKeyFile: optional({
    flag: "admin-key-file",
    placeholder: "FILE",
    description: "File with the admin key.",
    commands: MASTERS,
    fileOf: "adminKey",
    schema: value.path,
  }),
  proxyProtocolFrom: setting({
    flag: "proxy-protocol-from",
    placeholder: "CIDR",
    default: [],
    description:
      "Networks of proxies: their connections must open with a PROXY header (v1 or v2), which is believed. " +
      "From everybody else such a header is refused.",
    commands: EDGES,
    schema: value.many(value.network),
  }),
  throttling: setting({
    flag: "throttling",
    placeholder: "FRAMES",
    default: "0",
    description: "Frames of 8 KiB or more that a session may send in a second; 0 is without limit.",
    commands: EDGES,
    schema: value.count("frames a second", 0, 1_000_000),
  }),
  master: optional({
    flag: "master",
    placeholder: "URL",
    description: "The session master that gives tokens.",
    commands: AGENT,
    required: AGENT,
    schema: value.httpUrl,
  }),
  credential: optional({
    flag: "credential",
    placeholder: "KEY",
    description: "Key that the session master knows this agent by.",
    commands: AGENT,
    required: AGENT,
    schema: value.bearerKey,
  }),
  credentialFile: optional({
    flag: "credential-file",
    placeholder: "FILE",
    description: "File with that key.",
    commands: AGENT,
    fileOf: "credential",
    schema: value.path,
  }),
  hostname: optional({
    flag: "hostname",
    placeholder: "NAME",
    description: "The name that visitors ask for.",
    commands: ["agent", "token"],
    required: ["agent", "token"],
    schema: value.hostname,
  }),
  alias: setting({
    flag: "alias",
    placeholder: "NAME",
    default: [],
    description: "Further names.",
    commands: ["agent", "token"],
    schema: value.many(value.hostname, 255),
  }),
  to: optional({
    flag: "to",
    placeholder: "HOST:PORT",
    description: "The endpoint that visitors reach, a server that speaks TLS itself.",
    commands: AGENT,
    required: AGENT,
    schema: value.hostPort(1, "127.0.0.1:443 or [::1]:443"),
  }),
  edge: optional({
    flag: "edge",
    placeholder: "HOST:PORT",
    description: "The edge to connect to. Default: the one that the token names.",
    commands: AGENT,
    schema: value.hostPort(1, "edge.example.org:8443"),
  }),
  transport: setting({
    flag: "transport",
    placeholder: "NAME",
    default: "snitun",
    description:
      "How the session crosses the network: snitun; sealed, without visible protocol; curve, UDP that bears loss and moves.",
    commands: AGENT,
    schema: value.oneOf(["snitun", "sealed", "curve"]),
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
  libsodium: setting({
    flag: "libsodium",
    placeholder: "BUILD",
    default: "any",
    description:
      "Which build of libsodium the sealed transport uses: native, wasm (slower), or any: native where it can be loaded.",
    commands: [...EDGES, "agent"],
    schema: value.oneOf(["any", "native", "wasm"]),
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
  logLevel: setting({
    flag: "log-level",
    placeholder: "LEVEL",
    default: "info",
    description: `How much is logged on standard error: ${LOG_LEVELS.join(", ")}.`,
    commands: ["serve", "edge", "master", "agent", "demo"],
    schema: value.oneOf(LOG_LEVELS),
  }),
  logFormat: setting({
    flag: "log-format",
    placeholder: "FORMAT",
    default: "text",
    description: "How it is logged: text for people, json for machines.",
    commands: ["serve", "edge", "master", "agent", "demo"],
    schema: value.oneOf(["text", "json"]),
  }),
  incomingMaxBytes: queueFigure(
    "INCOMING_QUEUE_MAX_BYTES_CHANNEL",
    DEFAULT_QUEUE_LIMITS.incomingMaxBytes,
    "Received bytes of a stream that may wait; beyond it the stream is closed.",
  ),
  incomingMaxBytesV0: queueFigure(
    "INCOMING_QUEUE_MAX_BYTES_CHANNEL_V0",
    DEFAULT_QUEUE_LIMITS.incomingMaxBytesV0,
    "The same for protocol version 0, which can't pause its sender.",
  ),
  incomingLowBytes: queueFigure(
    "INCOMING_QUEUE_LOW_WATERMARK",
    DEFAULT_QUEUE_LIMITS.incomingLowBytes,
    "A paused sender of a stream may go on when so few received bytes wait.",
  ),
  incomingHighBytes: queueFigure(
    "INCOMING_QUEUE_HIGH_WATERMARK",
    DEFAULT_QUEUE_LIMITS.incomingHighBytes,
    "A stream's sender is paused when so many received bytes wait.",
  ),
  outgoingMaxBytes: queueFigure(
    "OUTGOING_QUEUE_MAX_BYTES_CHANNEL",
    DEFAULT_QUEUE_LIMITS.outgoingMaxBytes,
    "Bytes of a stream that may wait to be sent; beyond it the stream is reset.",
  ),
  outgoingLowBytes: queueFigure(
    "OUTGOING_QUEUE_LOW_WATERMARK",
    DEFAULT_QUEUE_LIMITS.outgoingLowBytes,
    "The socket that feeds a stream is read again when so few bytes wait to be sent.",
  ),
  outgoingHighBytes: queueFigure(
    "OUTGOING_QUEUE_HIGH_WATERMARK",
    DEFAULT_QUEUE_LIMITS.outgoingHighBytes,
    "The socket that feeds a stream isn't read when so many bytes wait to be sent.",
  ),
};

/** The name of a setting in {@link SETTINGS}. */
export type SettingName = keyof typeof SETTINGS;

/** The names and settings that a command takes, in the order of help texts. */
export function settingsOf(command: CommandName): [SettingName, Setting][] {
  const all = Object.entries(SETTINGS) as [SettingName, Setting][];
  return all.filter(([, { commands }]) => commands.includes(command));
}
