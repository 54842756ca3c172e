/**
 * The bodies of the session master's API: one zod schema each, which validates the input and generates the OpenAPI
 * document.
 *
 * @module
 */

import { z } from "@hono/zod-openapi";
import { canonicalServedName, servedNameFault } from "../wire/wildcard.ts";
import {
  formatPublishClaim,
  parsePublishClaim,
  PUBLISHED_PORTS_MAX,
  SHARED_INSTANCE,
  TRANSPORT_NAME,
  TRANSPORTS_MAX,
} from "../wire/token/claims.ts";
import { TOKEN_TTL_DEFAULT_S, TOKEN_TTL_MAX_S, TOKEN_TTL_MIN_S } from "../protocol/token/token.ts";
import { canonicalHostname, HOSTNAME_MAX_LENGTH, hostnameFault, isHostname } from "../wire/hostname.ts";
import { EDGES_PER_AGENT_MAX, INSTANCE } from "../wire/token/route_group.ts";
import { NAMES_PER_SESSION_MAX } from "../wire/token/token_payload.ts";

/** Ciphers that a token may name (docs/protocols/snitun.md, Token). */
export const CIPHERS = ["aes-cbc", "aes-gcm", "aes-gcm-siv"] as const;
/** Versions of SniTun that a token may name. */
export const PROTOCOL_VERSIONS = [0, 1, 2] as const;
const PROTOCOL_VERSION_DEFAULT = 2;

/** Token lifetimes granted by the master, in seconds. */
export interface TokenTtl {
  /** The default. */
  readonly defaultS: number;
  /** The minimum. */
  readonly minS: number;
  /** The maximum. */
  readonly maxS: number;
}

/** The lifetimes of protocol/token/token.ts. */
export const DEFAULT_TOKEN_TTL: TokenTtl = {
  defaultS: TOKEN_TTL_DEFAULT_S,
  minS: TOKEN_TTL_MIN_S,
  maxS: TOKEN_TTL_MAX_S,
};

/** A version; the generator itself handles only the first value of a literal. */
function versionSchema(error?: string) {
  return z.literal([...PROTOCOL_VERSIONS], { error }).openapi({
    type: "integer",
    enum: [...PROTOCOL_VERSIONS],
  });
}

/** Reports "is required" for an absent member and `otherwise` for an invalid one. */
function required(otherwise: string) {
  return (issue: { readonly input?: unknown }) => issue.input === undefined ? "is required" : otherwise;
}

function nameSchema(faultOf: (text: string) => string | undefined, canonical: (text: string) => string) {
  return z.string({ error: required("must be a string") })
    // One more than the maximum length of a name: for its trailing dot.
    .max(HOSTNAME_MAX_LENGTH + 1, {
      error: `must have at most ${HOSTNAME_MAX_LENGTH} characters`,
      abort: true,
    })
    .superRefine((text, context) => {
      const fault = faultOf(text);
      if (fault !== undefined) context.addIssue({ code: "custom", message: `isn't a hostname: ${fault}` });
    })
    .transform(canonical);
}

/** Why `text` isn't the name of a host, whose last label isn't all digits as in an IP address. */
function publicNameFault(text: string): string | undefined {
  return hostnameFault(text) ?? (isHostname(text) ? undefined : "no top-level domain is all digits");
}

/** A hostname, or a wildcard of one label, as written by a client; output in canonical form. */
const ServedNameSchema = nameSchema(servedNameFault, canonicalServedName);
/** A public hostname as written by a client; output in canonical form. */
export const HostnameSchema = nameSchema(publicNameFault, canonicalHostname);

/** A public port as written by a client; output in one form. */
export const PublishSchema = z.string({ error: "must be a string" }).superRefine((text, context) => {
  if (parsePublishClaim(text) === undefined) {
    context.addIssue({
      code: "custom",
      message: "isn't a public port: tcp, or tcp:2222 with a port to 65535",
    });
  }
}).transform((text) => formatPublishClaim(parsePublishClaim(text) ?? {})).openapi({
  type: "string",
  pattern:
    "^tcp(:(0|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?$",
});

/** Names in the OpenAPI document: ASCII labels, the last one not all digits as in an IP address. */
const NAME_PATTERN = "([A-Za-z0-9_-]{1,63}\\.){0,3}[A-Za-z_-][A-Za-z0-9_-]{0,62}";
/** A hostname in the OpenAPI document. */
export const HOSTNAME_OPENAPI = { type: "string", maxLength: 253, pattern: `^${NAME_PATTERN}$` } as const;

const ANY_BELOW = "*.";
/** A hostname, or `*.` followed by one for all names below it at any depth; output in canonical form. */
export const HostnamePatternSchema = nameSchema(
  (text) => publicNameFault(text.startsWith(ANY_BELOW) ? text.slice(ANY_BELOW.length) : text),
  (text) =>
    text.startsWith(ANY_BELOW)
      ? ANY_BELOW + canonicalHostname(text.slice(ANY_BELOW.length))
      : canonicalHostname(text),
).openapi({ type: "string", maxLength: 253, pattern: `^(\\*\\.)?${NAME_PATTERN}$` });

const EXAMPLE_NAME = "a.example.org";
const EXAMPLE_ALIAS = "b.example.org";

/** The body of POST /v1/tokens. */
export function tokenRequestSchema(ttl: TokenTtl) {
  return z.strictObject({
    hostname: ServedNameSchema.openapi({
      ...HOSTNAME_OPENAPI,
      description: "The name that the agent serves; case and a dot at the end don't matter",
      example: EXAMPLE_NAME,
    }),
    alias: z.array(ServedNameSchema.openapi(HOSTNAME_OPENAPI), { error: "must be a list of names" })
      .max(NAMES_PER_SESSION_MAX - 1, {
        error: `must have at most ${NAMES_PER_SESSION_MAX - 1} names`,
        abort: true,
      })
      .default([])
      .openapi({ description: "Further names that it serves", example: [EXAMPLE_ALIAS] }),
    ...sessionOptions(ttl),
    publish: z.array(PublishSchema, { error: "must be a list of public ports" })
      .max(PUBLISHED_PORTS_MAX, { error: `must have at most ${PUBLISHED_PORTS_MAX} ports`, abort: true })
      .default([])
      .openapi({
        description:
          "Public TCP ports that the agent may request from the edge, one per entry: tcp:2222, or tcp for any port",
        example: ["tcp:2222"],
      }),
  }, { error: "must be a JSON object" }).openapi("TokenRequest");
}

/** The body of POST /v1/agent-tokens, without names: the master knows them. */
export function ownTokenRequestSchema(ttl: TokenTtl) {
  return z.strictObject(sessionOptions(ttl), { error: "must be a JSON object" }).openapi("OwnTokenRequest");
}

const EDGES_TEXT = `must be a whole number from 1 to ${EDGES_PER_AGENT_MAX}`;

/** Options of the session in every token request. */
function sessionOptions(ttl: TokenTtl) {
  const ttlText = `must be a whole number from ${ttl.minS} to ${ttl.maxS}`;
  return {
    protocol_version: versionSchema("must be 0, 1 or 2")
      .default(PROTOCOL_VERSION_DEFAULT)
      .openapi({
        description: "The version of SniTun that the session speaks",
        default: PROTOCOL_VERSION_DEFAULT,
        example: 2,
      }),
    cipher: z.enum(CIPHERS, { error: `must be one of ${CIPHERS.join(", ")}` })
      .default("aes-gcm")
      .openapi({ description: "The cipher that protects the session's headers", example: "aes-gcm" }),
    transports: z.array(z.string().regex(TRANSPORT_NAME, { error: "must be a transport's name" }), {
      error: "must be a list of transports",
    })
      .min(1, { error: "must name a transport" })
      .max(TRANSPORTS_MAX, { error: `must have at most ${TRANSPORTS_MAX} transports`, abort: true })
      .optional()
      .openapi({
        description: "The transports for which the token is valid; default: any",
        example: ["sealed", "curve"],
      }),
    shared: z.string().regex(SHARED_INSTANCE, {
      error: "must name the agent by 8 to 64 letters, digits, - and _",
    })
      .optional()
      .openapi({
        description:
          "Lets other agents serve the same hostname at the same time; names this one, the same at each request",
        example: "agent-1f8e7d6c",
      }),
    region: z.string().regex(/^[\w.-]{1,64}$/, { error: "must be at most 64 letters, digits and -_." })
      .optional()
      .openapi({ description: "Where the agent is: edges of its region come first", example: "eu-1" }),
    instance: z.string().regex(INSTANCE, {
      error: "must be 8 to 60 letters, digits, - and _, a dot, and a number from 0 to 3",
    })
      .optional()
      .openapi({
        description:
          "Names one of the sessions that the agent keeps at several edges at once: its run, and a number",
        example: "agent-1f8e7d6c.0",
      }),
    edges: z.int({ error: EDGES_TEXT }).min(1, { error: EDGES_TEXT }).max(EDGES_PER_AGENT_MAX, {
      error: EDGES_TEXT,
    })
      .optional()
      .openapi({
        description:
          "With instance: at how many edges the agent keeps sessions; its limits are divided by it",
        example: 2,
      }),
    ttl_seconds: z.int({ error: ttlText }).min(ttl.minS, { error: ttlText }).max(ttl.maxS, { error: ttlText })
      .default(ttl.defaultS)
      .openapi({ description: "Lifetime of the token", example: ttl.defaultS }),
  };
}

/** An edge, and how agents can reach it. */
const EdgeSchema = z.object({
  host: z.string().openapi({ example: "edge.example.net" }),
  port: z.int().min(1).max(65535).openapi({ example: 8443 }),
  public_key: z.string().regex(/^[\w-]{43}$/).optional().openapi({
    description:
      "The edge's public key for the sealed and the curve transport, 32 bytes in base64url; absent if it has none",
    example: "A".repeat(43),
  }),
  curve_port: z.int().min(1).max(65535).optional().openapi({
    description: "Its UDP port for the curve transport, if it has one",
    example: 8443,
  }),
  quic_port: z.int().min(1).max(65535).optional().openapi({
    description: "Its UDP port for the QUIC transport, if it has one",
    example: 8444,
  }),
  certificate_fingerprint: z.string().regex(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/).optional().openapi({
    description: "SHA-256 of its certificate for the QUIC transport, if it has one",
    example: Array(32).fill("00").join(":"),
  }),
  transports: z.array(z.string()).optional().openapi({
    description: "The transports that it offers",
    example: ["snitun", "sealed"],
  }),
});

/** The response of POST /v1/tokens. */
export const TokenResponseSchema = z.object({
  token: z.string().openapi({
    description: "The Fernet token that the agent presents to the edge; secret",
    example: "gAAAAABo…",
  }),
  hostname: z.string().openapi({ description: "The name in canonical form", example: EXAMPLE_NAME }),
  alias: z.array(z.string()).openapi({
    description: "The further names in canonical form, each once",
    example: [EXAMPLE_ALIAS],
  }),
  aes_key: z.string().regex(/^[0-9a-f]{64}$/).openapi({
    description: "32 bytes in hexadecimal, fresh for this token; secret",
    example: "00".repeat(32),
  }),
  aes_iv: z.string().regex(/^[0-9a-f]{32}$/).openapi({
    description: "16 bytes in hexadecimal, fresh for this token; secret",
    example: "00".repeat(16),
  }),
  cipher: z.enum(CIPHERS).openapi({ example: "aes-gcm" }),
  protocol_version: versionSchema().openapi({ example: 2 }),
  publish: z.array(z.string()).openapi({
    description: "The public TCP ports that the token allows",
    example: ["tcp:2222"],
  }),
  valid: z.int().openapi({
    description: "When the token expires, in seconds since 1970",
    example: 1_790_000_000,
  }),
  edge: EdgeSchema.openapi({ description: "The address that the agent dials" }),
  edges: z.array(EdgeSchema).optional().openapi({
    description: "If the edges are a cluster: `edge` and others that the agent may dial, best first",
  }),
}).openapi("TokenResponse");

/** The response of GET /healthz. */
export const HealthSchema = z.object({
  status: z.literal("ok").openapi({ example: "ok" }),
}).openapi("Health");

/** The response of GET /readyz; a check that is text says what is missing. */
export const ReadinessSchema = z.object({
  status: z.enum(["ready", "not ready"]).openapi({ example: "ready" }),
  checks: z.record(z.string(), z.union([z.boolean(), z.string()])).openapi({
    description: "The results of the checks: true, false, or a description of the fault",
    example: { listeners: true, keys: true },
  }),
}).openapi("Readiness");

/** The response of GET /. */
export const IndexSchema = z.object({
  name: z.string().openapi({ example: "Sallyport session master" }),
  version: z.string().openapi({ example: "0.1.0" }),
  endpoints: z.record(z.string(), z.string()).openapi({
    description: "What each endpoint does",
    example: { "GET /healthz": "Whether the process runs" },
  }),
}).openapi("Index");

/** The validated body of POST /v1/tokens. */
export type TokenRequest = z.output<ReturnType<typeof tokenRequestSchema>>;
/** The response of POST /v1/tokens. */
export type TokenResponse = z.infer<typeof TokenResponseSchema>;
