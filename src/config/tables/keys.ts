/**
 * Settings: keys, and an edge's trust in its peers.
 *
 * @module
 */
import { DAY_MS } from "../../calendar.ts";
import { EDGES, KEY_HOLDERS, MASTERS, optional, setting } from "../setting.ts";
import * as value from "../values.ts";
import { API_REQUESTS_PER_MINUTE_MAX, TOKENS_PER_MINUTE_MAX } from "../../master/limits.ts";

/** Keys, and an edge's trust in its peers. */
export const KEYS = {
  fernetKeys: optional({
    flag: "fernet-keys",
    placeholder: "KEY",
    description:
      "Fernet keys, newest first. The first one makes tokens; all of them open tokens. Default: those in the data " +
      "folder.",
    commands: KEY_HOLDERS,
    schema: value.many(value.fernetKey).min(1, "there is no key in it"),
  }),
  fernetKeysFile: optional({
    flag: "fernet-keys-file",
    placeholder: "FILE",
    description: "File with the Fernet keys, one per line, newest first.",
    commands: KEY_HOLDERS,
    fileOf: "fernetKeys",
    schema: value.path,
  }),
  adminKey: optional({
    flag: "admin-key",
    placeholder: "KEY",
    description: "Key with full access to the session master. Default: the one in the data folder.",
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
      "Networks of trusted proxies. Their connections, to public ports too, must start with a PROXY header (v1 or " +
      "v2); PROXY headers from other sources are refused.",
    commands: EDGES,
    schema: value.many(value.network),
  }),
  forwardedFrom: setting({
    flag: "forwarded-from",
    placeholder: "CIDR",
    default: [],
    description:
      "Networks of trusted proxies in front of the session master. Their X-Forwarded-For header gives the client's " +
      "address, to which failed logins are counted.",
    commands: MASTERS,
    schema: value.many(value.network),
  }),
  oidcIssuer: optional({
    flag: "oidc-issuer",
    placeholder: "URL",
    description:
      "Identity provider whose JWTs the session master accepts as credentials. Claims give hostnames and limits.",
    commands: MASTERS,
    schema: value.httpUrl,
  }),
  oidcJwks: optional({
    flag: "oidc-jwks",
    placeholder: "URL",
    description: "URL of the provider's key set. Default: the one in the provider's metadata.",
    commands: MASTERS,
    schema: value.httpUrl,
  }),
  oidcAudience: setting({
    flag: "oidc-audience",
    placeholder: "NAME",
    default: "sallyport",
    description: "Required audience of the provider's JWTs.",
    commands: MASTERS,
    schema: value.path,
  }),
  oidcAdmin: setting({
    flag: "oidc-admin",
    placeholder: "CLAIM=VALUE",
    default: [],
    description:
      "Gives the scope admin to people and programs whose claim has this value, such as groups=netops or " +
      "realm_access.roles=tunnels.",
    commands: MASTERS,
    schema: value.many(value.claimValue),
  }),
  oidcReader: setting({
    flag: "oidc-reader",
    placeholder: "CLAIM=VALUE",
    default: [],
    description: "Gives the scope read to people and programs whose claim has this value.",
    commands: MASTERS,
    schema: value.many(value.claimValue),
  }),
  oidcLoginScope: setting({
    flag: "oidc-login-scope",
    placeholder: "SCOPE",
    default: ["profile", "email"],
    description:
      "Scopes requested from the provider at login besides openid. Some providers send groups only if it is requested.",
    commands: MASTERS,
    schema: value.many(value.path),
  }),
  oidcClientId: optional({
    flag: "oidc-client-id",
    placeholder: "NAME",
    description:
      "Client ID of the session master at the identity provider. Enables login to the page by the provider; the " +
      "redirect path is /page/login/callback.",
    commands: MASTERS,
    schema: value.path,
  }),
  oidcClientSecret: optional({
    flag: "oidc-client-secret",
    placeholder: "SECRET",
    description: "Client secret of the session master at the identity provider. Omit it for a public client.",
    commands: MASTERS,
    schema: value.path,
  }),
  oidcClientSecretFile: optional({
    flag: "oidc-client-secret-file",
    placeholder: "FILE",
    description: "File with the client secret.",
    commands: MASTERS,
    fileOf: "oidcClientSecret",
    schema: value.path,
  }),
  streamsPerSource: setting({
    flag: "streams-per-source",
    placeholder: "COUNT",
    default: "256",
    description:
      "Maximum number of open streams from one address to one name, and of connections to one public port; 0 means " +
      "no limit.",
    commands: EDGES,
    schema: value.count("streams", 0, 1_000_000),
  }),
  database: optional({
    flag: "database",
    placeholder: "PLACE",
    description:
      "Database of the session master: the path of an SQLite file, or postgres://USER@HOST/NAME for several " +
      "masters. Default: master.db in the data folder.",
    commands: ["serve", "master", "backup"],
    schema: value.path,
  }),
  tokensPerMinute: setting({
    flag: "tokens-per-minute",
    placeholder: "COUNT",
    default: String(TOKENS_PER_MINUTE_MAX),
    description: "Tokens per minute that one key may request for one name. Further requests get 429.",
    commands: MASTERS,
    schema: value.count("tokens", 1, 1_000_000),
  }),
  apiRequestsPerMinute: setting({
    flag: "api-requests-per-minute",
    placeholder: "COUNT",
    default: String(API_REQUESTS_PER_MINUTE_MAX),
    description: "Requests per minute that one key may send to the management API. Further requests get 429.",
    commands: MASTERS,
    schema: value.count("requests", 1, 1_000_000),
  }),
  auditRetention: optional({
    flag: "audit-retention",
    placeholder: "TIME",
    description: "How long the session master keeps audit log entries, such as 365d. Default: forever.",
    commands: MASTERS,
    schema: value.duration(DAY_MS, 100 * 366 * DAY_MS),
  }),
  usageRetention: optional({
    flag: "usage-retention",
    placeholder: "TIME",
    description:
      "How long the session master keeps daily usage, such as 400d; at least 62d, because monthly limits depend on " +
      "it. Default: forever.",
    commands: MASTERS,
    schema: value.duration(62 * DAY_MS, 100 * 366 * DAY_MS),
  }),
  webhookNetworks: setting({
    flag: "webhook-networks",
    placeholder: "CIDR",
    default: [],
    description:
      "Your own networks that webhooks may connect to, with or without TLS. Other webhooks need a public address " +
      "and TLS.",
    commands: MASTERS,
    schema: value.many(value.network),
  }),
  throttling: setting({
    flag: "throttling",
    placeholder: "FRAMES",
    default: "0",
    description: "Frames of 8 KiB or more that a session may send per second; 0 means no limit.",
    commands: EDGES,
    schema: value.count("frames a second", 0, 1_000_000),
  }),
};
