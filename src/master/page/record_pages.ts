/**
 * The page's views of sessions, usage and the audit log.
 *
 * @module
 */
import { DAY_MS, dayOf } from "../../calendar.ts";
import { ofTenant } from "../actor.ts";
import { usageBody, usageDays } from "../usage_export.ts";
import { type PageHost, pageOf, type Visit } from "./host.ts";
import { AuditView } from "./views/audit.tsx";
import { SessionsView } from "./views/sessions.tsx";
import { USAGE_ROWS_MAX, UsageView } from "./views/usage.tsx";

const USAGE_DAYS = 30;

/** Adds `/page/sessions`, `/page/usage` and `/page/audit`. */
export function addRecordPages(host: PageHost): void {
  const { management, clock } = host.parts;
  const { store } = management;
  host.shows("/page/sessions", async ({ c, actor, viewer }) => {
    const paged = pageOf(c);
    const live = await store.sessions({ ...paged, ...ofTenant(actor) });
    const nowMs = clock.wallMs();
    return SessionsView({ viewer, sessions: live, nowMs, cursor: paged.cursor, done: c.req.query("done") });
  });
  host.changes("/page/sessions/close", async ({ c, actor }, form) => {
    await management.closeSession(actor, form.get("id") ?? "");
    return c.redirect("/page/sessions?done=disconnected", 303);
  });

  const usageOf = async ({ c, actor }: Visit) => {
    const id = c.req.query("agent");
    const agent = id === undefined || id === "" ? undefined : await management.agent(actor, id);
    const nowMs = clock.wallMs();
    const day = (name: string, otherwise: number) => c.req.query(name) || dayOf(otherwise);
    const days = usageDays(day("from", nowMs - (USAGE_DAYS - 1) * DAY_MS), day("to", nowMs));
    return { days, of: { ...ofTenant(actor), ...agent && { agent: agent.id } }, agent };
  };
  host.shows("/page/usage", async (visit) => {
    const { days, of, agent } = await usageOf(visit);
    const query = { ...of, from: days[0]!, to: days.at(-1)! };
    const usage = agent === undefined
      ? { agents: await store.usageByAgent(query, USAGE_ROWS_MAX) }
      : { agent };
    return UsageView({ viewer: visit.viewer, days, byDay: await store.usageByDay(query), ...usage });
  });
  host.answers("/page/usage.csv", async (visit) => {
    const { days, of } = await usageOf(visit);
    return visit.c.body(await usageBody(store, days, of, "csv"), 200, {
      "Content-Type": "text/csv; charset=utf-8",
      "Content-Disposition": `attachment; filename="usage-${days[0]}-${days.at(-1)}.csv"`,
    });
  });
  host.shows("/page/audit", async ({ c, actor, viewer }) => {
    const subject = c.req.query("subject")?.slice(0, 300) ?? "";
    const paged = pageOf(c);
    const query = { ...paged, ...ofTenant(actor), ...subject === "" ? {} : { subject } };
    return AuditView({ viewer, records: await store.audit(query), subject, cursor: paged.cursor });
  });
}
