/**
 * The store on an SQL database.
 *
 * @module
 */
import { type Kysely, type Selectable, sql } from "kysely";
import { DAY_MS } from "../../calendar.ts";
import { errorMessage, SallyportError } from "../../errors.ts";
import { TOKEN_TTL_MAX_S } from "../../protocol/token/token.ts";
import type {
  Agent,
  AgentCertificate,
  AgentRuling,
  ApiKey,
  AuditEntry,
  AuditRecord,
  Change,
  ChangeBody,
  EdgeReport,
  JoinCode,
  LiveSession,
  MasterEvent,
  StoredFernetKey,
  UsageRow,
  Webhook,
  WebhookDelivery,
} from "../model.ts";
import { addAgent, agentOf, changeAgent, enrolAgent, listAgents, removeAgent } from "./agent_store.ts";
import { readCursor, writeCursor } from "./cursor.ts";
import { type Database, openDatabase } from "./database.ts";
import { addAudit, addChange } from "./log_store.ts";
import { applyReport, endSilent, listSessions, sessionCounts, sessionOf } from "./report_store.ts";
import type { Db, Tables, Tx } from "./schema.ts";
import {
  type AgentContact,
  type AgentQuery,
  type AgentUsage,
  type AuditQuery,
  type DayUsage,
  type DeliveryOutcome,
  type DeliveryQuery,
  type Enrolment,
  type ForgetBefore,
  type KeptAnswer,
  type Page,
  type SessionQuery,
  type SilentEdges,
  type Store,
  StoreConflict,
  type TakenDelivery,
  type Totals,
  type TotalsQuery,
  type UsageQuery,
} from "./store.ts";
import { listUsage, monthUsed, totalsOf, usageByAgent, usageByDay } from "./usage_store.ts";
import {
  addDelivery,
  deliveryOf,
  noteCertificates,
  noteTime,
  takeDelivery,
  TOLD_KEPT_MS,
  webhookOf,
} from "./webhook_store.ts";

/** How long changes are kept for a disconnected edge; after that it receives the full state. */
export const CHANGES_KEPT_MS = DAY_MS;
/** How long the number of an edge's last report is kept, by which a repeated report is recognised. */
export const REPORTS_COUNTED_MS = 62 * DAY_MS;

/** Opens a store; see `openDatabase`. */
export async function openStore(place: string): Promise<Store> {
  return new SqlStore(await openDatabase(place));
}

class SqlStore implements Store {
  readonly kind: Database["kind"];
  readonly #database: Database;
  readonly #db: Kysely<Tables>;

  constructor(database: Database) {
    this.#database = database;
    this.kind = database.kind;
    this.#db = database.db;
  }

  addAgent(agent: Agent, join: JoinCode | undefined, audit: AuditEntry): Promise<void> {
    return this.#write((tx) => addAgent(tx, this.kind, agent, join, audit));
  }

  agent(id: string): Promise<Agent | undefined> {
    return this.#read(async (db) => {
      return agentOf(db, await db.selectFrom("agents").selectAll().where("id", "=", id).executeTakeFirst());
    });
  }

  agentNamed(tenant: string, name: string): Promise<Agent | undefined> {
    return this.#read(async (db) => {
      const row = await db.selectFrom("agents").selectAll()
        .where("tenant", "=", tenant).where("name", "=", name).executeTakeFirst();
      return agentOf(db, row);
    });
  }

  agents(query: AgentQuery): Promise<Page<Agent>> {
    return this.#read((db) => listAgents(db, query));
  }

  changeAgent(agent: Agent, join: JoinCode | undefined, audit: AuditEntry): Promise<void> {
    return this.#write((tx) => changeAgent(tx, this.kind, agent, join, audit));
  }

  removeAgent(id: string, revision: number | undefined, audit: AuditEntry): Promise<boolean> {
    return this.#write((tx) => removeAgent(tx, this.kind, id, revision, audit));
  }

  agentServing(hostname: string): Promise<Agent | undefined> {
    return this.#read(async (db) => {
      const row = await db.selectFrom("agents").selectAll("agents")
        .innerJoin("agent_hostnames", "agent_hostnames.agent", "agents.id")
        .where("agent_hostnames.name", "=", hostname).orderBy("agents.name").limit(1).executeTakeFirst();
      return agentOf(db, row);
    });
  }

  hostnameOwner(hostname: string): Promise<{ owner: string; tenant: string } | undefined> {
    return this.#read(async (db) => {
      const row = await db.selectFrom("hostnames").select(["owner", "tenant"]).where("name", "=", hostname)
        .executeTakeFirst();
      return row && { ...row };
    });
  }

  contact(agent: string): Promise<AgentContact | undefined> {
    return this.#read(async (db) => {
      const row = await db.selectFrom("contacts").selectAll().where("agent", "=", agent).executeTakeFirst();
      if (row === undefined) return undefined;
      return {
        ...row.seen_at === null ? {} : { seenAtMs: Number(row.seen_at) },
        ...row.refused_at === null ? {} : { refusedAtMs: Number(row.refused_at) },
        ...row.refusal === null ? {} : { refusal: row.refusal },
      };
    });
  }

  noteRefusal(agent: string, atMs: number, why: string): Promise<void> {
    return this.#write(async (tx) => {
      const values = { refused_at: atMs, refusal: why };
      await tx.insertInto("contacts").values({ agent, seen_at: null, ...values })
        .onConflict((conflict) => conflict.column("agent").doUpdateSet(values)).execute();
    });
  }

  enrol(
    digest: string,
    publicKey: string,
    nowMs: number,
    audit: Omit<AuditEntry, "subject" | "tenant" | "actor">,
  ): Promise<Enrolment> {
    return this.#write((tx) => enrolAgent(tx, this.kind, digest, publicKey, nowMs, audit));
  }

  useNonce(id: string, expiresAtMs: number): Promise<boolean> {
    return this.#read(async (db) => {
      const done = await db.insertInto("nonces").values({ id, expires_at: expiresAtMs })
        .onConflict((conflict) => conflict.doNothing()).executeTakeFirst();
      return Number(done.numInsertedOrUpdatedRows) > 0;
    });
  }

  addApiKey(key: ApiKey, digest: string, audit: AuditEntry): Promise<void> {
    return this.#write(async (tx) => {
      await tx.insertInto("api_keys").values({
        id: key.id,
        digest,
        name: key.name,
        tenant: key.tenant,
        scopes: JSON.stringify(key.scopes),
        hostnames: JSON.stringify(key.hostnames),
        publish: JSON.stringify(key.publish),
        created_at: key.createdAtMs,
        expires_at: key.expiresAtMs ?? null,
      }).execute();
      await addAudit(tx, audit);
    });
  }

  apiKeys(): Promise<readonly ApiKey[]> {
    return this.#read(async (db) => {
      const rows = await db.selectFrom("api_keys").selectAll().orderBy("created_at").orderBy("id").execute();
      return rows.map(apiKeyOf);
    });
  }

  apiKeyByDigest(digest: string): Promise<ApiKey | undefined> {
    return this.#read(async (db) => {
      const row = await db.selectFrom("api_keys").selectAll().where("digest", "=", digest).executeTakeFirst();
      return row === undefined ? undefined : apiKeyOf(row);
    });
  }

  removeApiKey(id: string, audit: AuditEntry): Promise<boolean> {
    return this.#write(async (tx) => {
      const done = await tx.deleteFrom("api_keys").where("id", "=", id).executeTakeFirst();
      if (Number(done.numDeletedRows) === 0) return false;
      await addAudit(tx, audit);
      return true;
    });
  }

  fernetKeys(): Promise<readonly StoredFernetKey[]> {
    return this.#read(async (db) => {
      const rows = await db.selectFrom("fernet_keys").selectAll().orderBy("position", "desc").execute();
      return rows.map(({ id, key, state, created_at }) => ({
        id,
        ...key === null ? {} : { key },
        state: state as StoredFernetKey["state"],
        createdAtMs: created_at,
      }));
    });
  }

  addFernetKey(key: StoredFernetKey, audit: AuditEntry): Promise<void> {
    return this.#write(async (tx) => {
      // First, because its lock makes each addition see the position of the one before.
      await addChange(tx, this.kind, { kind: "keys" }, audit.atMs);
      const { position } = await tx.selectFrom("fernet_keys")
        .select(({ fn }) => fn.coalesce(fn.max("position"), sql<number>`0`).as("position"))
        .executeTakeFirstOrThrow();
      await tx.insertInto("fernet_keys").values({
        id: key.id,
        key: key.key ?? null,
        state: key.state,
        created_at: key.createdAtMs,
        position: Number(position) + 1,
      }).execute();
      await addAudit(tx, audit);
    });
  }

  retireFernetKey(id: string, audit: AuditEntry): Promise<void> {
    return this.#write(async (tx) => {
      // The key itself isn't kept: a later reader of the database gets no retired key.
      await tx.insertInto("fernet_keys")
        .values({ id, key: null, state: "retired", created_at: audit.atMs, position: 0 })
        .onConflict((conflict) => conflict.column("id").doUpdateSet({ key: null, state: "retired" }))
        .execute();
      await addChange(tx, this.kind, { kind: "keys" }, audit.atMs);
      await addAudit(tx, audit);
    });
  }

  audit({ tenant, subject, cursor, limit }: AuditQuery): Promise<Page<AuditRecord>> {
    return this.#read(async (db) => {
      let query = db.selectFrom("audit").selectAll().orderBy("seq", "desc").limit(limit + 1);
      if (tenant !== undefined) query = query.where("tenant", "=", tenant);
      if (subject !== undefined) query = query.where("subject", "=", subject);
      const after = readCursor(cursor, 1);
      if (after !== undefined) query = query.where("seq", "<", Number(after[0]));
      const rows = await query.execute();
      const items = rows.slice(0, limit).map(({ at, detail, ...rest }) => ({
        ...rest,
        atMs: at,
        detail: JSON.parse(detail) as Record<string, unknown>,
      }));
      const last = items.at(-1);
      return rows.length > limit && last !== undefined ? { items, next: writeCursor([last.seq]) } : { items };
    });
  }

  addChange(body: ChangeBody, audit: AuditEntry): Promise<void> {
    return this.#write(async (tx) => {
      await addChange(tx, this.kind, body, audit.atMs);
      await addAudit(tx, audit);
    });
  }

  lastChange(): Promise<number> {
    return this.#read(async (db) => {
      const row = await db.selectFrom("changes").select("seq").orderBy("seq", "desc").limit(1)
        .executeTakeFirst();
      return row?.seq ?? 0;
    });
  }

  changesSince(seq: number): Promise<readonly Change[] | undefined> {
    return this.#read(async (db) => {
      const rows = await db.selectFrom("changes").select(["seq", "body"]).where("seq", ">=", seq)
        .orderBy("seq").execute();
      // The last one that the reader knows must still exist, or some after it may be gone.
      if (seq > 0 && rows[0]?.seq !== seq) return undefined;
      return rows.filter((row) => row.seq > seq)
        .map((row) => ({ seq: row.seq, body: JSON.parse(row.body) as ChangeBody }));
    });
  }

  rulings(): Promise<readonly AgentRuling[]> {
    return this.#read(async (db) => {
      const removed = await db.selectFrom("removed_agents").select("agent").execute();
      const agents = await db.selectFrom("agents").select(["id", "state", "generation"])
        .where(({ or, eb }) => or([eb("state", "!=", "active"), eb("generation", ">", 1)])).execute();
      return [
        ...removed.map(({ agent }) => ({ agent, blocked: true, generation: 0 })),
        ...agents.map(({ id, state, generation }) => ({
          agent: id,
          blocked: state !== "active",
          generation,
        })),
      ];
    });
  }

  applyReport(report: EdgeReport, nowMs: number): Promise<boolean> {
    return this.#write((tx) => applyReport(tx, this.kind, report, nowMs));
  }

  endSilent(silent: SilentEdges, beforeMs: number, nowMs: number): Promise<SilentEdges> {
    return this.#write((tx) => endSilent(tx, this.kind, silent, beforeMs, nowMs));
  }

  session(id: string): Promise<LiveSession | undefined> {
    return this.#read(async (db) => {
      const row = await db.selectFrom("sessions").selectAll().where("id", "=", id).executeTakeFirst();
      return row === undefined ? undefined : sessionOf(row);
    });
  }

  sessions(query: SessionQuery): Promise<Page<LiveSession>> {
    return this.#read((db) => listSessions(db, query));
  }

  usage(query: UsageQuery): Promise<readonly UsageRow[]> {
    return this.#read((db) => listUsage(db, query));
  }

  usageByDay(query: UsageQuery): Promise<readonly DayUsage[]> {
    return this.#read((db) => usageByDay(db, query));
  }

  usageByAgent(query: UsageQuery, max: number): Promise<{ items: readonly AgentUsage[]; count: number }> {
    return this.#read((db) => usageByAgent(db, query, max));
  }

  sessionCounts(agents: readonly string[]): Promise<ReadonlyMap<string, number>> {
    return this.#read((db) => sessionCounts(db, agents));
  }

  totals(query: TotalsQuery): Promise<Totals> {
    return this.#read((db) => totalsOf(db, query));
  }

  monthUsed(agents: readonly string[], month: string): Promise<ReadonlyMap<string, number>> {
    return this.#read((db) => monthUsed(db, agents, month));
  }

  reportCertificates(agent: string, certificates: readonly AgentCertificate[]): Promise<void> {
    return this.#write((tx) => noteCertificates(tx, agent, certificates));
  }

  noteTime(nowMs: number): Promise<void> {
    return this.#write((tx) => noteTime(tx, nowMs));
  }

  addWebhook(webhook: Webhook, max: number, audit: AuditEntry): Promise<boolean> {
    return this.#write(async (tx) => {
      const { id, tenant, url, events, secret, createdAtMs, dropped } = webhook;
      if (this.kind === "postgres") await sql`select pg_advisory_xact_lock(72903)`.execute(tx);
      const { count } = await tx.selectFrom("webhooks").select(sql<number>`count(*)`.as("count"))
        .where("tenant", "=", tenant).executeTakeFirstOrThrow();
      if (Number(count) >= max) return false;
      await tx.insertInto("webhooks")
        .values({
          ...{ id, tenant, url, secret, dropped },
          events: JSON.stringify(events),
          created_at: createdAtMs,
        })
        .execute();
      await addAudit(tx, audit);
      return true;
    });
  }

  webhooks(): Promise<readonly Webhook[]> {
    return this.#read(async (db) => {
      const rows = await db.selectFrom("webhooks").selectAll().orderBy("created_at").orderBy("id").execute();
      return rows.map(webhookOf);
    });
  }

  removeWebhook(id: string, audit: AuditEntry): Promise<boolean> {
    return this.#write(async (tx) => {
      const done = await tx.deleteFrom("webhooks").where("id", "=", id).executeTakeFirst();
      if (Number(done.numDeletedRows) === 0) return false;
      await tx.deleteFrom("deliveries").where("webhook", "=", id).execute();
      await addAudit(tx, audit);
      return true;
    });
  }

  addDelivery(webhook: string, event: MasterEvent): Promise<string> {
    return this.#write((tx) => addDelivery(tx, webhook, event));
  }

  takeDelivery(options: Parameters<Store["takeDelivery"]>[0]): Promise<TakenDelivery | undefined> {
    return this.#write((tx) => takeDelivery(tx, this.kind, options));
  }

  settleDelivery(id: string, { state, nextAtMs, status, error }: DeliveryOutcome): Promise<void> {
    return this.#read(async (db) => {
      await db.updateTable("deliveries")
        .set({ state, next_at: nextAtMs ?? null, status: status ?? null, error: error ?? null })
        .where("id", "=", id).execute();
    });
  }

  deliveries({ webhooks, state, cursor, limit }: DeliveryQuery): Promise<Page<WebhookDelivery>> {
    return this.#read(async (db) => {
      if (webhooks?.length === 0) return { items: [] };
      let query = db.selectFrom("deliveries").selectAll().orderBy("seq", "desc").limit(limit + 1);
      if (webhooks !== undefined) query = query.where("webhook", "in", webhooks);
      if (state !== undefined) query = query.where("state", "=", state);
      const after = readCursor(cursor, 1);
      if (after !== undefined) query = query.where("seq", "<", Number(after[0]));
      const rows = await query.execute();
      const items = rows.slice(0, limit).map(deliveryOf);
      const last = items.at(-1);
      return rows.length > limit && last !== undefined ? { items, next: writeCursor([last.seq]) } : { items };
    });
  }

  reserveAnswer(
    id: string,
    request: string,
    nowMs: number,
    expiresAtMs: number,
  ): Promise<KeptAnswer | undefined> {
    return this.#write(async (tx) => {
      await tx.deleteFrom("answers").where("id", "=", id).where("expires_at", "<", nowMs).execute();
      const done = await tx.insertInto("answers")
        .values({ id, request, status: null, headers: "{}", body: "", expires_at: expiresAtMs })
        .onConflict((conflict) => conflict.doNothing()).executeTakeFirst();
      if (Number(done.numInsertedOrUpdatedRows) > 0) return undefined;
      const kept = await tx.selectFrom("answers").selectAll().where("id", "=", id).executeTakeFirst();
      return kept && {
        request: kept.request,
        ...kept.status === null ? {} : { status: kept.status },
        headers: JSON.parse(kept.headers) as Record<string, string>,
        body: kept.body,
      };
    });
  }

  keepAnswer(
    id: string,
    { status, headers, body }: KeptAnswer & { readonly status: number },
    expiresAtMs: number,
  ): Promise<void> {
    return this.#read(async (db) => {
      const values = { status, headers: JSON.stringify(headers), body, expires_at: expiresAtMs };
      await db.updateTable("answers").set(values).where("id", "=", id).execute();
    });
  }

  dropAnswer(id: string): Promise<void> {
    return this.#read(async (db) => {
      await db.deleteFrom("answers").where("id", "=", id).execute();
    });
  }

  sweep(nowMs: number): Promise<void> {
    return this.#write(async (tx) => {
      await tx.deleteFrom("nonces").where("expires_at", "<", nowMs).execute();
      await tx.deleteFrom("answers").where("expires_at", "<", nowMs).execute();
      // Kept for a while, so that a late attempt learns what is wrong with its code.
      await tx.deleteFrom("join_codes").where("expires_at", "<", nowMs - CHANGES_KEPT_MS).execute();
      // The last change is kept: its number records the edges' position.
      const { last } = await tx.selectFrom("changes").select(({ fn }) => fn.max("seq").as("last"))
        .executeTakeFirstOrThrow();
      await tx.deleteFrom("changes").where("at", "<", nowMs - CHANGES_KEPT_MS).where("seq", "<", last ?? 0)
        .execute();
      await tx.deleteFrom("removed_agents").where("removed_at", "<", nowMs - TOKEN_TTL_MAX_S * 1000)
        .execute();
      await tx.deleteFrom("edges").where("seen_at", "<", nowMs - REPORTS_COUNTED_MS).execute();
      await tx.deleteFrom("told").where("at", "<", nowMs - TOLD_KEPT_MS).execute();
    });
  }

  forget({ auditMs, usageDay, deliveriesMs }: ForgetBefore, max: number): Promise<boolean> {
    return this.#write(async (tx) => {
      const counts: number[] = [];
      if (auditMs !== undefined) {
        await tx.insertInto("retention").values({ id: 1, audit_before: auditMs })
          .onConflict((conflict) => conflict.column("id").doUpdateSet({ audit_before: auditMs })).execute();
        // In log order: old entries are at the start, so no index on times is needed.
        const oldest = await tx.selectFrom("audit").select(["seq", "at"]).orderBy("seq").limit(max).execute();
        const last = oldest[oldest.findIndex(({ at }) => at >= auditMs) - 1] ?? oldest.at(-1);
        if (last !== undefined && last.at < auditMs) {
          const done = await tx.deleteFrom("audit").where("seq", "<=", last.seq).executeTakeFirst();
          counts.push(Number(done.numDeletedRows));
        }
      }
      if (usageDay !== undefined) {
        const done = await sql`delete from usage where (agent, day) in
          (select agent, day from usage where day < ${usageDay} order by day limit ${max})`.execute(tx);
        counts.push(Number(done.numAffectedRows ?? 0));
      }
      if (deliveriesMs !== undefined) {
        const done = await sql`delete from deliveries where seq in
          (select seq from deliveries where created_at < ${deliveriesMs} and next_at is null
            order by created_at limit ${max})`.execute(tx);
        counts.push(Number(done.numAffectedRows ?? 0));
      }
      return counts.some((count) => count >= max);
    });
  }

  async ping(): Promise<void> {
    await this.#read((db) => sql`select 1`.execute(db));
  }

  backup(path: string): Promise<void> {
    return this.#database.backup(path);
  }

  async close(): Promise<void> {
    await this.#db.destroy();
  }

  async #read<T>(work: (db: Db) => Promise<T>): Promise<T> {
    try {
      return await work(this.#db);
    } catch (error) {
      throw storeError(error);
    }
  }

  async #write<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    try {
      return await this.#db.transaction().execute(work);
    } catch (error) {
      throw storeError(error);
    }
  }
}

function storeError(cause: unknown): unknown {
  if (cause instanceof StoreConflict || cause instanceof SallyportError) return cause;
  return new SallyportError("io_failed", `Cannot use the database: ${errorMessage(cause)}`, {
    side: "local",
    retryable: true,
    cause,
  });
}

function apiKeyOf(row: Selectable<Tables["api_keys"]>): ApiKey {
  return {
    id: row.id,
    name: row.name,
    tenant: row.tenant,
    scopes: JSON.parse(row.scopes) as ApiKey["scopes"],
    hostnames: JSON.parse(row.hostnames) as string[],
    publish: JSON.parse(row.publish) as string[],
    createdAtMs: row.created_at,
    ...row.expires_at === null ? {} : { expiresAtMs: row.expires_at },
  };
}
