/**
 * The store port: what the session master keeps. `openStore` gives it on SQLite or PostgreSQL, and one conformance suite
 * (tests/conformance/store_suite.ts) holds both to the same behaviour.
 *
 * Each method that changes something writes its entry of the audit log, and what edges must hear of it, in the same
 * transaction: either all of it is there, or nothing.
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
  /** Gives the next page; absent behind the last one. */
  readonly next?: string;
}

/** Which page. */
export interface PageQuery {
  readonly cursor?: string;
  readonly limit: number;
}

/** Which agents. */
export interface AgentQuery extends PageQuery {
  /** All tenants' when absent. */
  readonly tenant?: string;
  /** In the name, a hostname or the notes. */
  readonly search?: string;
  readonly state?: Agent["state"];
}

/** Which sessions. */
export interface SessionQuery extends PageQuery {
  readonly tenant?: string;
  readonly agent?: string;
}

/** Which usage: days from `from` to `to`, both included. */
export interface UsageQuery {
  readonly tenant?: string;
  readonly agent?: string;
  readonly from: string;
  readonly to: string;
}

/** What there is now, and what was moved since a day. */
export interface Totals {
  readonly agents: number;
  /** Agents with a live session. */
  readonly online: number;
  readonly sessions: number;
  readonly streams: number;
  readonly bytesToAgent: number;
  readonly bytesToVisitor: number;
}

/** Which totals: all tenants' where `tenant` is absent, and of usage the days from `from` on. */
export interface TotalsQuery {
  readonly tenant?: string;
  readonly from: string;
}

/** Which entries of the audit log, the newest first. */
export interface AuditQuery extends PageQuery {
  readonly tenant?: string;
  readonly subject?: string;
}

/** Which messages to webhooks, the newest first. */
export interface DeliveryQuery extends PageQuery {
  /** Those of these webhooks. */
  readonly webhooks?: readonly string[];
  readonly state?: WebhookDelivery["state"];
}

/** A message that was taken for sending, and where it goes. */
export interface TakenDelivery {
  readonly delivery: WebhookDelivery;
  readonly webhook: Webhook;
}

/** What became of an attempt to send a message. */
export interface DeliveryOutcome {
  readonly state: WebhookDelivery["state"];
  /** When it is sent again; only while it waits. */
  readonly nextAtMs?: number;
  readonly status?: number;
  readonly error?: string;
}

/** An answer that is kept for a repeated request. */
export interface KeptAnswer {
  /** The digest of the request that it answers. */
  readonly request: string;
  /** Undefined while the first request is still worked on. */
  readonly status?: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** What may be forgotten: what is older. What is absent is kept. */
export interface ForgetBefore {
  readonly auditMs?: number;
  /** Days before this one, `2026-11-27`. */
  readonly usageDay?: string;
  /** Messages to webhooks that don't wait any more. */
  readonly deliveriesMs?: number;
}

/** What becomes of an attempt to enrol. */
export type Enrolment =
  | { readonly agent: Agent }
  | { readonly refused: "unknown" | "used" | "expired" };

/** See the module. Rejects with `io_failed` where the database doesn't answer. */
export interface Store {
  readonly kind: "sqlite" | "postgres";

  /**
   * Adds an agent, with the code by which it enrols where there is one.
   *
   * @throws StoreConflict where its name is taken in its tenant, or a hostname belongs to another agent
   */
  addAgent(agent: Agent, join: JoinCode | undefined, audit: AuditEntry): Promise<void>;
  agent(id: string): Promise<Agent | undefined>;
  agentNamed(tenant: string, name: string): Promise<Agent | undefined>;
  agents(query: AgentQuery): Promise<Page<Agent>>;
  /**
   * Writes an agent whose revision is one more than what is stored.
   *
   * @throws StoreConflict as {@link addAgent}, and where the agent has been changed meanwhile
   */
  changeAgent(agent: Agent, join: JoinCode | undefined, audit: AuditEntry): Promise<void>;
  /** Removes an agent; false where there is none. */
  removeAgent(id: string, audit: AuditEntry): Promise<boolean>;
  /** The agent that a hostname belongs to by an exact entry, if any; of a group any one. */
  hostnameOwner(hostname: string): Promise<{ readonly owner: string; readonly tenant: string } | undefined>;
  /** Gives the agent behind a code its public key. Repeated with the same key it gives the same answer. */
  enrol(
    digest: string,
    publicKey: string,
    nowMs: number,
    audit: Omit<AuditEntry, "subject" | "tenant" | "actor">,
  ): Promise<Enrolment>;

  /** Marks a number as used until `expiresAtMs`; false where it was before. */
  useNonce(id: string, expiresAtMs: number): Promise<boolean>;

  addApiKey(key: ApiKey, digest: string, audit: AuditEntry): Promise<void>;
  apiKeys(): Promise<readonly ApiKey[]>;
  apiKeyByDigest(digest: string): Promise<ApiKey | undefined>;
  removeApiKey(id: string, audit: AuditEntry): Promise<boolean>;

  /** The Fernet keys of the store, newest first, and the files' keys that are retired. */
  fernetKeys(): Promise<readonly StoredFernetKey[]>;
  addFernetKey(key: StoredFernetKey, audit: AuditEntry): Promise<void>;
  /** Retires a key, of the store or of a file. */
  retireFernetKey(id: string, audit: AuditEntry): Promise<void>;

  audit(query: AuditQuery): Promise<Page<AuditRecord>>;

  /** Notes something for edges to hear of, with its entry of the audit log. */
  addChange(body: Change["body"], audit: AuditEntry): Promise<void>;
  /** The last change's number; 0 before the first. */
  lastChange(): Promise<number>;
  /** Changes behind `seq`, in order; undefined where some of them have been forgotten. */
  changesSince(seq: number): Promise<readonly Change[] | undefined>;
  /** Every ruling that is in force. */
  rulings(): Promise<readonly AgentRuling[]>;

  /**
   * Applies a report, once; false where it was applied before. Agents that it shows as come, and months that it shows as
   * used up, become events for webhooks.
   */
  applyReport(report: EdgeReport, nowMs: number): Promise<boolean>;
  /** The edge's epoch and last report that was applied. */
  lastReport(edge: string): Promise<{ readonly epoch: string; readonly seq: number } | undefined>;
  session(id: string): Promise<LiveSession | undefined>;
  sessions(query: SessionQuery): Promise<Page<LiveSession>>;
  /** How many live sessions these agents have; those without any are absent. */
  sessionCounts(agents: readonly string[]): Promise<ReadonlyMap<string, number>>;
  usage(query: UsageQuery): Promise<readonly UsageRow[]>;
  totals(query: TotalsQuery): Promise<Totals>;
  /** Bytes both ways of each agent in a month, `2026-11`. */
  monthUsed(agents: readonly string[], month: string): Promise<ReadonlyMap<string, number>>;

  /** Takes what an agent says of its certificates, in the place of what it said before. */
  reportCertificates(agent: string, certificates: readonly AgentCertificate[]): Promise<void>;
  /** Makes the events that come with time: agents that stayed away, certificates that are about to expire. */
  noteTime(nowMs: number): Promise<void>;

  /** Adds a webhook; false where its tenant has `max` of them. */
  addWebhook(webhook: Webhook, max: number, audit: AuditEntry): Promise<boolean>;
  webhooks(): Promise<readonly Webhook[]>;
  /** Removes a webhook with its messages. */
  removeWebhook(id: string, audit: AuditEntry): Promise<boolean>;
  /** Writes a message for one webhook, whatever events it wants; gives the message's id. */
  addDelivery(webhook: string, event: MasterEvent): Promise<string>;
  /**
   * Takes the message that has been due for the longest time, or the one with this id, and keeps it from everybody else
   * until `nowMs + leaseMs`. None for webhooks in `without`.
   */
  takeDelivery(
    options: {
      readonly nowMs: number;
      readonly leaseMs: number;
      readonly without: readonly string[];
      readonly id?: string;
    },
  ): Promise<TakenDelivery | undefined>;
  /** Notes what became of a message that was taken. */
  settleDelivery(id: string, outcome: DeliveryOutcome): Promise<void>;
  deliveries(query: DeliveryQuery): Promise<Page<WebhookDelivery>>;

  /** Reserves an idempotency key; gives what is kept of an earlier request with it. */
  reserveAnswer(
    id: string,
    request: string,
    nowMs: number,
    expiresAtMs: number,
  ): Promise<KeptAnswer | undefined>;
  keepAnswer(id: string, answer: KeptAnswer & { readonly status: number }): Promise<void>;
  dropAnswer(id: string): Promise<void>;

  /** Forgets what is over: numbers, codes, answers, changes, edges that haven't been heard of. */
  sweep(nowMs: number): Promise<void>;
  /**
   * Forgets the oldest entries of each log, at most `max` of each, so that nobody waits for it long; says whether there
   * are more.
   */
  forget(before: ForgetBefore, max: number): Promise<boolean>;
  /** Whether the database answers. */
  ping(): Promise<void>;
  /** Writes a consistent copy to a new file. Rejects with `not_supported` on PostgreSQL. */
  backup(path: string): Promise<void>;
  close(): Promise<void>;
}

/** Why something can't be stored: what it collides with. */
export class StoreConflict extends Error {
  /** The member at fault: "name", "hostnames", "revision". */
  readonly member: "name" | "hostnames" | "revision";
  /** For hostnames: which one. */
  readonly hostname: string | undefined;

  constructor(member: StoreConflict["member"], message: string, hostname?: string) {
    super(message);
    this.name = "StoreConflict";
    this.member = member;
    this.hostname = hostname;
  }
}

/** The owner of hostnames: the agent alone, or its group. */
export function ownerOf(
  { id, tenant, group }: Pick<AgentPolicy, "tenant" | "group"> & { id: string },
): string {
  return group === undefined ? `agent:${id}` : `group:${tenant}/${group}`;
}
