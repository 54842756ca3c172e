/**
 * What the session master knows: agents and their rights, keys of its API, and what happened.
 *
 * @module
 */
import type { EdgeReport, ReportedSession, ReportedUsage, Ruling } from "../wire/control/control_messages.ts";
import type { AgentLimits } from "../wire/token/agent_claim.ts";

export type { EdgeReport };
/** What edges must know of an agent: whether its tokens are good, and of which generation they must be. */
export type AgentRuling = Ruling;

/** The tenant of what was made without naming one. */
export const DEFAULT_TENANT = "default";
/** What a key of every tenant has in the place of a tenant's name. */
export const ALL_TENANTS = "*";

/** What a key of the API allows. Each scope includes those before it, except that "issue" includes no other. */
export type Scope = "issue" | "read" | "admin";
/** Every scope. */
export const SCOPES: readonly Scope[] = ["issue", "read", "admin"];

/** What an operator decides about an agent. */
export interface AgentPolicy {
  /** Unique in its tenant. */
  readonly name: string;
  readonly tenant: string;
  /** Agents of one group share hostnames; alone when absent. */
  readonly group?: string;
  /** Hostnames in canonical form, exact or `*.` and a name; the first exact one is the agent's own. */
  readonly hostnames: readonly string[];
  /** Public ports: `tcp:2222`, `tcp`. */
  readonly publish: readonly string[];
  readonly limits: AgentLimits;
  /** Networks from which the agent may connect; all when empty. */
  readonly agentNetworks: readonly string[];
  /** Networks from which visitors may come; all when empty. */
  readonly visitorNetworks: readonly string[];
  /** Milliseconds since 1970 after which the agent gets no tokens; never when absent. */
  readonly expiresAtMs?: number;
  readonly notes: string;
}

/** An agent as the store has it. */
export interface Agent extends AgentPolicy {
  readonly id: string;
  readonly state: "active" | "suspended";
  /** The public half of its key pair, Ed25519, base64url; absent until it has enrolled. */
  readonly publicKey?: string;
  /** Rises with each rotation: edges refuse tokens of an older one. */
  readonly generation: number;
  /** Rises with each change. */
  readonly revision: number;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

/** A single-use code with which an agent enrols; the store has its digest alone. */
export interface JoinCode {
  readonly digest: string;
  readonly expiresAtMs: number;
}

/** A key of the API. */
export interface ApiKey {
  readonly id: string;
  readonly name: string;
  /** The tenant that it sees, or {@link ALL_TENANTS}. */
  readonly tenant: string;
  readonly scopes: readonly Scope[];
  /** Hostnames that it may ask tokens for, as patterns: `*` for all. */
  readonly hostnames: readonly string[];
  /** Public ports that it may ask tokens for. */
  readonly publish: readonly string[];
  readonly createdAtMs: number;
  readonly expiresAtMs?: number;
}

/** A Fernet key of the store. */
export interface StoredFernetKey {
  /** Names it in lists: the first hex digits of its SHA-256. */
  readonly id: string;
  /** A secret; absent for a key of a file that is retired. */
  readonly key?: string;
  readonly state: "active" | "retired";
  readonly createdAtMs: number;
}

/** Who did what, for the audit log. */
export interface AuditEntry {
  readonly atMs: number;
  /** The credential that asked for it: "admin", an API key's id, an agent's id. */
  readonly actor: string;
  /** What was done: "agent.suspended". */
  readonly action: string;
  /** What it was done to. */
  readonly subject: string;
  readonly tenant: string;
  /** The request's id, as logs have it. */
  readonly request: string;
  /** What changed, without secrets. */
  readonly detail: Readonly<Record<string, unknown>>;
}

/** An entry of the audit log with its place in it. */
export interface AuditRecord extends AuditEntry {
  readonly seq: number;
}

/** Something that edges must hear of, in the order in which it was decided. */
export interface Change {
  readonly seq: number;
  readonly body: ChangeBody;
}

/** What it is. */
export type ChangeBody =
  | { readonly kind: "agent"; readonly ruling: AgentRuling }
  | { readonly kind: "close_session"; readonly session: string }
  | { readonly kind: "keys" };

/** A live session, as its edge reported it. */
export type LiveSession = ReportedSession & { readonly edge: string };

/** What an agent used in a day (UTC). */
export type UsageRow = ReportedUsage & {
  /** The agent's name, also when it has been removed. */
  readonly name: string;
};

/** What a webhook can tell of. */
export const EVENT_TYPES = [
  "agent.online",
  "agent.offline",
  "certificate.expiring",
  "quota.reached",
] as const;
/** One of {@link EVENT_TYPES}, or the event that an operator sends to try a webhook. */
export type EventType = (typeof EVENT_TYPES)[number] | "webhook.test";

/** Something that happened and that webhooks tell of. */
export interface MasterEvent {
  readonly type: EventType;
  /** The tenant of what it happened to. */
  readonly tenant: string;
  /** When it happened. */
  readonly atMs: number;
  readonly data: Readonly<Record<string, unknown>>;
}

/** A place that is told of events. */
export interface Webhook {
  readonly id: string;
  /** The tenant whose events it is told of, or {@link ALL_TENANTS}. */
  readonly tenant: string;
  readonly url: string;
  readonly events: readonly EventType[];
  /** What its messages are signed with, `whsec_` and base64; a secret. */
  readonly secret: string;
  readonly createdAtMs: number;
  /** Events that it was never told of: too many others were waiting. */
  readonly dropped: number;
}

/** A message to a webhook, and what became of it. */
export interface WebhookDelivery {
  /** Rises with each message. */
  readonly seq: number;
  /** Names the message; the same at each attempt. */
  readonly id: string;
  readonly webhook: string;
  readonly event: EventType;
  /** The message itself, JSON. */
  readonly body: string;
  readonly state: "waiting" | "delivered" | "failed";
  readonly createdAtMs: number;
  /** How often it was sent. */
  readonly attempts: number;
  /** When it was sent last. */
  readonly sentAtMs?: number;
  /** When it is sent next, while it waits. */
  readonly nextAtMs?: number;
  /** What the last attempt was answered with; absent where there was no answer. */
  readonly status?: number;
  /** Why the last attempt came to nothing. */
  readonly error?: string;
}

/** A certificate that an agent has for names of its own. */
export interface AgentCertificate {
  /** The first one names it. */
  readonly names: readonly string[];
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}
