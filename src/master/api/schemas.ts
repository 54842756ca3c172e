/**
 * The bodies of the management API: one zod schema each, which validates the input and generates the OpenAPI document.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";
import { errorMessage } from "../../errors.ts";
import { isAgentPublicKey } from "../../protocol/token/agent_proof.ts";
import { NetworkSet } from "../../wire/ip/networks.ts";
import { type AgentLimits, LIMIT_NAMES } from "../../wire/token/agent_claim.ts";
import { PUBLISHED_PORTS_MAX } from "../../wire/token/claims.ts";
import { NAMES_PER_SESSION_MAX } from "../../wire/token/token_payload.ts";
import type { FernetKeyInfo } from "../key_ring.ts";
import { JOIN_TTL_DEFAULT_S, JOIN_TTL_MAX_S } from "../management.ts";
import type { Agent, ApiKey, AuditRecord, LiveSession, UsageRow } from "../model.ts";
import { isFernetKey } from "../../crypto/fernet.ts";
import { HostnamePatternSchema, PublishSchema } from "../schemas.ts";
import { isCursor } from "../store/cursor.ts";

/** Longest notes of an agent, in characters. */
export const NOTES_MAX_LENGTH = 2_000;
/** Networks in one of an agent's lists. */
export const NETWORKS_MAX = 64;
/** Entries on one page of a list. */
export const PAGE_MAX = 500;
const PAGE_DEFAULT = 50;

const NAME = /^[A-Za-z0-9][\w.-]{0,62}$/;
const WORD = /^[\w.-]{1,64}$/;

const name = z.string({ error: "must be a string" })
  .regex(NAME, {
    error: "must begin with a letter or digit and have at most 63 letters, digits, dots, - and _",
  });
const word = z.string({ error: "must be a string" })
  .regex(WORD, { error: "must have 1 to 64 letters, digits, dots, - and _" });

const NetworkSchema = z.string({ error: "must be a string" }).superRefine((text, context) => {
  try {
    new NetworkSet([text]);
  } catch (error) {
    const why = errorMessage(error).replace(/^Cannot parse network: /, "");
    context.addIssue({ code: "custom", message: `isn't a network: ${why}` });
  }
}).openapi({
  // Not expressible here: the bits after the prefix are zero.
  pattern: "^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?$",
  format: "cidr",
});

const networks = (description: string) =>
  z.array(NetworkSchema, { error: "must be a list of networks" })
    .max(NETWORKS_MAX, { error: `must have at most ${NETWORKS_MAX} networks` })
    .openapi({ description, example: ["192.0.2.0/24"] });

const LIMIT_TEXTS: Readonly<Record<keyof AgentLimits, string>> = {
  sessions: "Sessions at the same time, at one edge",
  streams: "Visitors' streams at the same time, at one edge",
  visitors_per_second: "New visitors a second",
  bytes_per_second_to_agent: "Payload bytes a second from visitors to the agent",
  bytes_per_second_to_visitor: "Payload bytes a second from the agent to visitors",
  monthly_bytes: "Payload bytes both ways in a calendar month (UTC)",
};

/** An agent's limits at an edge. */
export const LimitsSchema = z.strictObject(
  Object.fromEntries(
    LIMIT_NAMES.map((limit) => [
      limit,
      z.int({ error: "must be a whole number" }).min(1, { error: "must be at least 1" })
        .max(Number.MAX_SAFE_INTEGER, { error: `must be at most ${Number.MAX_SAFE_INTEGER}` }).optional()
        .openapi({ description: LIMIT_TEXTS[limit], example: 100 }),
    ]),
  ) as Record<keyof AgentLimits, z.ZodOptional<z.ZodInt>>,
  { error: "must be an object" },
).openapi("AgentLimits");

const time = z.iso.datetime({ offset: true, error: "must be a time such as 2027-01-31T00:00:00Z" });

const policy = {
  hostnames: z.array(HostnamePatternSchema, { error: "must be a list of hostnames" })
    .min(1, { error: "must have at least one" })
    .max(NAMES_PER_SESSION_MAX, { error: `must have at most ${NAMES_PER_SESSION_MAX} names` })
    .transform((names) => [...new Set(names)])
    .openapi({
      description:
        "Its names: exact ones, or `*.` and a name for all below it; the first exact one is its own, the others aliases",
      example: ["home.example.org"],
    }),
  publish: z.array(PublishSchema, { error: "must be a list of public ports" })
    .max(PUBLISHED_PORTS_MAX, { error: `must have at most ${PUBLISHED_PORTS_MAX} ports` })
    .openapi({ description: "Public TCP ports that it may open", example: ["tcp:2222"] }),
  limits: LimitsSchema,
  agent_networks: networks("Networks from which it may connect to edges; all if empty"),
  visitor_networks: networks("Networks from which visitors are admitted; all if empty"),
  notes: z.string({ error: "must be a string" }).max(NOTES_MAX_LENGTH, {
    error: `must have at most ${NOTES_MAX_LENGTH} characters`,
  }).openapi({ example: "in the cellar" }),
};
const group = word.openapi({ description: "Agents of one group share hostnames", example: "pair" });
const tenant = word.openapi({
  description: "The tenant that it belongs to; default: the key's own",
  example: "default",
});
const expiresAt = time.openapi({
  description: "It gets no tokens after this time",
  example: "2027-01-31T00:00:00Z",
});
const joinTtl = z.int({ error: `must be a whole number of seconds to ${JOIN_TTL_MAX_S}` })
  .min(60, { error: "must be at least 60" }).max(JOIN_TTL_MAX_S, {
    error: `must be at most ${JOIN_TTL_MAX_S}`,
  })
  .default(JOIN_TTL_DEFAULT_S)
  .openapi({ description: "Lifetime of the join code", example: JOIN_TTL_DEFAULT_S });

/** The body of POST /v1/agents. */
export const AgentCreateSchema = z.strictObject({
  name: name.openapi({ description: "Unique in its tenant", example: "home" }),
  tenant: tenant.optional(),
  group: group.optional(),
  hostnames: policy.hostnames,
  publish: policy.publish.optional(),
  limits: policy.limits.optional(),
  agent_networks: policy.agent_networks.optional(),
  visitor_networks: policy.visitor_networks.optional(),
  expires_at: expiresAt.optional(),
  notes: policy.notes.optional(),
  join_ttl_seconds: joinTtl,
}, { error: "must be a JSON object" }).openapi("AgentCreate");

/** The body of PATCH /v1/agents/{id}: absent members are unchanged, null removes one. */
export const AgentChangeSchema = z.strictObject({
  name: name.optional(),
  group: group.nullable().optional(),
  hostnames: policy.hostnames.optional(),
  publish: policy.publish.optional(),
  limits: policy.limits.optional(),
  agent_networks: policy.agent_networks.optional(),
  visitor_networks: policy.visitor_networks.optional(),
  expires_at: expiresAt.nullable().optional(),
  notes: policy.notes.optional(),
}, { error: "must be a JSON object" }).openapi("AgentChange");

/** The body of POST /v1/agents/{id}/rotate. */
export const RotateSchema = z.strictObject({ join_ttl_seconds: joinTtl }, { error: "must be a JSON object" })
  .openapi("AgentRotate");

/** An agent in responses. */
export const AgentSchema = z.object({
  id: z.string().openapi({ example: "agent_4f9d2b1e6c1f4f5e" }),
  name: z.string().openapi({ example: "home" }),
  tenant: z.string().openapi({ example: "default" }),
  group: z.string().nullable(),
  state: z.enum(["active", "suspended"]),
  enrolled: z.boolean().openapi({ description: "It has a key pair, and gets tokens by it" }),
  hostnames: z.array(z.string()),
  publish: z.array(z.string()),
  limits: LimitsSchema,
  agent_networks: z.array(z.string()),
  visitor_networks: z.array(z.string()),
  expires_at: z.string().nullable(),
  notes: z.string(),
  created_at: z.string(),
  updated_at: z.string(),
  revision: z.int(),
}).openapi("Agent");

/** An agent in a list. A single agent has no count of sessions, since its ETag names the revision of its policy. */
export const ListedAgentSchema = AgentSchema.extend({
  sessions: z.int().openapi({ description: "Number of live sessions; 0 while it is offline" }),
}).openapi("ListedAgent");

/** An agent with its join code. */
export const JoiningAgentSchema = AgentSchema.extend({
  join_code: z.string().openapi({
    description: "The single-use code by which the agent enrols; a secret, shown once",
    example: "kZ3v…",
  }),
  join_expires_at: z.string(),
}).openapi("JoiningAgent");

/** The body of POST /v1/enrolments. */
export const EnrolmentSchema = z.strictObject({
  code: z.string({ error: "must be a string" }).regex(/^[\w-]{16,128}$/, { error: "isn't a join code" })
    .openapi({ description: "The join code", example: "kZ3vkZ3vkZ3vkZ3vkZ3v" }),
  public_key: z.string({ error: "must be a string" }).regex(/^[\w-]{43}$/, {
    error: "must be 43 characters of base64url",
    abort: true,
  })
    .refine(isAgentPublicKey, { error: "isn't an Ed25519 public key" })
    .openapi({
      format: "ed25519-public-key",
      description: "The public half of the agent's key pair: Ed25519, 32 bytes in base64url",
      example: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }),
}, { error: "must be a JSON object" }).openapi("Enrolment");

/** The answer to an enrolment. */
export const EnrolledSchema = z.object({
  id: z.string(),
  name: z.string(),
  hostnames: z.array(z.string()),
}).openapi("Enrolled");

/** A live session in responses. */
export const SessionSchema = z.object({
  id: z.string(),
  edge: z.string(),
  agent: z.string().openapi({
    description:
      "The agent's id, or `hostname:` and the name, for a token issued for a name without an agent",
  }),
  tenant: z.string(),
  hostname: z.string(),
  remote_address: z.string(),
  transport: z.string(),
  protocol_version: z.int().nullable().openapi({
    description: "SniTun's version; null for other transports",
  }),
  cipher: z.string(),
  since: z.string(),
  streams: z.int(),
  bytes_to_agent: z.int(),
  bytes_to_visitor: z.int(),
}).openapi("Session");

/** An agent's usage on one day. */
export const UsageSchema = z.object({
  agent: z.string(),
  name: z.string(),
  tenant: z.string(),
  day: z.string().openapi({ example: "2026-11-27" }),
  bytes_to_agent: z.int(),
  bytes_to_visitor: z.int(),
  streams: z.int(),
  connected_seconds: z.int(),
}).openapi("Usage");

/** An entry of the audit log. */
export const AuditSchema = z.object({
  seq: z.int(),
  at: z.string(),
  actor: z.string(),
  action: z.string().openapi({ example: "agent.suspended" }),
  subject: z.string(),
  tenant: z.string(),
  request_id: z.string(),
  detail: z.record(z.string(), z.unknown()),
}).openapi("AuditEntry");

/** A Fernet key in responses; never its text. */
export const FernetKeySchema = z.object({
  id: z.string().openapi({ description: "The first hex digits of its SHA-256", example: "630dcd2966c43366" }),
  origin: z.enum(["settings", "store"]),
  state: z.enum(["active", "retired"]),
  makes_tokens: z.boolean(),
  created_at: z.string().nullable(),
}).openapi("FernetKey");

/** The body of POST /v1/keys. */
export const FernetKeyCreateSchema = z.strictObject({
  key: z.string({ error: "must be a string" })
    .regex(/^[\w-]{42}[AEIMQUYcgkosw048]=$/, {
      error: "isn't a Fernet key: 44 characters of URL-safe base64",
      abort: true,
    })
    .refine(isFernetKey, { error: "isn't a Fernet key: 44 characters of URL-safe base64" }).optional()
    .openapi({ description: "The key; default: a random one" }),
}, { error: "must be a JSON object" }).openapi("FernetKeyCreate");

const ScopesSchema = z.array(z.enum(["issue", "read", "admin"], { error: "must be issue, read or admin" }), {
  error: "must be a list of scopes",
}).min(1, { error: "must have at least one" }).max(3, { error: "must have at most three" });

/** The tenant of a key or webhook, or all tenants. */
export const TenantSchema = z.string({ error: "must be a string" }).regex(/^(\*|[\w.-]{1,64})$/, {
  error: "isn't a tenant",
});

/** The body of POST /v1/api-keys. */
export const ApiKeyCreateSchema = z.strictObject({
  name: name.openapi({ description: "What it is for", example: "billing" }),
  tenant: TenantSchema.optional()
    .openapi({
      description: "The tenant that it can access, `*` for all; default: that of the requesting key",
    }),
  scopes: ScopesSchema.openapi({
    description: "issue: request tokens; read: read everything; admin: change everything",
    example: ["read"],
  }),
  hostnames: z.array(z.union([z.literal("*"), HostnamePatternSchema]), {
    error: "must be a list of hostnames",
  })
    .max(NAMES_PER_SESSION_MAX).default([])
    .openapi({
      description: "For the scope issue: names for which it may request tokens, `*` for all",
      example: ["*.example.org"],
    }),
  publish: z.array(z.union([z.literal("*"), PublishSchema]), { error: "must be a list of public ports" })
    .max(PUBLISHED_PORTS_MAX).default([])
    .openapi({ description: "For the scope issue: public ports that it may request", example: ["tcp"] }),
  expires_at: expiresAt.optional(),
}, { error: "must be a JSON object" }).openapi("ApiKeyCreate");

/** An API key in responses. */
export const ApiKeySchema = z.object({
  id: z.string(),
  name: z.string(),
  tenant: z.string(),
  scopes: z.array(z.string()),
  hostnames: z.array(z.string()),
  publish: z.array(z.string()),
  created_at: z.string(),
  expires_at: z.string().nullable(),
}).openapi("ApiKey");

/** A new API key, with its text. */
export const NewApiKeySchema = ApiKeySchema.extend({
  key: z.string().openapi({ description: "The key itself; a secret, shown once" }),
}).openapi("NewApiKey");

/** A page of a list. */
export function pageSchema<Item extends z.ZodType>(item: Item, title: string) {
  return z.object({
    items: z.array(item),
    next: z.string().nullable().openapi({
      description: "The cursor of the next page; null on the last page",
    }),
  }).openapi(title);
}

/** Query parameters of every list. */
export const pageQuery = {
  cursor: z.string().max(2_048).refine(isCursor, { error: "must be `next` of the previous page" }).optional()
    .openapi({
      description: "`next` of the previous page",
      format: "cursor",
      pattern: "^[A-Za-z0-9_-]+$",
      example: "WyJob21lIl0",
    }),
  limit: z.coerce.number({ error: `must be a whole number to ${PAGE_MAX}` }).int().min(1).max(PAGE_MAX, {
    error: `must be at most ${PAGE_MAX}`,
  }).default(PAGE_DEFAULT).openapi({
    type: "integer",
    minimum: 1,
    maximum: PAGE_MAX,
    default: PAGE_DEFAULT,
    description: "Maximum number of entries",
    example: PAGE_DEFAULT,
  }),
};

/** A time in responses. */
export function timeText(ms: number): string {
  return new Date(ms).toISOString();
}

/** An agent in responses. */
export function agentJson(agent: Agent): z.infer<typeof AgentSchema> {
  return {
    id: agent.id,
    name: agent.name,
    tenant: agent.tenant,
    group: agent.group ?? null,
    state: agent.state,
    enrolled: agent.publicKey !== undefined,
    hostnames: [...agent.hostnames],
    publish: [...agent.publish],
    limits: agent.limits,
    agent_networks: [...agent.agentNetworks],
    visitor_networks: [...agent.visitorNetworks],
    expires_at: agent.expiresAtMs === undefined ? null : timeText(agent.expiresAtMs),
    notes: agent.notes,
    created_at: timeText(agent.createdAtMs),
    updated_at: timeText(agent.updatedAtMs),
    revision: agent.revision,
  };
}

/** A session in responses. */
export function sessionJson(session: LiveSession): z.infer<typeof SessionSchema> {
  const { id, edge, agent, tenant, hostname, transport, cipher, streams } = session;
  return {
    ...{ id, edge, agent, tenant, hostname, transport, cipher, streams },
    remote_address: session.remote,
    protocol_version: session.protocolVersion ?? null,
    since: timeText(session.sinceMs),
    bytes_to_agent: session.bytesToAgent,
    bytes_to_visitor: session.bytesToVisitor,
  };
}

/** A day's usage in responses. */
export function usageJson(row: UsageRow): z.infer<typeof UsageSchema> {
  const { agent, name, tenant, day, streams } = row;
  return {
    ...{ agent, name, tenant, day },
    bytes_to_agent: row.bytesToAgent,
    bytes_to_visitor: row.bytesToVisitor,
    streams,
    connected_seconds: Math.round(row.connectedMs / 1000),
  };
}

/** An audit log entry in responses. */
export function auditJson({ atMs, request, detail, ...rest }: AuditRecord): z.infer<typeof AuditSchema> {
  return { ...rest, at: timeText(atMs), request_id: request, detail: { ...detail } };
}

/** A Fernet key in responses. */
export function fernetKeyJson(key: FernetKeyInfo): z.infer<typeof FernetKeySchema> {
  const { id, origin, state, makesTokens, createdAtMs } = key;
  return {
    ...{ id, origin, state },
    makes_tokens: makesTokens,
    created_at: createdAtMs === undefined ? null : timeText(createdAtMs),
  };
}

/** An API key in responses. */
export function apiKeyJson(key: ApiKey): z.infer<typeof ApiKeySchema> {
  const { id, name, tenant, createdAtMs, expiresAtMs } = key;
  return {
    ...{ id, name, tenant },
    scopes: [...key.scopes],
    hostnames: [...key.hostnames],
    publish: [...key.publish],
    created_at: timeText(createdAtMs),
    expires_at: expiresAtMs === undefined ? null : timeText(expiresAtMs),
  };
}
