/**
 * The session master's data model: agents and their rights, API keys, and events.
 *
 * @module
 */
import { DAY_MS, dayOf } from "../calendar.ts";
import type { EdgeReport, ReportedSession, ReportedUsage, Ruling } from "../wire/control/control_messages.ts";
import type { AgentLimits } from "../wire/token/agent_claim.ts";

export type { EdgeReport };
/** What edges must know of an agent: whether its tokens are valid, and their required generation. */
export type AgentRuling = Ruling;

/** The tenant of objects created without naming one. */
export const DEFAULT_TENANT = "default";
/** The tenant value of a key for all tenants. */
export const ALL_TENANTS = "*";

/** The permissions of an API key. Each scope includes those before it, except that "issue" includes no other. */
export type Scope = "issue" | "read" | "admin";
/** Every scope. */
export const SCOPES: readonly Scope[] = ["issue", "read", "admin"];

/** An operator's settings for an agent. */
export interface AgentPolicy {
  /** Unique in its tenant. */
  readonly name: string;
  readonly tenant: string;
  /** Agents of one group share hostnames; absent for an agent without a group. */
  readonly group?: string;
  /** Hostnames in canonical form, exact or `*.` and a name; the first exact one is the agent's own. */
  readonly hostnames: readonly string[];
  /** Public ports: `tcp:2222`, `tcp`. */
  readonly publish: readonly string[];
  readonly limits: AgentLimits;
  /** Networks from which the agent may connect; all when empty. */
  readonly agentNetworks: readonly string[];
  /** Networks from which visitors are admitted; all if empty. */
  readonly visitorNetworks: readonly string[];
  /** Milliseconds since 1970 after which the agent gets no tokens. Defaults to never. */
  readonly expiresAtMs?: number;
  readonly notes: string;
}

/** An agent in the store. */
export interface Agent extends AgentPolicy {
  readonly id: string;
  readonly state: "active" | "suspended";
  /** The public half of its key pair, Ed25519, base64url; absent until it has enrolled. */
  readonly publicKey?: string;
  /** Increases with each rotation: edges refuse tokens of an older generation. */
  readonly generation: number;
  /** Increases with each change. */
  readonly revision: number;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

/** Why an agent may do nothing; undefined if it may. */
export function inactiveFault(agent: Agent, nowMs: number): string | undefined {
  if (agent.state !== "active") return "is suspended";
  return (agent.expiresAtMs ?? Infinity) <= nowMs ? "has expired" : undefined;
}

/** A single-use code that enrols an agent; the store has only its digest. */
export interface JoinCode {
  readonly digest: string;
  readonly expiresAtMs: number;
}

/** An API key. */
export interface ApiKey {
  readonly id: string;
  readonly name: string;
  /** The tenant it can see, or {@link ALL_TENANTS}. */
  readonly tenant: string;
  readonly scopes: readonly Scope[];
  /** Hostnames it may request tokens for, as patterns: `*` for all. */
  readonly hostnames: readonly string[];
  /** Public ports it may request tokens for. */
  readonly publish: readonly string[];
  readonly createdAtMs: number;
  readonly expiresAtMs?: number;
}

/** A Fernet key in the store. */
export interface StoredFernetKey {
  /** Identifies it in lists: the first hex digits of its SHA-256. */
  readonly id: string;
  /** A secret; absent for a retired key of a file. */
  readonly key?: string;
  readonly state: "active" | "retired";
  readonly createdAtMs: number;
}

/** An entry of the audit log. */
export interface AuditEntry {
  readonly atMs: number;
  /** The credential that requested it: "admin", an API key's id, an agent's id. */
  readonly actor: string;
  /** The action: "agent.suspended". */
  readonly action: string;
  /** The object of the action. */
  readonly subject: string;
  readonly tenant: string;
  /** The request's id, as in logs. */
  readonly request: string;
  /** What changed, without secrets. */
  readonly detail: Readonly<Record<string, unknown>>;
}

/** An entry of the audit log with its position. */
export interface AuditRecord extends AuditEntry {
  readonly seq: number;
}

/** A change that edges must be told of, in order of decision. */
export interface Change {
  readonly seq: number;
  readonly body: ChangeBody;
}

/** The content of a change. */
export type ChangeBody =
  | { readonly kind: "agent"; readonly ruling: AgentRuling }
  | { readonly kind: "close_session"; readonly session: string }
  | { readonly kind: "keys" };

/** A live session, as reported by its edge. */
export type LiveSession = ReportedSession & { readonly edge: string };

/** An agent's usage on one day (UTC). */
export type UsageRow = ReportedUsage & {
  /** The agent's name, even after its removal. */
  readonly name: string;
};

/** The events that a webhook can receive. */
export const EVENT_TYPES = [
  "agent.online",
  "agent.offline",
  "certificate.expiring",
  "quota.reached",
] as const;
/** One of {@link EVENT_TYPES}, or the event that an operator sends to test a webhook. */
export type EventType = (typeof EVENT_TYPES)[number] | "webhook.test";

/** An event reported to webhooks. */
export interface MasterEvent {
  readonly type: EventType;
  /** The tenant of the event's subject. */
  readonly tenant: string;
  /** When it happened. */
  readonly atMs: number;
  readonly data: Readonly<Record<string, unknown>>;
}

/** A receiver of events. */
export interface Webhook {
  readonly id: string;
  /** The tenant whose events it receives, or {@link ALL_TENANTS}. */
  readonly tenant: string;
  readonly url: string;
  readonly events: readonly EventType[];
  /** The key that signs its messages, `whsec_` and base64; a secret. */
  readonly secret: string;
  readonly createdAtMs: number;
  /** Events dropped because too many others were queued. */
  readonly dropped: number;
}

/** The delivery states of a message: queued, acknowledged, given up. */
export const DELIVERY_STATES = ["waiting", "delivered", "failed"] as const;

/** A message to a webhook and its delivery state. */
export interface WebhookDelivery {
  /** Increases with each message. */
  readonly seq: number;
  /** Identifies the message; the same for each attempt. */
  readonly id: string;
  readonly webhook: string;
  readonly event: EventType;
  /** The message itself, JSON. */
  readonly body: string;
  readonly state: (typeof DELIVERY_STATES)[number];
  readonly createdAtMs: number;
  /** Number of attempts. */
  readonly attempts: number;
  /** Time of the last attempt. */
  readonly sentAtMs?: number;
  /** Time of the next attempt, while it is queued. */
  readonly nextAtMs?: number;
  /** The response status of the last attempt; absent if there was no response. */
  readonly status?: number;
  /** Why the last attempt failed. */
  readonly error?: string;
}

/** An agent's certificate for its own names. */
export interface AgentCertificate {
  /** The first one identifies it. */
  readonly names: readonly string[];
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** Days of usage in one answer. */
export const USAGE_DAYS_MAX = 400;

/** The days from one to another; undefined if either is no day, if they are in the wrong order, or too many. */
export function daysBetween(from: string, to: string): string[] | undefined {
  const [firstMs, lastMs] = [from, to].map((day) => /^\d{4}-\d\d-\d\d$/.test(day) ? Date.parse(day) : NaN);
  const count = (lastMs! - firstMs!) / DAY_MS + 1;
  if (!(count >= 1 && count <= USAGE_DAYS_MAX)) return undefined;
  return Array.from({ length: count }, (_, index) => dayOf(firstMs! + index * DAY_MS));
}
