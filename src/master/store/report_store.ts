/**
 * Edges' reports in the database: live sessions, and the count of reports.
 *
 * @module
 */
import type { Selectable } from "kysely";
import { mergedUsage } from "../../wire/control/control_messages.ts";
import type { EdgeReport, LiveSession } from "../model.ts";
import { nameBatches, rowBatches } from "./batches.ts";
import { readCursor, writeCursor } from "./cursor.ts";
import type { StoreKind } from "./database.ts";
import type { Db, Tables, Tx } from "./schema.ts";
import type { Page, SessionQuery, SilentEdges } from "./store.ts";
import { addUsage } from "./usage_store.ts";
import { EventWriter, noteQuotas, noteSessions } from "./webhook_store.ts";

/** The protocol version of a session without one. */
const NO_VERSION = -1;

/** See `Store.applyReport`. */
export async function applyReport(
  tx: Tx,
  kind: StoreKind,
  report: EdgeReport,
  nowMs: number,
): Promise<boolean> {
  const { edge, epoch, seq } = report;
  // The row exists before it is locked, so that an edge's first report counts once too.
  await tx.insertInto("edges").values({ edge, epoch, seq: 0, seen_at: nowMs })
    .onConflict((conflict) => conflict.doNothing()).execute();
  const known = await tx.selectFrom("edges").selectAll().where("edge", "=", edge)
    .$if(kind === "postgres", (query) => query.forUpdate()).executeTakeFirstOrThrow();
  if (known.epoch === epoch && seq <= known.seq) return false;
  await tx.updateTable("edges").set({ epoch, seq, seen_at: nowMs }).where("edge", "=", edge).execute();
  const ended: string[] = [];
  for (const batch of nameBatches([...report.closed, ...await unlistedSessions(tx, report)])) {
    const rows = await tx.deleteFrom("sessions").where("edge", "=", edge).where("id", "in", batch)
      .returning("agent").execute();
    for (const { agent } of rows) ended.push(agent);
  }
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
}

/** See `Store.endSilent`. */
export async function endSilent(
  tx: Tx,
  kind: StoreKind,
  silent: SilentEdges,
  beforeMs: number,
  nowMs: number,
): Promise<SilentEdges> {
  const rows = await tx.selectFrom("edges").select(["edge", "seen_at"]).where("seen_at", "<", beforeMs)
    .where(({ exists, selectFrom }) =>
      exists(selectFrom("sessions").select("id").whereRef("sessions.edge", "=", "edges.edge"))
    )
    .$if(kind === "postgres", (query) => query.forUpdate()).execute();
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
}

/** See `Store.sessions`. */
export async function listSessions(
  db: Db,
  { tenant, agent, cursor, limit }: SessionQuery,
): Promise<Page<LiveSession>> {
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
}

/** See `Store.sessionCounts`. */
export async function sessionCounts(db: Db, agents: readonly string[]): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  for (const batch of nameBatches(agents)) {
    const rows = await db.selectFrom("sessions").select(["agent", (eb) => eb.fn.countAll().as("count")])
      .where("agent", "in", batch).groupBy("agent").execute();
    for (const { agent, count } of rows) counts.set(agent, Number(count));
  }
  return counts;
}

/** A session in the model's form. */
export function sessionOf(row: Selectable<Tables["sessions"]>): LiveSession {
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

/** The sessions that a fresh report says have ended, because neither it nor the reports after it list them. */
async function unlistedSessions(
  tx: Tx,
  { edge, fresh, sessions, following = [] }: EdgeReport,
): Promise<string[]> {
  if (!fresh) return [];
  const listed = new Set([...sessions.map(({ id }) => id), ...following]);
  const known = await tx.selectFrom("sessions").select("id").where("edge", "=", edge).execute();
  return known.map(({ id }) => id).filter((id) => !listed.has(id));
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
