/**
 * The store on an SQL database.
 *
 * @module
 */
import { type Insertable, type Kysely, type Selectable, sql, type Transaction } from "kysely";
import { errorMessage, SallyportError } from "../../errors.ts";
import { mergedUsage, type ReportedUsage } from "../../wire/control/control_messages.ts";
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
import { nameBatches, rowBatches } from "./batches.ts";
import { readCursor, writeCursor } from "./cursor.ts";
import { type Database, openDatabase } from "./database.ts";
import type { Tables } from "./schema.ts";
import {
  type AgentContact,
  type AgentQuery,
  type AuditQuery,
  type DeliveryOutcome,
  type DeliveryQuery,
  type Enrolment,
  type ForgetBefore,
  type KeptAnswer,
  ownerOf,
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
import {
  addDelivery,
  deliveryOf,
  EventWriter,
  noteCertificates,
  noteQuotas,
  noteSessions,
  noteTime,
  takeDelivery,
  TOLD_KEPT_MS,
  webhookOf,
} from "./webhook_store.ts";

/** How long changes are kept for a disconnected edge; after that it receives the full state. */
export const CHANGES_KEPT_MS = 24 * 3_600_000;
/** How long the number of an edge's last report is kept, by which a repeated report is recognised. */
export const REPORTS_COUNTED_MS = 62 * 24 * 3_600_000;
/** The protocol version of a session without one. */
const NO_VERSION = -1;

/** Opens a store; see `openDatabase`. */
export async function openStore(place: string): Promise<Store> {
  return new SqlStore(await openDatabase(place));
}

type Db = Kysely<Tables> | Transaction<Tables>;

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
    return this.#write(async (tx) => {
      await this.#lockNames(tx);
      await claimName(tx, agent);
      await tx.insertInto("agents").values(agentRow(agent)).execute();
      await this.#claimHostnames(tx, agent);
      await keepName(tx, agent);
      if (join !== undefined) await addJoinCode(tx, agent.id, join);
      await addAudit(tx, audit);
    });
  }

  agent(id: string): Promise<Agent | undefined> {
    return this.#read(async (db) => {
      const row = await db.selectFrom("agents").selectAll().where("id", "=", id).executeTakeFirst();
      return row === undefined ? undefined : (await withHostnames(db, [row]))[0];
    });
  }

  agentNamed(tenant: string, name: string): Promise<Agent | undefined> {
    return this.#read(async (db) => {
      const row = await db.selectFrom("agents").selectAll()
        .where("tenant", "=", tenant).where("name", "=", name).executeTakeFirst();
      return row === undefined ? undefined : (await withHostnames(db, [row]))[0];
    });
  }

  agents({ tenant, search, state, cursor, limit }: AgentQuery): Promise<Page<Agent>> {
    return this.#read(async (db) => {
      let query = db.selectFrom("agents").selectAll().orderBy("name").orderBy("id").limit(limit + 1);
      if (tenant !== undefined) query = query.where("tenant", "=", tenant);
      if (state !== undefined) query = query.where("state", "=", state);
      if (search !== undefined && search !== "") {
        const pattern = `%${search.toLowerCase().replace(/[\\%_]/g, "\\$&")}%`;
        query = query.where(({ or, exists, selectFrom, ref }) =>
          or([
            sql<boolean>`lower(${ref("agents.name")}) like ${pattern} escape '\\'`,
            sql<boolean>`lower(${ref("agents.notes")}) like ${pattern} escape '\\'`,
            exists(
              selectFrom("agent_hostnames").select("agent_hostnames.agent")
                .whereRef("agent_hostnames.agent", "=", "agents.id")
                .where(sql<boolean>`agent_hostnames.name like ${pattern} escape '\\'`),
            ),
          ])
        );
      }
      const after = readCursor(cursor, 2);
      if (after !== undefined) {
        const [name, id] = after as [string, string];
        query = query.where(({ or, and, eb }) =>
          or([eb("name", ">", name), and([eb("name", "=", name), eb("id", ">", id)])])
        );
      }
      const rows = await query.execute();
      const items = await withHostnames(db, rows.slice(0, limit));
      const last = items.at(-1);
      return rows.length > limit && last !== undefined
        ? { items, next: writeCursor([last.name, last.id]) }
        : { items };
    });
  }

  changeAgent(agent: Agent, join: JoinCode | undefined, audit: AuditEntry): Promise<void> {
    return this.#write(async (tx) => {
      await this.#lockNames(tx);
      const before = await tx.selectFrom("agents").selectAll().where("id", "=", agent.id).executeTakeFirst();
      if (before === undefined || before.revision !== agent.revision - 1) {
        throw new StoreConflict("revision", "the agent has been changed meanwhile");
      }
      if (before.name !== agent.name || before.tenant !== agent.tenant) await claimName(tx, agent);
      const { id: _, ...columns } = agentRow(agent);
      const done = await tx.updateTable("agents").set(columns)
        .where("id", "=", agent.id).where("revision", "=", agent.revision - 1).executeTakeFirst();
      if (Number(done.numUpdatedRows) === 0) {
        throw new StoreConflict("revision", "the agent has been changed meanwhile");
      }
      const [old] = await withHostnames(tx, [before]);
      if (
        old !== undefined &&
        (old.hostnames.join() !== agent.hostnames.join() || ownerOf(old) !== ownerOf(agent))
      ) {
        await releaseHostnames(tx, agent.id);
        await this.#claimHostnames(tx, agent);
      }
      await keepName(tx, agent);
      if (join !== undefined) {
        await tx.deleteFrom("join_codes").where("agent", "=", agent.id).execute();
        await addJoinCode(tx, agent.id, join);
      }
      if (before.state !== agent.state || before.generation !== agent.generation) {
        await this.#addChange(tx, { kind: "agent", ruling: rulingOf(agent) }, audit.atMs);
      }
      await addAudit(tx, audit);
    });
  }

  removeAgent(id: string, audit: AuditEntry): Promise<boolean> {
    return this.#write(async (tx) => {
      const done = await tx.deleteFrom("agents").where("id", "=", id).executeTakeFirst();
      if (Number(done.numDeletedRows) === 0) return false;
      await releaseHostnames(tx, id);
      await tx.deleteFrom("join_codes").where("agent", "=", id).execute();
      await tx.deleteFrom("certificates").where("agent", "=", id).execute();
      await tx.insertInto("removed_agents").values({ agent: id, removed_at: audit.atMs }).execute();
      await tx.deleteFrom("contacts").where("agent", "=", id).execute();
      await this.#addChange(
        tx,
        { kind: "agent", ruling: { agent: id, blocked: true, generation: 0 } },
        audit.atMs,
      );
      await addAudit(tx, audit);
      return true;
    });
  }

  agentServing(hostname: string): Promise<Agent | undefined> {
    return this.#read(async (db) => {
      const row = await db.selectFrom("agents").selectAll("agents")
        .innerJoin("agent_hostnames", "agent_hostnames.agent", "agents.id")
        .where("agent_hostnames.name", "=", hostname).orderBy("agents.name").limit(1).executeTakeFirst();
      return row === undefined ? undefined : (await withHostnames(db, [row]))[0];
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
    return this.#write(async (tx): Promise<Enrolment> => {
      const code = await tx.selectFrom("join_codes").selectAll().where("digest", "=", digest)
        .executeTakeFirst();
      // Locked: a suspension at the same time must neither be lost nor be overtaken.
      const row = code && await tx.selectFrom("agents").selectAll().where("id", "=", code.agent)
        .$if(this.kind === "postgres", (query) => query.forUpdate()).executeTakeFirst();
      if (code === undefined || row === undefined) return { refused: "unknown" };
      // The response to the first attempt may have been lost.
      if (code.used_at !== null) {
        if (row.public_key !== publicKey) return { refused: "used" };
        const [agent] = await withHostnames(tx, [row]);
        return { agent: agent! };
      }
      if (code.expires_at < nowMs) return { refused: "expired" };
      const taken = await tx.updateTable("join_codes").set({ used_at: nowMs })
        .where("digest", "=", digest).where("used_at", "is", null).executeTakeFirst();
      if (Number(taken.numUpdatedRows) === 0) return { refused: "used" };
      const changed = { ...row, public_key: publicKey, revision: row.revision + 1, updated_at: nowMs };
      await tx.updateTable("agents").set(changed).where("id", "=", row.id).execute();
      await addAudit(tx, { ...audit, actor: row.id, subject: row.id, tenant: row.tenant });
      const [agent] = await withHostnames(tx, [changed]);
      return { agent: agent! };
    });
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
      await this.#addChange(tx, { kind: "keys" }, audit.atMs);
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
      await this.#addChange(tx, { kind: "keys" }, audit.atMs);
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
      await this.#addChange(tx, body, audit.atMs);
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
    return this.#write(async (tx) => {
      const { edge, epoch, seq } = report;
      // The row exists before it is locked, so that an edge's first report counts once too.
      await tx.insertInto("edges").values({ edge, epoch, seq: 0, seen_at: nowMs })
        .onConflict((conflict) => conflict.doNothing()).execute();
      const known = await tx.selectFrom("edges").selectAll().where("edge", "=", edge)
        .$if(this.kind === "postgres", (query) => query.forUpdate()).executeTakeFirstOrThrow();
      if (known.epoch === epoch && seq <= known.seq) return false;
      await tx.updateTable("edges").set({ epoch, seq, seen_at: nowMs }).where("edge", "=", edge).execute();
      const ended: string[] = [];
      const end = async (ids?: readonly string[]) => {
        let query = tx.deleteFrom("sessions").where("edge", "=", edge);
        if (ids !== undefined) query = query.where("id", "in", ids);
        ended.push(...(await query.returning("agent").execute()).map(({ agent }) => agent));
      };
      if (report.fresh) await end();
      for (const batch of nameBatches(report.closed)) await end(batch);
      // A statement can't insert a row twice.
      const sessions = new Map(
        report.sessions.map((session) => [session.id, sessionRow({ ...session, edge })]),
      );
      for await (const batch of rowBatches([...sessions.values()])) {
        await tx.insertInto("sessions").values(batch)
          .onConflict((conflict) =>
            conflict.column("id").doUpdateSet(({ ref }) => ({
              streams: ref("excluded.streams"),
              bytes_to_agent: ref("excluded.bytes_to_agent"),
              bytes_to_visitor: ref("excluded.bytes_to_visitor"),
            }))
          )
          .execute();
      }
      // In a fixed order, so that concurrent reports of two edges don't block each other.
      const usage = mergedUsage(report.usage).sort((a, b) =>
        a.agent < b.agent || (a.agent === b.agent && a.day < b.day) ? -1 : 1
      );
      for await (const batch of rowBatches(usage)) await addUsage(tx, batch);
      const events = new EventWriter(tx);
      // A session that began and ended between two reports left only its usage.
      const left = [...ended, ...usage.map(({ agent }) => agent)];
      await noteSessions(tx, report, left, nowMs, events);
      await noteQuotas(tx, report, nowMs, events);
      return true;
    });
  }

  endSilent(silent: SilentEdges, beforeMs: number, nowMs: number): Promise<SilentEdges> {
    return this.#write(async (tx) => {
      const rows = await tx.selectFrom("edges").select(["edge", "seen_at"]).where("seen_at", "<", beforeMs)
        .where(({ exists, selectFrom }) =>
          exists(selectFrom("sessions").select("id").whereRef("sessions.edge", "=", "edges.edge"))
        )
        .$if(this.kind === "postgres", (query) => query.forUpdate()).execute();
      const left = new Map<string, number>();
      for (const { edge, seen_at } of rows) {
        if (silent.get(edge) !== seen_at) {
          left.set(edge, seen_at);
          continue;
        }
        const ended = await tx.deleteFrom("sessions").where("edge", "=", edge).returning("agent").execute();
        const agents = ended.map(({ agent }) => agent);
        await noteSessions(tx, { edge, sessions: [] }, agents, nowMs, new EventWriter(tx));
      }
      return left;
    });
  }

  session(id: string): Promise<LiveSession | undefined> {
    return this.#read(async (db) => {
      const row = await db.selectFrom("sessions").selectAll().where("id", "=", id).executeTakeFirst();
      return row === undefined ? undefined : sessionOf(row);
    });
  }

  sessions({ tenant, agent, cursor, limit }: SessionQuery): Promise<Page<LiveSession>> {
    return this.#read(async (db) => {
      let query = db.selectFrom("sessions").selectAll().orderBy("hostname").orderBy("id").limit(limit + 1);
      if (tenant !== undefined) query = query.where("tenant", "=", tenant);
      if (agent !== undefined) query = query.where("agent", "=", agent);
      const after = readCursor(cursor, 2);
      if (after !== undefined) {
        const [hostname, id] = after as [string, string];
        query = query.where(({ or, and, eb }) =>
          or([eb("hostname", ">", hostname), and([eb("hostname", "=", hostname), eb("id", ">", id)])])
        );
      }
      const rows = await query.execute();
      const items = rows.slice(0, limit).map(sessionOf);
      const last = items.at(-1);
      return rows.length > limit && last !== undefined
        ? { items, next: writeCursor([last.hostname, last.id]) }
        : { items };
    });
  }

  usage({ tenant, agent, from, to }: UsageQuery): Promise<readonly UsageRow[]> {
    return this.#read(async (db) => {
      let query = db.selectFrom("usage").leftJoin("usage_names", "usage_names.agent", "usage.agent")
        .selectAll("usage").select("usage_names.name as name")
        .where("day", ">=", from).where("day", "<=", to).orderBy("day").orderBy("usage.agent");
      if (tenant !== undefined) query = query.where("tenant", "=", tenant);
      if (agent !== undefined) query = query.where("usage.agent", "=", agent);
      const rows = await query.execute();
      return rows.map((row) => ({
        agent: row.agent,
        tenant: row.tenant,
        name: row.name ?? row.agent.replace(/^hostname:/, ""),
        day: row.day,
        bytesToAgent: row.bytes_to_agent,
        bytesToVisitor: row.bytes_to_visitor,
        streams: row.streams,
        connectedMs: row.connected_ms,
      }));
    });
  }

  sessionCounts(agents: readonly string[]): Promise<ReadonlyMap<string, number>> {
    return this.#read(async (db) => {
      const counts = new Map<string, number>();
      for (const batch of nameBatches(agents)) {
        const rows = await db.selectFrom("sessions").select(["agent", (eb) => eb.fn.countAll().as("count")])
          .where("agent", "in", batch).groupBy("agent").execute();
        for (const { agent, count } of rows) counts.set(agent, Number(count));
      }
      return counts;
    });
  }

  totals({ tenant, from }: TotalsQuery): Promise<Totals> {
    return this.#read(async (db) => {
      let agents = db.selectFrom("agents").select((eb) => eb.fn.countAll().as("agents"));
      let sessions = db.selectFrom("sessions").select((eb) => [
        eb.fn.countAll().as("sessions"),
        // A token for a hostname only belongs to no agent.
        sql<number>`count(distinct case when agent not like 'hostname:%' then agent end)`.as("online"),
        eb.fn.sum("streams").as("streams"),
      ]);
      let usage = db.selectFrom("usage").select((eb) => [
        eb.fn.sum("bytes_to_agent").as("toAgent"),
        eb.fn.sum("bytes_to_visitor").as("toVisitor"),
      ]).where("day", ">=", from);
      if (tenant !== undefined) {
        agents = agents.where("tenant", "=", tenant);
        sessions = sessions.where("tenant", "=", tenant);
        usage = usage.where("tenant", "=", tenant);
      }
      const [known, live, used] = [
        await agents.executeTakeFirstOrThrow(),
        await sessions.executeTakeFirstOrThrow(),
        await usage.executeTakeFirstOrThrow(),
      ];
      return {
        agents: Number(known.agents),
        online: Number(live.online),
        sessions: Number(live.sessions),
        streams: Number(live.streams ?? 0),
        bytesToAgent: Number(used.toAgent ?? 0),
        bytesToVisitor: Number(used.toVisitor ?? 0),
      };
    });
  }

  monthUsed(agents: readonly string[], month: string): Promise<ReadonlyMap<string, number>> {
    return this.#read(async (db) => {
      const used = new Map<string, number>();
      for (const batch of nameBatches(agents)) {
        const rows = await db.selectFrom("usage")
          .select(["agent", sql<number>`sum(bytes_to_agent + bytes_to_visitor)`.as("bytes")])
          .where("agent", "in", batch).where("day", ">=", `${month}-01`).where("day", "<=", `${month}-31`)
          .groupBy("agent").execute();
        for (const { agent, bytes } of rows) used.set(agent, Number(bytes));
      }
      return used;
    });
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

  async #addChange(tx: Transaction<Tables>, body: ChangeBody, atMs: number): Promise<void> {
    // Numbers are assigned before transactions commit: without a lock a reader could see a later change before an
    // earlier one.
    if (this.kind === "postgres") await sql`select pg_advisory_xact_lock(72902)`.execute(tx);
    await tx.insertInto("changes").values({ at: atMs, body: JSON.stringify(body) }).execute();
  }

  /**
   * Makes transactions that reserve names wait for one another: of two that reserve the same one, or a wildcard and a
   * name below it, one must see the other's.
   */
  async #lockNames(tx: Transaction<Tables>): Promise<void> {
    if (this.kind === "postgres") await sql`select pg_advisory_xact_lock(72901)`.execute(tx);
  }

  /** Reserves an agent's hostnames for its owner. */
  async #claimHostnames(tx: Transaction<Tables>, agent: Agent): Promise<void> {
    const { id, tenant, hostnames } = agent;
    const owner = ownerOf(agent);
    for (const [position, name] of hostnames.entries()) {
      await tx.insertInto("hostnames").values({ name, owner, tenant })
        .onConflict((conflict) => conflict.doNothing()).execute();
      const held = await tx.selectFrom("hostnames").selectAll().where("name", "=", name)
        .executeTakeFirstOrThrow();
      if (held.owner !== owner) throw taken(name, name);
      const across = await otherTenantsOverlap(tx, name, tenant);
      if (across !== undefined) throw taken(name, across);
      await tx.insertInto("agent_hostnames").values({ agent: id, position, name }).execute();
    }
  }

  async #read<T>(work: (db: Db) => Promise<T>): Promise<T> {
    try {
      return await work(this.#db);
    } catch (error) {
      throw storeError(error);
    }
  }

  async #write<T>(work: (tx: Transaction<Tables>) => Promise<T>): Promise<T> {
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

function taken(name: string, by: string): StoreConflict {
  const why = by === name ? "belongs to another agent" : `overlaps ${by}, which belongs to another tenant`;
  return new StoreConflict("hostnames", `${name} ${why}`, name);
}

/** A hostname of another tenant below this wildcard, or a wildcard of another tenant above this name. */
async function otherTenantsOverlap(
  tx: Transaction<Tables>,
  name: string,
  tenant: string,
): Promise<string | undefined> {
  const plain = name.replace(/^\*\./, "");
  const labels = plain.split(".");
  const above = labels.slice(1).map((_, index) => `*.${labels.slice(index + 1).join(".")}`);
  let query = tx.selectFrom("hostnames").select("name").where("tenant", "!=", tenant);
  query = name.startsWith("*.")
    ? query.where(({ or, eb }) =>
      or([
        ...above.length === 0 ? [] : [eb("name", "in", above)],
        sql<boolean>`name like ${`%.${plain.replace(/[\\%_]/g, "\\$&")}`} escape '\\'`,
      ])
    )
    : query.where("name", "in", above.length === 0 ? [""] : above);
  return (await query.limit(1).executeTakeFirst())?.name;
}

async function claimName(tx: Transaction<Tables>, { id, tenant, name }: Agent): Promise<void> {
  const held = await tx.selectFrom("agents").select("id").where("tenant", "=", tenant).where(
    "name",
    "=",
    name,
  )
    .executeTakeFirst();
  if (held !== undefined && held.id !== id) {
    throw new StoreConflict("name", `${name} is the name of another agent`);
  }
}

async function releaseHostnames(tx: Transaction<Tables>, agent: string): Promise<void> {
  const names = await tx.selectFrom("agent_hostnames").select("name").where("agent", "=", agent).execute();
  await tx.deleteFrom("agent_hostnames").where("agent", "=", agent).execute();
  for (const { name } of names) {
    await tx.deleteFrom("hostnames").where("name", "=", name)
      .where(({ not, exists, selectFrom }) =>
        not(exists(selectFrom("agent_hostnames").select("agent").where("agent_hostnames.name", "=", name)))
      ).execute();
  }
}

async function keepName(tx: Transaction<Tables>, { id: agent, name }: Agent): Promise<void> {
  await tx.insertInto("usage_names").values({ agent, name })
    .onConflict((conflict) => conflict.column("agent").doUpdateSet({ name })).execute();
}

async function addJoinCode(tx: Transaction<Tables>, agent: string, join: JoinCode): Promise<void> {
  await tx.insertInto("join_codes").values({
    digest: join.digest,
    agent,
    expires_at: join.expiresAtMs,
    used_at: null,
  })
    .execute();
}

async function addAudit(tx: Transaction<Tables>, { atMs, detail, ...entry }: AuditEntry): Promise<void> {
  await tx.insertInto("audit").values({ ...entry, at: atMs, detail: JSON.stringify(detail) }).execute();
}

async function addUsage(tx: Transaction<Tables>, usage: readonly ReportedUsage[]): Promise<void> {
  const rows = usage.map((used) => ({
    agent: used.agent,
    day: used.day,
    tenant: used.tenant,
    bytes_to_agent: used.bytesToAgent,
    bytes_to_visitor: used.bytesToVisitor,
    streams: used.streams,
    connected_ms: used.connectedMs,
  }));
  await tx.insertInto("usage").values(rows)
    .onConflict((conflict) =>
      conflict.columns(["agent", "day"]).doUpdateSet(({ eb, ref }) => ({
        bytes_to_agent: eb(ref("usage.bytes_to_agent"), "+", ref("excluded.bytes_to_agent")),
        bytes_to_visitor: eb(ref("usage.bytes_to_visitor"), "+", ref("excluded.bytes_to_visitor")),
        streams: eb(ref("usage.streams"), "+", ref("excluded.streams")),
        connected_ms: eb(ref("usage.connected_ms"), "+", ref("excluded.connected_ms")),
      }))
    ).execute();
}

function agentRow(agent: Agent): Insertable<Tables["agents"]> {
  return {
    id: agent.id,
    tenant: agent.tenant,
    name: agent.name,
    sharing_group: agent.group ?? null,
    state: agent.state,
    publish: JSON.stringify(agent.publish),
    limits: JSON.stringify(agent.limits),
    agent_networks: JSON.stringify(agent.agentNetworks),
    visitor_networks: JSON.stringify(agent.visitorNetworks),
    expires_at: agent.expiresAtMs ?? null,
    notes: agent.notes,
    public_key: agent.publicKey ?? null,
    generation: agent.generation,
    revision: agent.revision,
    created_at: agent.createdAtMs,
    updated_at: agent.updatedAtMs,
  };
}

async function withHostnames(db: Db, rows: readonly Selectable<Tables["agents"]>[]): Promise<Agent[]> {
  const byAgent = new Map<string, string[]>();
  for (const batch of nameBatches(rows.map(({ id }) => id))) {
    const found = await db.selectFrom("agent_hostnames").select(["agent", "name"]).where("agent", "in", batch)
      .orderBy("agent").orderBy("position").execute();
    for (const { agent, name } of found) byAgent.set(agent, [...byAgent.get(agent) ?? [], name]);
  }
  return rows.map((row) => ({
    id: row.id,
    tenant: row.tenant,
    name: row.name,
    ...row.sharing_group === null ? {} : { group: row.sharing_group },
    state: row.state as Agent["state"],
    hostnames: byAgent.get(row.id) ?? [],
    publish: JSON.parse(row.publish) as string[],
    limits: JSON.parse(row.limits) as Agent["limits"],
    agentNetworks: JSON.parse(row.agent_networks) as string[],
    visitorNetworks: JSON.parse(row.visitor_networks) as string[],
    ...row.expires_at === null ? {} : { expiresAtMs: row.expires_at },
    notes: row.notes,
    ...row.public_key === null ? {} : { publicKey: row.public_key },
    generation: row.generation,
    revision: row.revision,
    createdAtMs: row.created_at,
    updatedAtMs: row.updated_at,
  }));
}

/** An agent's ruling, for edges. */
function rulingOf({ id, state, generation }: Agent): AgentRuling {
  return { agent: id, blocked: state !== "active", generation };
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

function sessionRow(session: LiveSession): Tables["sessions"] {
  return {
    id: session.id,
    edge: session.edge,
    agent: session.agent,
    tenant: session.tenant,
    hostname: session.hostname,
    remote: session.remote,
    transport: session.transport,
    protocol_version: session.protocolVersion ?? NO_VERSION,
    cipher: session.cipher,
    since: session.sinceMs,
    streams: session.streams,
    bytes_to_agent: session.bytesToAgent,
    bytes_to_visitor: session.bytesToVisitor,
  };
}

function sessionOf(row: Selectable<Tables["sessions"]>): LiveSession {
  return {
    id: row.id,
    edge: row.edge,
    agent: row.agent,
    tenant: row.tenant,
    hostname: row.hostname,
    remote: row.remote,
    transport: row.transport,
    ...row.protocol_version === NO_VERSION ? {} : { protocolVersion: row.protocol_version },
    cipher: row.cipher,
    sinceMs: row.since,
    streams: row.streams,
    bytesToAgent: row.bytes_to_agent,
    bytesToVisitor: row.bytes_to_visitor,
  };
}
