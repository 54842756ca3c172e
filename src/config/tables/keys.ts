/**
 * Settings: keys, and an edge's trust in its peers.
 *
 * @module
 */
import { EDGES, KEY_HOLDERS, MASTERS, optional, setting } from "../setting.ts";
import * as value from "../values.ts";
import { API_REQUESTS_PER_MINUTE_MAX, TOKENS_PER_MINUTE_MAX } from "../../master/limits.ts";

/** Keys, and an edge's trust in its peers. */
export const KEYS = {
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
  forwardedFrom: setting({
    flag: "forwarded-from",
    placeholder: "CIDR",
    default: [],
    description:
      "Networks of proxies before the session master: their X-Forwarded-For is believed, so that wrong keys count " +
      "for who sent them.",
    commands: MASTERS,
    schema: value.many(value.network),
  }),
  oidcIssuer: optional({
    flag: "oidc-issuer",
    placeholder: "URL",
    description:
      "An identity provider whose JWTs the session master takes as credentials; their claims name hostnames and limits.",
    commands: MASTERS,
    schema: value.httpUrl,
  }),
  oidcJwks: optional({
    flag: "oidc-jwks",
    placeholder: "URL",
    description: "Where it publishes its keys. Default: /.well-known/jwks.json at the issuer.",
    commands: MASTERS,
    schema: value.httpUrl,
  }),
  oidcAudience: setting({
    flag: "oidc-audience",
    placeholder: "NAME",
    default: "sallyport",
    description: "The audience that its JWTs must be for.",
    commands: MASTERS,
    schema: value.path,
  }),
  oidcClientId: optional({
    flag: "oidc-client-id",
    placeholder: "NAME",
    description:
      "What the identity provider calls the session master: people may then log in by it at the page. " +
      "Its redirect address is /page/login/callback.",
    commands: MASTERS,
    schema: value.path,
  }),
  oidcClientSecret: optional({
    flag: "oidc-client-secret",
    placeholder: "SECRET",
    description:
      "What the session master proves itself to the identity provider by. None for a public client.",
    commands: MASTERS,
    schema: value.path,
  }),
  oidcClientSecretFile: optional({
    flag: "oidc-client-secret-file",
    placeholder: "FILE",
    description: "File with the secret.",
    commands: MASTERS,
    fileOf: "oidcClientSecret",
    schema: value.path,
  }),
  streamsPerSource: setting({
    flag: "streams-per-source",
    placeholder: "COUNT",
    default: "256",
    description: "Streams that one address may have open to one name, and connections to one public port; " +
      "0 is without limit.",
    commands: EDGES,
    schema: value.count("streams", 0, 1_000_000),
  }),
  database: optional({
    flag: "database",
    placeholder: "PLACE",
    description:
      "Where the session master keeps agents, keys and usage: the path of an SQLite file, or postgres://USER@HOST/NAME " +
      "for several masters. Default: master.db in the data folder.",
    commands: ["serve", "master", "backup"],
    schema: value.path,
  }),
  tokensPerMinute: setting({
    flag: "tokens-per-minute",
    placeholder: "COUNT",
    default: String(TOKENS_PER_MINUTE_MAX),
    description: "Tokens that one key gets for one name in a minute, before 429.",
    commands: MASTERS,
    schema: value.count("tokens", 1, 1_000_000),
  }),
  apiRequestsPerMinute: setting({
    flag: "api-requests-per-minute",
    placeholder: "COUNT",
    default: String(API_REQUESTS_PER_MINUTE_MAX),
    description: "Requests to the session master's management API by one key in a minute, before 429.",
    commands: MASTERS,
    schema: value.count("requests", 1, 1_000_000),
  }),
  auditRetention: optional({
    flag: "audit-retention",
    placeholder: "TIME",
    description: "How long the session master keeps its audit log, such as 365d. Default: for ever.",
    commands: MASTERS,
    schema: value.duration(24 * 3_600_000, 100 * 366 * 24 * 3_600_000),
  }),
  usageRetention: optional({
    flag: "usage-retention",
    placeholder: "TIME",
    description:
      "How long it keeps each agent's usage by day, such as 400d; at least 62d, so that no month's limit forgets its " +
      "bytes. Default: for ever.",
    commands: MASTERS,
    schema: value.duration(62 * 24 * 3_600_000, 100 * 366 * 24 * 3_600_000),
  }),
  webhookNetworks: setting({
    flag: "webhook-networks",
    placeholder: "CIDR",
    default: [],
    description:
      "Networks of your own that webhooks may go to, with or without TLS. Elsewhere they go to public addresses alone, over " +
      "TLS.",
    commands: MASTERS,
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
};
