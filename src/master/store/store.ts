/**
 * The store port: the session master's data. `openStore` implements it on SQLite or PostgreSQL, and one conformance
 * suite (tests/conformance/store_suite.ts) holds both to the same behaviour.
 *
 * Each method that makes a change writes its audit log entry, and the changes for edges, in the same transaction:
 * either all of it is stored, or nothing.
 *
 * @module
 */
import type {
  Agent,
  AgentCertificate,
  AgentPolicy,
  AgentRuling,
  ApiKey,
  AuditEntry,
  AuditRecord,
  Change,
  EdgeReport,
  JoinCode,
  LiveSession,
  MasterEvent,
  StoredFernetKey,
  UsageRow,
  Webhook,
  WebhookDelivery,
} from "../model.ts";

/** One page of a list. */
export interface Page<Item> {
  readonly items: readonly Item[];
  /** Cursor of the next page; absent on the last one. */
  readonly next?: string;
}

/** Selects a page. */
export interface PageQuery {
  readonly cursor?: string;
  readonly limit: number;
}

/** Selects agents. */
export interface AgentQuery extends PageQuery {
  /** Defaults to all tenants. */
  readonly tenant?: string;
  /** Matches the name, a hostname or the notes. */
  readonly search?: string;
  readonly state?: Agent["state"];
}

/** Edges that haven't reported for a while, each with the time of its last report. */
export type SilentEdges = ReadonlyMap<string, number>;

/** The last contact with an agent. */
export interface AgentContact {
  /** When its last session ended. */
  readonly seenAtMs?: number;
  /** When it was last refused a token, and why. */
  readonly refusedAtMs?: number;
  readonly refusal?: string;
}

/** Selects sessions. */
export interface SessionQuery extends PageQuery {
  readonly tenant?: string;
  readonly agent?: string;
}

/** Selects usage: days from `from` to `to`, inclusive. */
export interface UsageQuery {
  readonly tenant?: string;
  readonly agent?: string;
  readonly from: string;
  readonly to: string;
}

/** The usage of several rows together. */
export type UsageSum = Pick<UsageRow, "bytesToAgent" | "bytesToVisitor" | "streams" | "connectedMs">;

/** The usage of a day. */
export type DayUsage = UsageSum & Pick<UsageRow, "day">;

/** The usage of an agent. */
export type AgentUsage = UsageSum & Pick<UsageRow, "agent" | "name">;

/** Current totals, and traffic since a given day. */
export interface Totals {
  readonly agents: number;
  /** Agents with a live session. */
  readonly online: number;
  readonly sessions: number;
  readonly streams: number;
  readonly bytesToAgent: number;
  readonly bytesToVisitor: number;
}

/** Selects totals: of all tenants if `tenant` is absent, and usage from the day `from`. */
export interface TotalsQuery {
  readonly tenant?: string;
  readonly from: string;
}

/** Selects entries of the audit log, newest first. */
export interface AuditQuery extends PageQuery {
  readonly tenant?: string;
  readonly subject?: string;
}

/** Selects messages to webhooks, newest first. */
export interface DeliveryQuery extends PageQuery {
  /** Messages of these webhooks. */
  readonly webhooks?: readonly string[];
  readonly state?: WebhookDelivery["state"];
}

/** A message taken for sending, and its destination. */
export interface TakenDelivery {
  readonly delivery: WebhookDelivery;
  readonly webhook: Webhook;
}

/** The outcome of an attempt to send a message. */
export interface DeliveryOutcome {
  readonly state: WebhookDelivery["state"];
  /** Time of the next attempt; only while it is queued. */
  readonly nextAtMs?: number;
  readonly status?: number;
  readonly error?: string;
}

/** A response kept for a repeated request. */
export interface KeptAnswer {
  /** The digest of the original request. */
  readonly request: string;
  /** Undefined while the first request is in progress. */
  readonly status?: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Cutoffs for deletion: older data is deleted. Absent ones keep everything. */
export interface ForgetBefore {
  readonly auditMs?: number;
  /** Days before this one, `2026-11-27`. */
  readonly usageDay?: string;
  /** Messages to webhooks that are no longer queued. */
  readonly deliveriesMs?: number;
}

/** The result of an attempt to enrol. */
export type Enrolment =
  | { readonly agent: Agent }
  | { readonly refused: "unknown" | "used" | "expired" };

/** The data of the session master. Rejects with `io_failed` if the database doesn't respond. */
export interface Store {
  readonly kind: "sqlite" | "postgres";

  /**
   * Adds an agent, with its join code if there is one.
   *
   * @throws StoreConflict if its name is taken in its tenant, or a hostname belongs to another agent
   */
  addAgent(agent: Agent, join: JoinCode | undefined, audit: AuditEntry): Promise<void>;
  agent(id: string): Promise<Agent | undefined>;
  agentNamed(tenant: string, name: string): Promise<Agent | undefined>;
  agents(query: AgentQuery): Promise<Page<Agent>>;
  /**
   * Writes an agent whose revision is one above the stored one.
   *
   * @throws StoreConflict as {@link addAgent}, and if the agent has been changed meanwhile
   */
  changeAgent(agent: Agent, join: JoinCode | undefined, audit: AuditEntry): Promise<void>;
  /**
   * Removes an agent; false if there is none.
   *
   * @throws StoreConflict if it doesn't have this revision; absent means any
   */
  removeAgent(id: string, revision: number | undefined, audit: AuditEntry): Promise<boolean>;
  /** The agent that has this hostname or wildcard; the first by name of a group, whose agents share theirs. */
  agentServing(hostname: string): Promise<Agent | undefined>;
  /** The owner of a hostname by an exact entry, if any. */
  hostnameOwner(hostname: string): Promise<{ readonly owner: string; readonly tenant: string } | undefined>;
  /**
   * Sets the public key of the agent that a code belongs to. Repeating it with the same key returns the same result.
   */
  enrol(
    digest: string,
    publicKey: string,
    nowMs: number,
    audit: Omit<AuditEntry, "subject" | "tenant" | "actor">,
  ): Promise<Enrolment>;

  /** Marks a nonce as used until `expiresAtMs`; false if it already was. */
  useNonce(id: string, expiresAtMs: number): Promise<boolean>;

  addApiKey(key: ApiKey, digest: string, audit: AuditEntry): Promise<void>;
  apiKeys(): Promise<readonly ApiKey[]>;
  apiKeyByDigest(digest: string): Promise<ApiKey | undefined>;
  removeApiKey(id: string, audit: AuditEntry): Promise<boolean>;

  /** The Fernet keys of the store, newest first, and the retired keys of files. */
  fernetKeys(): Promise<readonly StoredFernetKey[]>;
  addFernetKey(key: StoredFernetKey, audit: AuditEntry): Promise<void>;
  /** Retires a key, of the store or of a file. */
  retireFernetKey(id: string, audit: AuditEntry): Promise<void>;

  audit(query: AuditQuery): Promise<Page<AuditRecord>>;

  /** Adds a change for edges, with its audit log entry. */
  addChange(body: Change["body"], audit: AuditEntry): Promise<void>;
  /** The last change's number; 0 if there is none. */
  lastChange(): Promise<number>;
  /** Changes after `seq`, in order; undefined if some of them have been deleted. */
  changesSince(seq: number): Promise<readonly Change[] | undefined>;
  /** Every ruling that is in force. */
  rulings(): Promise<readonly AgentRuling[]>;

  /**
   * Applies a report, once; false if it was already applied. Agents that come online and monthly quotas that are used
   * up become webhook events.
   */
  applyReport(report: EdgeReport, nowMs: number): Promise<boolean>;
  /**
   * Edges that haven't reported since `beforeMs` although they had sessions, each with the time of its last report.
   * Ends the sessions of those that are in `silent`, the answer to the call before, and haven't reported since then.
   */
  endSilent(silent: SilentEdges, beforeMs: number, nowMs: number): Promise<SilentEdges>;
  session(id: string): Promise<LiveSession | undefined>;
  sessions(query: SessionQuery): Promise<Page<LiveSession>>;
  /** Number of live sessions of these agents; those without any are absent. */
  sessionCounts(agents: readonly string[]): Promise<ReadonlyMap<string, number>>;
  usage(query: UsageQuery): Promise<readonly UsageRow[]>;
  /** The usage of each day that has any, of all its agents together. */
  usageByDay(query: UsageQuery): Promise<readonly DayUsage[]>;
  /** The usage of each agent, of all its days together: the `max` that carried the most bytes, and the number of all. */
  usageByAgent(
    query: UsageQuery,
    max: number,
  ): Promise<{ readonly items: readonly AgentUsage[]; readonly count: number }>;
  totals(query: TotalsQuery): Promise<Totals>;
  /** Bytes in both directions of each agent in a month, `2026-11`. */
  monthUsed(agents: readonly string[], month: string): Promise<ReadonlyMap<string, number>>;

  /** When an agent, or the holder of a token for a name alone, was last connected or refused; undefined if never. */
  contact(agent: string): Promise<AgentContact | undefined>;
  /** Notes that an agent was refused a token. */
  noteRefusal(agent: string, atMs: number, why: string): Promise<void>;

  /** Replaces an agent's reported certificates. */
  reportCertificates(agent: string, certificates: readonly AgentCertificate[]): Promise<void>;
  /** Creates time-based events: agents that stayed offline, certificates about to expire. */
  noteTime(nowMs: number): Promise<void>;

  /** Adds a webhook; false if its tenant already has `max` of them. */
  addWebhook(webhook: Webhook, max: number, audit: AuditEntry): Promise<boolean>;
  webhooks(): Promise<readonly Webhook[]>;
  /** Removes a webhook with its messages. */
  removeWebhook(id: string, audit: AuditEntry): Promise<boolean>;
  /** Queues a message for one webhook, whatever its event filter; returns the message's id. */
  addDelivery(webhook: string, event: MasterEvent): Promise<string>;
  /**
   * Takes the message that has been due the longest, or the one with this id, and reserves it until `nowMs + leaseMs`.
   * Skips the webhooks in `without`.
   */
  takeDelivery(
    options: {
      readonly nowMs: number;
      readonly leaseMs: number;
      readonly without: readonly string[];
      readonly id?: string;
    },
  ): Promise<TakenDelivery | undefined>;
  /** Records the outcome of a taken message. */
  settleDelivery(id: string, outcome: DeliveryOutcome): Promise<void>;
  deliveries(query: DeliveryQuery): Promise<Page<WebhookDelivery>>;

  /** Reserves an idempotency key until `expiresAtMs`; returns the response kept for an earlier request with it. */
  reserveAnswer(
    id: string,
    request: string,
    nowMs: number,
    expiresAtMs: number,
  ): Promise<KeptAnswer | undefined>;
  /** Keeps the response to the request that reserved a key. */
  keepAnswer(
    id: string,
    answer: KeptAnswer & { readonly status: number },
    expiresAtMs: number,
  ): Promise<void>;
  dropAnswer(id: string): Promise<void>;

  /** Deletes expired data: nonces, codes, responses, changes, the counts of edges that no longer report. */
  sweep(nowMs: number): Promise<void>;
  /**
   * Deletes the oldest entries of each log, at most `max` of each, so that others don't wait long; returns whether
   * there are more.
   */
  forget(before: ForgetBefore, max: number): Promise<boolean>;
  /** Checks that the database responds. */
  ping(): Promise<void>;
  /** Writes a consistent copy to a new file. Rejects with `not_supported` on PostgreSQL. */
  backup(path: string): Promise<void>;
  close(): Promise<void>;
}

/** The reason why something can't be stored: a conflict. */
export class StoreConflict extends Error {
  /** The conflicting member: "name", "hostnames", "revision". */
  readonly member: "name" | "hostnames" | "revision";
  /** The conflicting hostname. */
  readonly hostname: string | undefined;

  constructor(member: StoreConflict["member"], message: string, hostname?: string) {
    super(message);
    this.name = "StoreConflict";
    this.member = member;
    this.hostname = hostname;
  }
}

/** The owner of hostnames: the agent itself, or its group. */
export function ownerOf(
  { id, tenant, group }: Pick<AgentPolicy, "tenant" | "group"> & { id: string },
): string {
  return group === undefined ? `agent:${id}` : `group:${tenant}/${group}`;
}
