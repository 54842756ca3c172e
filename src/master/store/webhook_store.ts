/**
 * Webhooks in the database: their destinations, their queued messages, and the events that cause them.
 *
 * Events are written in the transaction that causes them, so that a crash neither loses nor repeats one.
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import { type Selectable, sql } from "kysely";
import { DAY_MS, monthOf } from "../../calendar.ts";
import {
  type AgentCertificate,
  ALL_TENANTS,
  type EdgeReport,
  type EventType,
  type LiveSession,
  type MasterEvent,
  type Webhook,
  type WebhookDelivery,
} from "../model.ts";
import { nameBatches, rowBatches } from "./batches.ts";
import type { StoreKind } from "./database.ts";
import type { Tables, Tx } from "./schema.ts";
import { monthUsed } from "./usage_store.ts";

/** An agent without a new session counts as offline this long after its last one ended. */
export const AGENT_OFFLINE_AFTER_MS = 30_000;
/** Messages queued for one webhook; further events are dropped. */
export const WEBHOOK_WAITING_MAX = 10_000;
/** A certificate is about to expire when less than this is left, or a fifth of its lifetime if that is less. */
export const CERTIFICATE_WARNING_MS = 14 * DAY_MS;
const CERTIFICATE_WARNING_SHARE = 1 / 5;
/** Time-based webhook events per transaction. */
const TIMED_EVENTS_MAX = 500;
/** Retention of the record that a month's quota was reported. */
export const TOLD_KEPT_MS = 62 * DAY_MS;

/** An event about an agent, which the writer names in its data. */
interface AgentEvent extends MasterEvent {
  readonly agent: string;
  /** Given where the agent may have no entry, because its token comes from another key. */
  readonly hostname?: string;
}

/** Converts the events of one transaction into messages for the webhooks that want them. */
export class EventWriter {
  readonly #tx: Tx;
  #webhooks: Promise<{ readonly webhook: Webhook; waiting: number }[]> | undefined;

  constructor(tx: Tx) {
    this.#tx = tx;
  }

  async add({ agent, hostname, ...event }: AgentEvent): Promise<void> {
    const wanting = (await (this.#webhooks ??= this.#load())).filter(({ webhook }) =>
      webhook.events.includes(event.type) &&
      (webhook.tenant === ALL_TENANTS || webhook.tenant === event.tenant)
    );
    if (wanting.length === 0) return;
    const data = { ...await agentMembers(this.#tx, agent, hostname), ...event.data };
    for (const entry of wanting) {
      const { webhook } = entry;
      if (entry.waiting >= WEBHOOK_WAITING_MAX) {
        await this.#tx.updateTable("webhooks").set(({ eb }) => ({ dropped: eb("dropped", "+", 1) }))
          .where("id", "=", webhook.id).execute();
        continue;
      }
      entry.waiting++;
      await addDelivery(this.#tx, webhook.id, { ...event, data });
    }
  }

  async #load() {
    const rows = await this.#tx.selectFrom("webhooks").selectAll().execute();
    if (rows.length === 0) return [];
    const counts = await this.#tx.selectFrom("deliveries").select([
      "webhook",
      sql<number>`count(*)`.as("waiting"),
    ])
      .where("next_at", "is not", null).groupBy("webhook").execute();
    const waiting = new Map(counts.map(({ webhook, waiting }) => [webhook, Number(waiting)]));
    return rows.map((row) => ({ webhook: webhookOf(row), waiting: waiting.get(row.id) ?? 0 }));
  }
}

/** Queues a message for immediate sending; returns its id. */
export async function addDelivery(tx: Tx, webhook: string, event: MasterEvent): Promise<string> {
  const id = `msg_${randomUUID().replaceAll("-", "")}`;
  const { type, atMs, tenant, data } = event;
  await tx.insertInto("deliveries").values({
    id,
    webhook,
    event: type,
    body: JSON.stringify({ type, timestamp: new Date(atMs).toISOString(), tenant, data }),
    state: "waiting",
    created_at: atMs,
    attempts: 0,
    sent_at: null,
    next_at: atMs,
    status: null,
    error: null,
  }).execute();
  return id;
}

/**
 * Takes a message for sending and reserves it until `nowMs + leaseMs`. The attempt is counted now, so that a message
 * that crashes the process isn't retried for ever.
 */
export async function takeDelivery(
  db: Tx,
  kind: StoreKind,
  { nowMs, leaseMs, without, id }: {
    readonly nowMs: number;
    readonly leaseMs: number;
    /** Webhooks with enough messages in flight. */
    readonly without: readonly string[];
    /** Only this message, whenever it is due. */
    readonly id?: string;
  },
): Promise<{ readonly delivery: WebhookDelivery; readonly webhook: Webhook } | undefined> {
  let query = db.selectFrom("deliveries").select("seq").where("next_at", "is not", null);
  query = id === undefined
    ? query.where("next_at", "<=", nowMs).orderBy("next_at")
    : query.where("id", "=", id);
  if (without.length > 0) query = query.where("webhook", "not in", without);
  query = query.limit(1);
  if (kind === "postgres") query = query.forUpdate().skipLocked();
  const found = await query.executeTakeFirst();
  if (found === undefined) return undefined;
  const row = await db.updateTable("deliveries")
    .set(({ eb }) => ({ attempts: eb("attempts", "+", 1), sent_at: nowMs, next_at: nowMs + leaseMs }))
    .where("seq", "=", found.seq).returningAll().executeTakeFirstOrThrow();
  const webhook = await db.selectFrom("webhooks").selectAll().where("id", "=", row.webhook)
    .executeTakeFirst();
  if (webhook === undefined) {
    await db.deleteFrom("deliveries").where("seq", "=", found.seq).execute();
    return undefined;
  }
  return { delivery: deliveryOf(row), webhook: webhookOf(webhook) };
}

/**
 * Processes an edge's report: agents with a first session are online, those that lost their last one may be offline.
 */
export async function noteSessions(
  tx: Tx,
  report: Pick<EdgeReport, "edge" | "sessions">,
  ended: readonly string[],
  nowMs: number,
  events: EventWriter,
): Promise<void> {
  const first = new Map<string, LiveSession>();
  for (const session of report.sessions) {
    if (!first.has(session.agent)) first.set(session.agent, { ...session, edge: report.edge });
  }
  // In a fixed order, so that two concurrent reports don't block each other.
  const agents = [...first.keys()].sort();
  for (const batch of nameBatches(agents)) {
    const known = await tx.selectFrom("presence").select(["agent", "gone_at"]).where("agent", "in", batch)
      .execute();
    const present = new Map(known.map(({ agent, gone_at }) => [agent, gone_at]));
    const arrived: Tables["presence"][] = [];
    for (const agent of batch) {
      const goneAt = present.get(agent);
      const { tenant, hostname } = first.get(agent)!;
      if (goneAt === undefined) arrived.push({ agent, tenant, hostname, gone_at: null });
      else if (goneAt !== null) {
        await tx.updateTable("presence").set({ gone_at: null, hostname }).where("agent", "=", agent)
          .execute();
      }
    }
    for await (const rows of rowBatches(arrived)) {
      const added = await tx.insertInto("presence").values(rows)
        .onConflict((conflict) => conflict.doNothing()).returning("agent").execute();
      for (const { agent } of added) {
        const { tenant, hostname, edge, remote, transport, sinceMs } = first.get(agent)!;
        const data = { edge, remote_address: remote, transport, since: new Date(sinceMs).toISOString() };
        await events.add({ type: "agent.online", tenant, atMs: nowMs, agent, hostname, data });
      }
    }
  }
  for (const batch of nameBatches([...new Set(ended)].sort())) {
    const left = await tx.selectFrom("sessions").select("agent").distinct().where("agent", "in", batch)
      .execute();
    const alive = new Set(left.map(({ agent }) => agent));
    const gone = batch.filter((agent) => !alive.has(agent));
    if (gone.length === 0) continue;
    await tx.insertInto("contacts")
      .values(gone.map((agent) => ({ agent, seen_at: nowMs, refused_at: null, refusal: null })))
      .onConflict((conflict) => conflict.column("agent").doUpdateSet({ seen_at: nowMs })).execute();
    await tx.updateTable("presence").set({ gone_at: nowMs }).where("agent", "in", gone).where(
      "gone_at",
      "is",
      null,
    )
      .execute();
  }
}

/** Processes the agents that have used up their monthly quota according to the report. */
export async function noteQuotas(
  tx: Tx,
  report: EdgeReport,
  nowMs: number,
  events: EventWriter,
): Promise<void> {
  const month = monthOf(nowMs);
  const users = [
    ...new Set(report.usage.filter(({ day }) => day.startsWith(month)).map(({ agent }) => agent)),
  ].sort();
  for (const batch of nameBatches(users)) {
    const limited = await tx.selectFrom("agents").select(["id", "tenant", "limits"]).where("id", "in", batch)
      .where("limits", "like", "%monthly_bytes%").execute();
    if (limited.length === 0) continue;
    const used = await monthUsed(tx, limited.map(({ id }) => id), month);
    for (const { id, tenant, limits } of limited) {
      const limit = (JSON.parse(limits) as { readonly monthly_bytes?: number }).monthly_bytes;
      if (limit === undefined || (used.get(id) ?? 0) < limit) continue;
      // Another limit is another quota.
      const told = await tx.insertInto("told").values({ id: `quota/${id}/${month}/${limit}`, at: nowMs })
        .onConflict((conflict) => conflict.doNothing()).executeTakeFirst();
      if (Number(told.numInsertedOrUpdatedRows) === 0) continue;
      await events.add({
        type: "quota.reached",
        tenant,
        atMs: nowMs,
        agent: id,
        data: { month, limit_bytes: limit, used_bytes: used.get(id) },
      });
    }
  }
}

/** Replaces an agent's reported certificates. */
export async function noteCertificates(
  tx: Tx,
  agent: string,
  certificates: readonly AgentCertificate[],
): Promise<void> {
  const before = await tx.selectFrom("certificates").selectAll().where("agent", "=", agent).execute();
  const known = new Map(before.map((row) => [row.name, row]));
  const named = new Map(
    certificates.flatMap((one) => one.names[0] === undefined ? [] : [[one.names[0], one] as const]),
  );
  const gone = before.filter(({ name }) => !named.has(name)).map(({ name }) => name);
  for (const batch of nameBatches(gone)) {
    await tx.deleteFrom("certificates").where("agent", "=", agent).where("name", "in", batch).execute();
  }
  for (const [name, { names, notBeforeMs, notAfterMs }] of named) {
    const old = known.get(name);
    // The same certificate: already reported, or due later.
    if (old?.expires_at === notAfterMs && old.names === JSON.stringify(names)) continue;
    const leftMs = Math.min(CERTIFICATE_WARNING_MS, (notAfterMs - notBeforeMs) * CERTIFICATE_WARNING_SHARE);
    const row = {
      names: JSON.stringify(names),
      expires_at: notAfterMs,
      warn_at: Math.round(notAfterMs - Math.max(0, leftMs)),
    };
    await tx.insertInto("certificates").values({ agent, name, ...row })
      .onConflict((conflict) => conflict.columns(["agent", "name"]).doUpdateSet(row)).execute();
  }
}

/** Time-based events: agents that stayed offline, certificates near expiry. */
export async function noteTime(tx: Tx, nowMs: number): Promise<void> {
  const events = new EventWriter(tx);
  const gone = await tx.selectFrom("presence").selectAll().where(
    "gone_at",
    "<=",
    nowMs - AGENT_OFFLINE_AFTER_MS,
  )
    .orderBy("agent").limit(TIMED_EVENTS_MAX).execute();
  for (const { agent, tenant, hostname, gone_at } of gone) {
    const back = await tx.selectFrom("sessions").select("id").where("agent", "=", agent).limit(1)
      .executeTakeFirst();
    if (back !== undefined) {
      // Two edges reported at once: one that the agent had left, the other that it had arrived.
      await tx.updateTable("presence").set({ gone_at: null }).where("agent", "=", agent).execute();
      continue;
    }
    const done = await tx.deleteFrom("presence").where("agent", "=", agent).where("gone_at", "=", gone_at)
      .executeTakeFirst();
    if (Number(done.numDeletedRows) === 0) continue;
    const data = { since: new Date(gone_at ?? nowMs).toISOString() };
    await events.add({ type: "agent.offline", tenant, atMs: nowMs, agent, hostname, data });
  }
  const old = await tx.selectFrom("certificates").selectAll().where("warn_at", "<=", nowMs)
    .orderBy("agent").limit(TIMED_EVENTS_MAX).execute();
  for (const { agent, name, names, expires_at } of old) {
    const done = await tx.updateTable("certificates").set({ warn_at: null })
      .where("agent", "=", agent).where("name", "=", name).where("warn_at", "is not", null)
      .executeTakeFirst();
    if (Number(done.numUpdatedRows) === 0) continue;
    const owner = await tx.selectFrom("agents").select("tenant").where("id", "=", agent).executeTakeFirst();
    if (owner === undefined) {
      await tx.deleteFrom("certificates").where("agent", "=", agent).execute();
      continue;
    }
    await events.add({
      type: "certificate.expiring",
      tenant: owner.tenant,
      atMs: nowMs,
      agent,
      data: { names: JSON.parse(names) as string[], expires_at: new Date(expires_at).toISOString() },
    });
  }
}

/** How events identify an agent; one without an entry, whose token comes from another key, by its hostname. */
async function agentMembers(tx: Tx, agent: string, hostname?: string) {
  const row = await tx.selectFrom("usage_names").select("name").where("agent", "=", agent).executeTakeFirst();
  return {
    agent: row === undefined ? null : agent,
    name: row?.name ?? null,
    ...hostname === undefined ? {} : { hostname },
  };
}

/** A webhook in the model's form. */
export function webhookOf(row: Selectable<Tables["webhooks"]>): Webhook {
  const { id, tenant, url, events, secret, created_at, dropped } = row;
  return {
    ...{ id, tenant, url, secret, dropped },
    events: JSON.parse(events) as EventType[],
    createdAtMs: created_at,
  };
}

/** A message in the model's form. */
export function deliveryOf(row: Selectable<Tables["deliveries"]>): WebhookDelivery {
  const { seq, id, webhook, body, attempts } = row;
  return {
    ...{ seq, id, webhook, body, attempts },
    event: row.event as EventType,
    state: row.state as WebhookDelivery["state"],
    createdAtMs: row.created_at,
    ...row.sent_at === null ? {} : { sentAtMs: row.sent_at },
    ...row.next_at === null ? {} : { nextAtMs: row.next_at },
    ...row.status === null ? {} : { status: row.status },
    ...row.error === null ? {} : { error: row.error },
  };
}
