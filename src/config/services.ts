/**
 * Services in a configuration file: one schema for YAML and JSON, from which the JSON Schema for editors is also
 * derived.
 *
 * @module
 */
import { z } from "zod";
import { DAY_MS } from "../calendar.ts";
import { parsePasswordHash } from "../agent/gate/password_hash.ts";
import { type Service, serviceDefaults } from "../agent/services/service.ts";
import { errorMessage } from "../errors.ts";
import type { ConfigFile, FileFault } from "./file.ts";
import { didYouMean } from "./suggest.ts";
import * as value from "./values.ts";

/** Services of one agent. */
export const SERVICES_MAX = 1_000;
/** Names of one service. */
const NAMES_MAX = 255;
/** Targets of one service. */
const TARGETS_MAX = 64;

/** RFC 9110 §5.6.2: a field name is a token. */
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

const name = value.servedName.describe(
  "A host name, or a wildcard that covers one label: *.home.example.org.",
);
const target = value.target.describe(
  "Where the visitors' bytes go: HOST:PORT or https://HOST:PORT for a server that speaks TLS itself; http://, " +
    "https+insecure://, unix:/PATH, file:///FOLDER, for which TLS ends in the agent; tcp://HOST:PORT.",
);
const count = (max: number) => z.int().min(1).max(max);
const headers = z.record(
  z.string().regex(HEADER_NAME, "isn't the name of a header"),
  // deno-lint-ignore no-control-regex
  z.string().regex(/^[^\x00-\x08\x0a-\x1f\x7f]*$/, "has characters that a header can't contain"),
).transform((given) =>
  Object.fromEntries(Object.entries(given).map(([key, text]) => [key.toLowerCase(), text]))
);

const healthCheck = z.preprocess(
  (given) => typeof given === "string" ? { kind: given } : given,
  z.strictObject({
    kind: z.enum(["tcp", "http"]).describe(
      "tcp: the target accepts a connection. http: it answers a GET successfully.",
    ),
    path: z.string().startsWith("/", "it doesn't start with /").optional().describe(
      "For http: the requested path. Default: /.",
    ),
    status: z.int().min(100).max(599).optional().describe(
      "For http: the one status that counts as healthy. Default: any from 200 to 399.",
    ),
    interval: value.duration(1_000, DAY_MS).default(10_000).describe(
      "Interval between checks. Default: 10s.",
    ),
    timeout: value.duration(100, 60_000).default(5_000).describe(
      "How long an answer may take. Default: 5s.",
    ),
  }),
);

const tls = z.preprocess(
  (given) => typeof given === "string" ? { mode: given } : given,
  z.strictObject({
    mode: z.enum(["passthrough", "acme", "self-signed"]).optional(),
    certificate: value.path.optional().describe("A PEM file with the certificate chain."),
    key: value.path.optional().describe("A PEM file with its key."),
  }),
).transform((given, context): Service["tls"] => {
  const { mode, certificate, key } = given;
  if (mode !== undefined && certificate === undefined && key === undefined) return mode;
  if (mode === undefined && certificate !== undefined && key !== undefined) {
    return { certificateFile: certificate, keyFile: key };
  }
  context.addIssue({
    code: "custom",
    message: "it must be passthrough, acme, self-signed, or a certificate with its key",
  });
  return z.NEVER;
}).describe(
  "Where TLS ends. passthrough: at the target. acme: here, with a certificate from an authority. self-signed: here. " +
    "Or a certificate and its key, in PEM files.",
);

const basicAuth = z.strictObject({
  realm: z.string().optional(),
  users: z.record(
    z.string().min(1).regex(/^[^:]*$/, "has a colon, which a user name can't contain"),
    z.string().superRefine((hash, context) => {
      try {
        parsePasswordHash(hash);
      } catch (error) {
        context.addIssue({
          code: "custom",
          message: errorMessage(error).replace("Cannot use password hash: ", ""),
        });
      }
    }),
  )
    .describe("User names and the hashes of their passwords."),
});

const oidc = z.strictObject({
  issuer: z.url("it is not a URL such as https://accounts.example.org").describe(
    "The provider's issuer URL.",
  ),
  client_id: z.string().min(1),
  client_secret_file: value.path.optional(),
  allowed_mails: z.array(z.string()).optional(),
  allowed_groups: z.array(z.string()).optional(),
  session: value.duration(60_000, 30 * DAY_MS).optional().describe("How long a login lasts."),
}).transform((given) => ({
  issuer: given.issuer,
  clientId: given.client_id,
  ...given.client_secret_file === undefined ? {} : { clientSecretFile: given.client_secret_file },
  ...given.allowed_mails === undefined ? {} : { allowedMails: given.allowed_mails },
  ...given.allowed_groups === undefined ? {} : { allowedGroups: given.allowed_groups },
  ...given.session === undefined ? {} : { sessionSeconds: given.session / 1000 },
}));

/** A service in a file. */
export const serviceSchema = z.strictObject({
  name: name.describe("The service's name, a host name or *.DOMAIN; logs call it by this."),
  aliases: z.array(name).max(NAMES_MAX).optional().describe("Further names."),
  target: target.optional(),
  targets: z.array(target).min(1).max(TARGETS_MAX).optional().describe(
    "Several targets: visitors get the first healthy one.",
  ),
  tls: tls.optional(),
  proxy_protocol: z.literal([0, 1, 2]).optional().describe(
    "Version of the PROXY header in front of each connection to the target; 0 for none.",
  ),
  allow: z.array(value.network).optional().describe(
    "Networks from which visitors are admitted; all others are refused.",
  ),
  block: z.array(value.network).optional().describe("Networks from which visitors are refused."),
  limits: z.strictObject({
    connections: count(1_000_000).optional().describe("Visitors' connections at the same time."),
    connections_per_visitor: count(1_000_000).optional().describe("The same from one address."),
    request_body: value.size.optional().describe("For HTTP: the largest request body, such as 10MB."),
  }).optional(),
  health_check: healthCheck.optional().describe("tcp, http, or an object."),
  headers: z.strictObject({ request: headers.optional(), response: headers.optional() }).optional().describe(
    "Headers set on requests to the target and on responses to visitors; an empty value removes one.",
  ),
  idle_timeout: value.duration(30_000, 7 * DAY_MS).optional().describe(
    "A connection without a byte in either direction ends after this time, such as 90s or 1h. Default: 1h.",
  ),
  access_log: z.string().min(1).optional().describe(
    "A file for a JSON line per connection or request; - for standard output.",
  ),
  shared: z.boolean().optional().describe("Other agents serve the same names at the same time."),
  basic_auth: basicAuth.optional(),
  oidc: oidc.optional(),
}).transform((given, context): Service => {
  const issue = (path: string[], message: string) => context.addIssue({ code: "custom", path, message });
  if (given.target !== undefined && given.targets !== undefined) {
    issue(["targets"], "target is given too: leave out one");
  }
  const targets = given.targets ?? (given.target === undefined ? [] : [given.target]);
  const at = given.targets === undefined ? ["target"] : ["targets"];
  if (targets.length === 0) {
    issue([], "it has no target, for example `target: http://127.0.0.1:3000`");
    return z.NEVER;
  }
  const names = [...new Set([given.name, ...given.aliases ?? []])];
  const { connections, connections_per_visitor, request_body } = given.limits ?? {};
  const { kind, path, status, interval, timeout } = given.health_check ?? {};
  const auth = {
    ...given.basic_auth === undefined ? {} : { basicAuth: given.basic_auth },
    ...given.oidc === undefined ? {} : { oidc: given.oidc },
  };
  const service = serviceDefaults({
    names,
    targets,
    ...given.tls === undefined ? {} : { tls: given.tls },
    proxyProtocol: given.proxy_protocol ?? 0,
    allow: given.allow ?? [],
    block: given.block ?? [],
    limits: {
      ...connections === undefined ? {} : { connections },
      ...connections_per_visitor === undefined ? {} : { connectionsPerVisitor: connections_per_visitor },
      ...request_body === undefined ? {} : { requestBodyBytes: request_body },
    },
    ...kind === undefined ? {} : {
      healthCheck: {
        kind,
        ...path === undefined ? {} : { path },
        ...status === undefined ? {} : { status },
        intervalMs: interval!,
        timeoutMs: timeout!,
      },
    },
    requestHeaders: given.headers?.request ?? {},
    responseHeaders: given.headers?.response ?? {},
    ...given.idle_timeout === undefined ? {} : { idleTimeoutMs: given.idle_timeout },
    ...Object.keys(auth).length === 0 ? {} : { auth },
    ...given.access_log === undefined ? {} : { accessLog: given.access_log },
    shared: given.shared ?? false,
  });
  for (const [member, message] of serviceFaults(service)) issue(member === "target" ? at : [member], message);
  return service;
});

/** The services of a file. */
export const servicesSchema = z.array(serviceSchema).min(1).max(SERVICES_MAX);

/** Conflicts within a service: the member to blame, and why. */
export function serviceFaults(service: Service): readonly (readonly [member: string, message: string])[] {
  const faults: [string, string][] = [];
  const { targets, tls, auth } = service;
  const seesRequests = tls !== "passthrough" && targets.every(({ protocol }) => protocol !== "tcp");
  const plain = targets.find((found) => found.protocol === "http" || found.protocol === "files");
  if (tls === "passthrough" && plain !== undefined) {
    faults.push([
      "target",
      `${plain.text} doesn't take the visitor's TLS, which tls: passthrough leaves to it`,
    ]);
  }
  const needsRequests = [
    ["headers", Object.keys({ ...service.requestHeaders, ...service.responseHeaders }).length > 0],
    ["basic_auth", auth?.basicAuth !== undefined],
    ["oidc", auth?.oidc !== undefined],
    ["limits", service.limits.requestBodyBytes !== undefined],
  ] as const;
  for (const [member, isSet] of needsRequests) {
    if (!isSet || seesRequests) continue;
    const why = tls === "passthrough"
      ? `it needs TLS that ends in the agent (tls: acme), and ${service.names[0]} is passed through`
      : "it needs HTTP, but the target is tcp://";
    faults.push([member, why]);
  }
  if (targets.length > 1 && new Set(targets.map(({ protocol }) => protocol === "files")).size > 1) {
    faults.push(["target", "a folder can't stand in for a server"]);
  }
  return faults;
}

/** The services in a file's `services`, or all faults in them. */
export function readServices(
  file: ConfigFile,
): { readonly services: readonly Service[]; readonly faults: readonly FileFault[] } {
  const given = file.members.services;
  if (given === undefined) return { services: [], faults: [] };
  const result = servicesSchema.safeParse(given, { reportInput: true });
  const faults: FileFault[] = [];
  if (!result.success) {
    for (const issue of result.error.issues) faults.push(...faultsOf(file, ["services"], issue));
    return { services: [], faults };
  }
  const first = new Map<string, number>();
  for (const [index, { names }] of result.data.entries()) {
    for (const [place, served] of names.entries()) {
      const before = first.get(served);
      if (before !== undefined) {
        const path = ["services", index, ...place === 0 ? ["name"] : ["aliases", place - 1]];
        const other = result.data[before]!.names[0];
        faults.push({
          ...file.position(path),
          message: `${labelOf(path)}: ${served} is served by ${other} already`,
        });
      }
      first.set(served, index);
    }
  }
  return { services: result.data, faults };
}

/** Converts a zod issue to faults in a file. */
function faultsOf(
  file: ConfigFile,
  base: readonly PropertyKey[],
  issue: z.core.$ZodIssue,
): readonly FileFault[] {
  const path = [...base, ...issue.path];
  const label = labelOf(path);
  if (issue.code === "unrecognized_keys") {
    const known = membersAt(servicesSchema, issue.path);
    return issue.keys.map((key) => ({
      ...file.position([...path, key], { key: true }),
      message: `${labelOf([...path, key])}: there is no such member.${
        // The flag of this member is called --to.
        key === "to" && known.includes("target") ? " Did you mean target?" : didYouMean(key, known)}`,
    }));
  }
  return [{ ...file.position(path), message: `${label}: ${reasonOf(issue)}` }];
}

/** The members of the object at this path in a schema. */
function membersAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): readonly string[] {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  if (def.type === "pipe") return [def.in, def.out].flatMap((side) => membersAt(side, path));
  if ("innerType" in def) return membersAt(def.innerType, path);
  const [member, ...rest] = path;
  if (def.type === "array") return membersAt(def.element, rest);
  if (def.type !== "object") return [];
  const inner = def.shape[String(member)];
  return member === undefined ? Object.keys(def.shape) : inner === undefined ? [] : membersAt(inner, rest);
}

/** The library's message in our words. */
function reasonOf(issue: z.core.$ZodIssue): string {
  if (issue.code === "invalid_value") {
    return `${JSON.stringify(issue.input)} is not one of ${issue.values.join(", ")}`;
  }
  if (issue.code === "invalid_key") return issue.issues[0]?.message ?? issue.message;
  if (issue.code === "too_small" || issue.code === "too_big") {
    const [isLess, bound] = issue.code === "too_small" ? [true, issue.minimum] : [false, issue.maximum];
    if (typeof issue.input === "number") return `${issue.input} is ${isLess ? "less" : "more"} than ${bound}`;
    return isLess ? "it is empty" : `it has more than ${bound} entries`;
  }
  if (issue.code !== "invalid_type") return issue.message;
  if (issue.expected === "int") return `${issue.input} is not a whole number`;
  const received = /received (\w+)/.exec(issue.message)?.[1];
  if (received === "undefined") return "it is missing";
  return `it must be ${withArticle(issue.expected)}, not ${withArticle(received ?? "null")}`;
}

function withArticle(type: string): string {
  return type === "null" ? type : `${/^[ao]/.test(type) ? "an" : "a"} ${type}`;
}

/** `services[1].health_check.path`. */
function labelOf(path: readonly PropertyKey[]): string {
  return path.map((part) => typeof part === "number" ? `[${part}]` : `.${String(part)}`).join("").slice(1);
}
