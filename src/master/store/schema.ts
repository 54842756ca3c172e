/**
 * The session master's tables, as Kysely's types. Lists and objects are JSON in text; times are milliseconds since 1970.
 *
 * @module
 */
import type { Generated, Kysely, Transaction } from "kysely";

/** All tables, by name. */
export interface Tables {
  agents: {
    id: string;
    tenant: string;
    name: string;
    sharing_group: string | null;
    state: string;
    publish: string;
    limits: string;
    agent_networks: string;
    visitor_networks: string;
    expires_at: number | null;
    notes: string;
    public_key: string | null;
    generation: number;
    revision: number;
    created_at: number;
    updated_at: number;
  };
  /** Each hostname once, with its single owner: an agent, or a group of agents. */
  hostnames: { name: string; owner: string; tenant: string };
  /** The hostnames of each agent, in the operator's order. */
  agent_hostnames: { agent: string; position: number; name: string };
  /** Removed agents, until none of their tokens can be valid. */
  removed_agents: { agent: string; removed_at: number };
  join_codes: { digest: string; agent: string; expires_at: number; used_at: number | null };
  api_keys: {
    id: string;
    digest: string;
    name: string;
    tenant: string;
    scopes: string;
    hostnames: string;
    publish: string;
    created_at: number;
    expires_at: number | null;
  };
  fernet_keys: { id: string; key: string | null; state: string; created_at: number; position: number };
  audit: {
    seq: Generated<number>;
    at: number;
    actor: string;
    action: string;
    subject: string;
    tenant: string;
    request: string;
    detail: string;
  };
  changes: { seq: Generated<number>; at: number; body: string };
  nonces: { id: string; expires_at: number };
  answers: {
    id: string;
    request: string;
    status: number | null;
    headers: string;
    body: string;
    expires_at: number;
  };
  edges: { edge: string; epoch: string; seq: number; seen_at: number };
  sessions: {
    id: string;
    edge: string;
    agent: string;
    tenant: string;
    hostname: string;
    remote: string;
    transport: string;
    protocol_version: number;
    cipher: string;
    since: number;
    streams: number;
    bytes_to_agent: number;
    bytes_to_visitor: number;
  };
  usage: {
    agent: string;
    day: string;
    tenant: string;
    bytes_to_agent: number;
    bytes_to_visitor: number;
    streams: number;
    connected_ms: number;
  };
  /** Names of agents for their usage, including removed ones. */
  usage_names: { agent: string; name: string };
  webhooks: {
    id: string;
    tenant: string;
    url: string;
    events: string;
    secret: string;
    created_at: number;
    dropped: number;
  };
  deliveries: {
    seq: Generated<number>;
    id: string;
    webhook: string;
    event: string;
    body: string;
    state: string;
    created_at: number;
    attempts: number;
    sent_at: number | null;
    /** Null after the last attempt. */
    next_at: number | null;
    status: number | null;
    error: string | null;
  };
  /** Agents that have a session, or had one until recently. */
  presence: { agent: string; tenant: string; hostname: string; gone_at: number | null };
  /** When an agent's last session ended, and when and why it was last refused a token. */
  contacts: { agent: string; seen_at: number | null; refused_at: number | null; refusal: string | null };
  /** `warn_at` is null once webhooks have been notified. */
  certificates: { agent: string; name: string; names: string; expires_at: number; warn_at: number | null };
  /** One row: the audit log may be deleted up to this time. */
  retention: { id: number; audit_before: number };
  /** Events that are reported once, such as a month's quota. */
  told: { id: string; at: number };
}

/** A transaction in the store's database. */
export type Tx = Transaction<Tables>;
/** The store's database, within a transaction or without. */
export type Db = Kysely<Tables> | Tx;
