/**
 * Records and current state: `/v1/sessions`, `/v1/usage`, `/v1/audit`.
 *
 * @module
 */
import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { DAY_MS, dayOf } from "../../calendar.ts";
import type { MasterEnv } from "../env.ts";
import { ofTenant } from "../actor.ts";
import { actorOf, type ApiParts, changing, denials, json, missing, reading, secured } from "./parts.ts";
import {
  auditJson,
  AuditSchema,
  pageQuery,
  pageSchema,
  sessionJson,
  SessionSchema,
  UsageSchema,
} from "./schemas.ts";
import { usageBody, usageDays } from "../usage_export.ts";

const DAY = /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$/;
const day = z.string().regex(DAY, { error: "must be a day such as 2026-11-27" });
const agent = z.string().max(300).optional().openapi({
  description: "The agent's id, or its name",
  example: "home",
});
const SessionsSchema = pageSchema(SessionSchema, "Sessions");
const AuditLogSchema = pageSchema(AuditSchema, "AuditLog");
const UsageListSchema = z.object({ items: z.array(UsageSchema) }).openapi("UsageList");

function routes(parts: ApiParts) {
  return {
    sessions: createRoute({
      method: "get",
      path: "/v1/sessions",
      operationId: "listSessions",
      summary: "List live sessions",
      ...secured,
      middleware: reading(parts),
      request: { query: z.object({ ...pageQuery, agent }) },
      responses: {
        200: { description: "One page, sorted by hostname", content: json(SessionsSchema) },
        ...denials,
        ...missing,
      },
    }),
    close: createRoute({
      method: "delete",
      path: "/v1/sessions/{id}",
      operationId: "closeSession",
      summary: "End a session",
      description: "Its agent may reconnect at once; suspend the agent to keep it out.",
      ...secured,
      middleware: changing(parts, { body: "none" }),
      request: { params: z.object({ id: z.string().min(1).max(300) }) },
      responses: { 204: { description: "Its edge has been notified" }, ...denials, ...missing },
    }),
    usage: createRoute({
      method: "get",
      path: "/v1/usage",
      operationId: "usage",
      summary: "Bytes, streams and connected time by agent and day",
      ...secured,
      middleware: reading(parts),
      request: {
        query: z.object({
          agent,
          from: day.optional().openapi({
            description: "First day (UTC); default: 30 days ago",
            example: "2026-11-01",
          }),
          to: day.optional().openapi({
            description: "Last day (UTC); default: today",
            example: "2026-11-30",
          }),
          format: z.enum(["json", "csv"], { error: "must be json or csv" }).optional()
            .openapi({ description: "csv for a table; default: according to Accept" }),
        }),
      },
      responses: {
        200: {
          description: "One entry for each agent and day",
          content: {
            "application/json": { schema: UsageListSchema },
            "text/csv": { schema: z.string().openapi({ example: "day,agent,name\r\n" }) },
          },
        },
        ...denials,
        ...missing,
      },
    }),
    audit: createRoute({
      method: "get",
      path: "/v1/audit",
      operationId: "audit",
      summary: "List the audit log, newest first",
      ...secured,
      middleware: reading(parts),
      request: {
        query: z.object({
          ...pageQuery,
          subject: z.string().max(300).optional().openapi({
            description: "The subject of the entries, by id",
          }),
        }),
      },
      responses: { 200: { description: "One page", content: json(AuditLogSchema) }, ...denials },
    }),
  };
}

/** Adds the endpoints and returns their routes. */
export function addRecordsApi(app: OpenAPIHono<MasterEnv>, parts: ApiParts) {
  const { management, clock } = parts;
  const { store } = management;
  const own = routes(parts);
  const ofAgent = async (actor: ReturnType<typeof actorOf>, text: string | undefined) => {
    if (text === undefined) return {};
    return { agent: text.startsWith("hostname:") ? text : (await management.agent(actor, text)).id };
  };

  app.openapi(own.sessions, async (c) => {
    const actor = actorOf(c);
    const { agent, limit, cursor } = c.req.valid("query");
    const page = { limit, ...cursor === undefined ? {} : { cursor } };
    const found = await store.sessions({ ...page, ...ofTenant(actor), ...await ofAgent(actor, agent) });
    return c.json({ items: found.items.map(sessionJson), next: found.next ?? null }, 200);
  });
  app.openapi(own.close, async (c) => {
    await management.closeSession(actorOf(c), c.req.valid("param").id);
    return c.body(null, 204);
  });
  app.openapi(own.usage, async (c) => {
    const actor = actorOf(c);
    const { agent, format } = c.req.valid("query");
    const nowMs = clock.wallMs();
    const { from = dayOf(nowMs - 30 * DAY_MS), to = dayOf(nowMs) } = c.req.valid("query");
    const days = usageDays(from, to);
    const wantsCsv = format === "csv" ||
      (format === undefined && /\btext\/csv\b/.test(c.req.header("accept") ?? ""));
    const of = { ...ofTenant(actor), ...await ofAgent(actor, agent) };
    const body = await usageBody(store, days, of, wantsCsv ? "csv" : "json");
    const type = wantsCsv ? "text/csv; charset=utf-8" : "application/json";
    return c.body(body, 200, { "Content-Type": type }) as never;
  });
  app.openapi(own.audit, async (c) => {
    const { subject, limit, cursor } = c.req.valid("query");
    const { items, next } = await store.audit({
      limit,
      ...cursor === undefined ? {} : { cursor },
      ...subject === undefined ? {} : { subject },
      ...ofTenant(actorOf(c)),
    });
    return c.json({ items: items.map(auditJson), next: next ?? null }, 200);
  });
  return Object.values(own);
}
