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
