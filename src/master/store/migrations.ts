/**
 * The migrations of the session master's tables. A released migration is never changed: a new one is appended.
 *
 * @module
 */
import { type Kysely, sql } from "kysely";
import type { Migration, MigrationProvider } from "kysely/migration";
import type { StoreKind } from "./database.ts";

/** The migrations for one kind of database. */
export function migrations(kind: StoreKind): MigrationProvider {
  const steps: Record<string, Migration> = {
    "0001_first": { up: (db) => first(db, kind) },
    "0002_webhooks": { up: (db) => webhooks(db, kind) },
    "0003_retention": { up: (db) => retention(db, kind) },
    "0004_contacts": { up: contacts },
  };
  return { getMigrations: () => Promise.resolve(steps) };
}

/** An increasing number assigned to each row by the database. */
function sequence(kind: StoreKind): string {
  return kind === "postgres" ? "bigserial primary key" : "integer primary key autoincrement";
}

// deno-lint-ignore no-explicit-any -- a step knows the tables of its own time, not today's
async function first(db: Kysely<any>, kind: StoreKind): Promise<void> {
  const statements = [
    `create table agents (
      id text primary key, tenant text not null, name text not null, sharing_group text, state text not null,
      publish text not null, limits text not null, agent_networks text not null, visitor_networks text not null,
      expires_at bigint, notes text not null, public_key text, generation bigint not null, revision bigint not null,
      created_at bigint not null, updated_at bigint not null, unique (tenant, name))`,
    `create index agents_by_name on agents (name, id)`,
    `create table hostnames (name text primary key, owner text not null, tenant text not null)`,
    `create table agent_hostnames (
      agent text not null, position bigint not null, name text not null, primary key (agent, name))`,
    `create index agent_hostnames_by_name on agent_hostnames (name)`,
    `create table removed_agents (agent text primary key, removed_at bigint not null)`,
    `create table join_codes (
      digest text primary key, agent text not null, expires_at bigint not null, used_at bigint)`,
    `create index join_codes_by_agent on join_codes (agent)`,
    `create table api_keys (
      id text primary key, digest text not null unique, name text not null, tenant text not null, scopes text not null,
      hostnames text not null, publish text not null, created_at bigint not null, expires_at bigint)`,
    `create table fernet_keys (
      id text primary key, key text, state text not null, created_at bigint not null, position bigint not null)`,
    `create table audit (
      seq ${
      sequence(kind)
    }, at bigint not null, actor text not null, action text not null, subject text not null,
      tenant text not null, request text not null, detail text not null)`,
    `create table changes (seq ${sequence(kind)}, at bigint not null, body text not null)`,
    `create table nonces (id text primary key, expires_at bigint not null)`,
    `create index nonces_by_end on nonces (expires_at)`,
    `create table answers (
      id text primary key, request text not null, status bigint, headers text not null, body text not null,
      expires_at bigint not null)`,
    `create table edges (edge text primary key, epoch text not null, seq bigint not null, seen_at bigint not null)`,
    `create table sessions (
      id text primary key, edge text not null, agent text not null, tenant text not null, hostname text not null,
      remote text not null, transport text not null, protocol_version bigint not null, cipher text not null,
      since bigint not null, streams bigint not null, bytes_to_agent bigint not null, bytes_to_visitor bigint not null)`,
    `create index sessions_by_agent on sessions (agent)`,
    `create index sessions_by_edge on sessions (edge)`,
    `create table usage (
      agent text not null, day text not null, tenant text not null, bytes_to_agent bigint not null,
      bytes_to_visitor bigint not null, streams bigint not null, connected_ms bigint not null,
      primary key (agent, day))`,
    `create index usage_by_day on usage (day)`,
    `create table usage_names (agent text primary key, name text not null)`,
    ...appendOnly(kind),
  ];
  for (const statement of statements) await sql.raw(statement).execute(db);
}

/** Prevents changes to the audit log, even through other clients of the database. */
function appendOnly(kind: StoreKind): string[] {
  const why = "the audit log is append only";
  if (kind === "sqlite") {
    return ["update", "delete"].map((what) =>
      `create trigger audit_no_${what} before ${what} on audit begin select raise(abort, '${why}'); end`
    );
  }
  return [
    `create function audit_append_only() returns trigger language plpgsql as
      $$ begin raise exception '${why}'; end $$`,
    `create trigger audit_append_only before update or delete on audit
      for each row execute function audit_append_only()`,
  ];
}

// deno-lint-ignore no-explicit-any -- as above
async function webhooks(db: Kysely<any>, kind: StoreKind): Promise<void> {
  const statements = [
    `create table webhooks (
      id text primary key, tenant text not null, url text not null, events text not null, secret text not null,
      created_at bigint not null, dropped bigint not null)`,
    `create table deliveries (
      seq ${
      sequence(kind)
    }, id text not null unique, webhook text not null, event text not null, body text not null,
      state text not null, created_at bigint not null, attempts bigint not null, sent_at bigint, next_at bigint,
      status bigint, error text)`,
    `create index deliveries_by_webhook on deliveries (webhook, seq)`,
    `create index deliveries_waiting on deliveries (next_at) where next_at is not null`,
    `create index deliveries_by_age on deliveries (created_at)`,
    `create table presence (
      agent text primary key, tenant text not null, hostname text not null, gone_at bigint)`,
    `create index presence_gone on presence (gone_at) where gone_at is not null`,
    `insert into presence (agent, tenant, hostname)
      select agent, min(tenant), min(hostname) from sessions group by agent`,
    `create table certificates (
      agent text not null, name text not null, names text not null, expires_at bigint not null, warn_at bigint,
      primary key (agent, name))`,
    `create index certificates_to_warn_of on certificates (warn_at) where warn_at is not null`,
    `create table told (id text primary key, at bigint not null)`,
  ];
  for (const statement of statements) await sql.raw(statement).execute(db);
}

// deno-lint-ignore no-explicit-any -- as above
async function contacts(db: Kysely<any>): Promise<void> {
  await sql`create table contacts (agent text primary key, seen_at bigint, refused_at bigint, refusal text)`
    .execute(db);
}

/** The audit log may be deleted up to the time set for it, and is append-only after that. */
// deno-lint-ignore no-explicit-any -- as above
async function retention(db: Kysely<any>, kind: StoreKind): Promise<void> {
  const why = "the audit log is append only";
  const until = "(select coalesce(max(audit_before), 0) from retention)";
  const statements = [
    `create table retention (id bigint primary key, audit_before bigint not null)`,
    ...kind === "sqlite"
      ? [
        `drop trigger audit_no_delete`,
        `create trigger audit_no_delete before delete on audit when old.at >= ${until}
          begin select raise(abort, '${why}'); end`,
      ]
      : [
        `create or replace function audit_append_only() returns trigger language plpgsql as
          $$ begin
            if tg_op = 'DELETE' and old.at < ${until} then return old; end if;
            raise exception '${why}';
          end $$`,
      ],
  ];
  for (const statement of statements) await sql.raw(statement).execute(db);
}
