/**
 * Agents in the database, and the names that belong to them.
 *
 * @module
 */
import { type Insertable, type Selectable, sql } from "kysely";
import type { Agent, AgentRuling, AuditEntry, JoinCode } from "../model.ts";
import { nameBatches } from "./batches.ts";
import { readCursor, writeCursor } from "./cursor.ts";
import type { StoreKind } from "./database.ts";
import { addAudit, addChange } from "./log_store.ts";
import type { Db, Tables, Tx } from "./schema.ts";
import { type AgentQuery, type Enrolment, ownerOf, type Page, StoreConflict } from "./store.ts";

/** See `Store.addAgent`. */
export async function addAgent(
  tx: Tx,
  kind: StoreKind,
  agent: Agent,
  join: JoinCode | undefined,
  audit: AuditEntry,
): Promise<void> {
  await lockNames(tx, kind);
  await claimName(tx, agent);
  await tx.insertInto("agents").values(agentRow(agent)).execute();
  await claimHostnames(tx, agent);
  await keepName(tx, agent);
  if (join !== undefined) await addJoinCode(tx, agent.id, join);
  await addAudit(tx, audit);
}

/** See `Store.agents`. */
export async function listAgents(
  db: Db,
  { tenant, search, state, cursor, limit }: AgentQuery,
): Promise<Page<Agent>> {
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
}

/** See `Store.changeAgent`. */
export async function changeAgent(
  tx: Tx,
  kind: StoreKind,
  agent: Agent,
  join: JoinCode | undefined,
  audit: AuditEntry,
): Promise<void> {
  await lockNames(tx, kind);
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
    await claimHostnames(tx, agent);
  }
  await keepName(tx, agent);
  if (join !== undefined) {
    await tx.deleteFrom("join_codes").where("agent", "=", agent.id).execute();
    await addJoinCode(tx, agent.id, join);
  }
  if (before.state !== agent.state || before.generation !== agent.generation) {
    await addChange(tx, kind, { kind: "agent", ruling: rulingOf(agent) }, audit.atMs);
  }
  await addAudit(tx, audit);
}

/** See `Store.removeAgent`. */
export async function removeAgent(
  tx: Tx,
  kind: StoreKind,
  id: string,
  revision: number | undefined,
  audit: AuditEntry,
): Promise<boolean> {
  const row = await tx.deleteFrom("agents").where("id", "=", id).returning("revision").executeTakeFirst();
  if (row === undefined) return false;
  if (revision !== undefined && row.revision !== revision) {
    throw new StoreConflict("revision", "the agent has been changed meanwhile");
  }
  await releaseHostnames(tx, id);
  await tx.deleteFrom("join_codes").where("agent", "=", id).execute();
  await tx.deleteFrom("certificates").where("agent", "=", id).execute();
  await tx.insertInto("removed_agents").values({ agent: id, removed_at: audit.atMs }).execute();
  await tx.deleteFrom("contacts").where("agent", "=", id).execute();
  await addChange(
    tx,
    kind,
    { kind: "agent", ruling: { agent: id, blocked: true, generation: 0 } },
    audit.atMs,
  );
  await addAudit(tx, audit);
  return true;
}

/** See `Store.enrol`. */
export async function enrolAgent(
  tx: Tx,
  kind: StoreKind,
  digest: string,
  publicKey: string,
  nowMs: number,
  audit: Omit<AuditEntry, "subject" | "tenant" | "actor">,
): Promise<Enrolment> {
  const code = await tx.selectFrom("join_codes").selectAll().where("digest", "=", digest)
    .executeTakeFirst();
  // Locked: a suspension at the same time must neither be lost nor be overtaken.
  const row = code && await tx.selectFrom("agents").selectAll().where("id", "=", code.agent)
    .$if(kind === "postgres", (query) => query.forUpdate()).executeTakeFirst();
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
}

/** The agent of a row, if there is one. */
export async function agentOf(
  db: Db,
  row: Selectable<Tables["agents"]> | undefined,
): Promise<Agent | undefined> {
  return row === undefined ? undefined : (await withHostnames(db, [row]))[0];
}

/** An agent's ruling, for edges. */
function rulingOf({ id, state, generation }: Agent): AgentRuling {
  return { agent: id, blocked: state !== "active", generation };
}

/**
 * Makes transactions that reserve names wait for one another: of two that reserve the same one, or a wildcard and a
 * name below it, one must see the other's.
 */
async function lockNames(tx: Tx, kind: StoreKind): Promise<void> {
  if (kind === "postgres") await sql`select pg_advisory_xact_lock(72901)`.execute(tx);
}

/** Reserves an agent's hostnames for its owner. */
async function claimHostnames(tx: Tx, agent: Agent): Promise<void> {
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

function taken(name: string, by: string): StoreConflict {
  const why = by === name ? "belongs to another agent" : `overlaps ${by}, which belongs to another tenant`;
  return new StoreConflict("hostnames", `${name} ${why}`, name);
}

/** A hostname of another tenant below this wildcard, or a wildcard of another tenant above this name. */
async function otherTenantsOverlap(
  tx: Tx,
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

async function claimName(tx: Tx, { id, tenant, name }: Agent): Promise<void> {
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

async function releaseHostnames(tx: Tx, agent: string): Promise<void> {
  const names = await tx.selectFrom("agent_hostnames").select("name").where("agent", "=", agent).execute();
  await tx.deleteFrom("agent_hostnames").where("agent", "=", agent).execute();
  for (const { name } of names) {
    await tx.deleteFrom("hostnames").where("name", "=", name)
      .where(({ not, exists, selectFrom }) =>
        not(exists(selectFrom("agent_hostnames").select("agent").where("agent_hostnames.name", "=", name)))
      ).execute();
  }
}

async function keepName(tx: Tx, { id: agent, name }: Agent): Promise<void> {
  await tx.insertInto("usage_names").values({ agent, name })
    .onConflict((conflict) => conflict.column("agent").doUpdateSet({ name })).execute();
}

async function addJoinCode(tx: Tx, agent: string, join: JoinCode): Promise<void> {
  await tx.insertInto("join_codes").values({
    digest: join.digest,
    agent,
    expires_at: join.expiresAtMs,
    used_at: null,
  })
    .execute();
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
