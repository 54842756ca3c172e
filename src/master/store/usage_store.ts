/**
 * Usage in the database.
 *
 * @module
 */
import { sql } from "kysely";
import type { ReportedUsage } from "../../wire/control/control_messages.ts";
import type { UsageRow } from "../model.ts";
import { nameBatches } from "./batches.ts";
import type { Db, Tables, Tx } from "./schema.ts";
import type { AgentUsage, DayUsage, Totals, TotalsQuery, UsageQuery, UsageSum } from "./store.ts";

/** Adds a report's usage to what the database has of the same agents and days. */
export async function addUsage(tx: Tx, usage: readonly ReportedUsage[]): Promise<void> {
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

/** See `Store.usage`. */
export async function listUsage(db: Db, query: UsageQuery): Promise<readonly UsageRow[]> {
  const rows = await usageOf(db, query).leftJoin("usage_names", "usage_names.agent", "usage.agent")
    .selectAll("usage").select("usage_names.name as name")
    .orderBy("day").orderBy("usage.agent").execute();
  return rows.map((row) => ({
    agent: row.agent,
    tenant: row.tenant,
    name: usageName(row.agent, row.name),
    day: row.day,
    ...usageSumOf(row),
  }));
}

/** See `Store.usageByDay`. */
export async function usageByDay(db: Db, query: UsageQuery): Promise<readonly DayUsage[]> {
  const rows = await usageOf(db, query).select(["day", ...usageSums()]).groupBy("day").orderBy("day")
    .execute();
  return rows.map((row) => ({ day: row.day, ...usageSumOf(row) }));
}

/** See `Store.usageByAgent`. */
export async function usageByAgent(
  db: Db,
  query: UsageQuery,
  max: number,
): Promise<{ items: readonly AgentUsage[]; count: number }> {
  const rows = await usageOf(db, query)
    .select(["agent", ...usageSums(), sql<number>`count(*) over ()`.as("count")]).groupBy("agent")
    .orderBy(sql`sum(usage.bytes_to_agent + usage.bytes_to_visitor)`, "desc").orderBy("agent").limit(max)
    .execute();
  // Only of the agents that are listed: joined to every row, the names would take longer than the sums.
  const names = new Map<string, string>();
  for (const batch of nameBatches(rows.map(({ agent }) => agent))) {
    const found = await db.selectFrom("usage_names").selectAll().where("agent", "in", batch).execute();
    for (const { agent, name } of found) names.set(agent, name);
  }
  return {
    items: rows.map((row) => ({
      agent: row.agent,
      name: usageName(row.agent, names.get(row.agent)),
      ...usageSumOf(row),
    })),
    count: Number(rows[0]?.count ?? 0),
  };
}

/** See `Store.monthUsed`. */
export async function monthUsed(
  db: Db,
  agents: readonly string[],
  month: string,
): Promise<ReadonlyMap<string, number>> {
  const used = new Map<string, number>();
  for (const batch of nameBatches(agents)) {
    const rows = await db.selectFrom("usage")
      .select(["agent", sql<number>`sum(bytes_to_agent + bytes_to_visitor)`.as("bytes")])
      .where("agent", "in", batch).where("day", ">=", `${month}-01`).where("day", "<=", `${month}-31`)
      .groupBy("agent").execute();
    for (const { agent, bytes } of rows) used.set(agent, Number(bytes));
  }
  return used;
}

/** See `Store.totals`. */
export async function totalsOf(db: Db, { tenant, from }: TotalsQuery): Promise<Totals> {
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
}

/** The rows of usage that a query asks for. */
function usageOf(db: Db, { tenant, agent, from, to }: UsageQuery) {
  let query = db.selectFrom("usage").where("day", ">=", from).where("day", "<=", to);
  if (tenant !== undefined) query = query.where("tenant", "=", tenant);
  if (agent !== undefined) query = query.where("usage.agent", "=", agent);
  return query;
}

/** The sums of grouped rows, under the columns' names. */
function usageSums() {
  return [
    sql<number>`sum(usage.bytes_to_agent)`.as("bytes_to_agent"),
    sql<number>`sum(usage.bytes_to_visitor)`.as("bytes_to_visitor"),
    sql<number>`sum(usage.streams)`.as("streams"),
    sql<number>`sum(usage.connected_ms)`.as("connected_ms"),
  ];
}

function usageSumOf(row: Omit<Tables["usage"], "agent" | "day" | "tenant">): UsageSum {
  return {
    bytesToAgent: row.bytes_to_agent,
    bytesToVisitor: row.bytes_to_visitor,
    streams: row.streams,
    connectedMs: row.connected_ms,
  };
}

/** The name of an agent, or the hostname of a token that names none. */
function usageName(agent: string, name: string | null | undefined): string {
  return name ?? agent.replace(/^hostname:/, "");
}
