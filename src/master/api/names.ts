/**
 * `/v1/names`: what the session master knows of one name, for `doctor`.
 *
 * @module
 */
import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { wildcardOf } from "../../wire/wildcard.ts";
import type { MasterEnv } from "../env.ts";
import { ALL_TENANTS } from "../model.ts";
import { Problem } from "../problem.ts";
import { problem } from "../routes.ts";
import { HOSTNAME_OPENAPI, HostnameSchema } from "../schemas.ts";
import { actorOf, type ApiParts, denials, json, reading, secured } from "./parts.ts";
import { agentJson, AgentSchema, sessionJson, SessionSchema, timeText } from "./schemas.ts";

const params = z.object({
  hostname: HostnameSchema.openapi({ ...HOSTNAME_OPENAPI, example: "home.example.org" }),
});

const NameSchema = z.object({
  hostname: z.string().openapi({ example: "home.example.org" }),
  agent: z.union([AgentSchema, z.null()]).openapi({
    description: "The agent that has the name or a wildcard that covers it; null if none does",
  }),
  session: z.union([SessionSchema, z.null()]).openapi({ description: "Its live session, if it has one" }),
  last_seen_at: z.string().nullable().openapi({ description: "When its last session ended" }),
  last_refused_at: z.string().nullable().openapi({ description: "When it was last refused a token" }),
  last_refusal: z.string().nullable().openapi({ description: "Why" }),
}).openapi("Name");

/** Adds the endpoint and returns its route. */
export function addNamesApi(app: OpenAPIHono<MasterEnv>, parts: ApiParts) {
  const { management: { store } } = parts;
  const show = createRoute({
    method: "get",
    path: "/v1/names/{hostname}",
    operationId: "showName",
    summary: "Show the agent that serves a name, or since when none does",
    ...secured,
    middleware: reading(parts),
    request: { params },
    responses: {
      200: { description: "What is known of it", content: json(NameSchema) },
      ...denials,
      404: problem(404, "The name belongs to another tenant"),
    },
  });
  app.openapi(show, async (c) => {
    const { hostname } = c.req.valid("param");
    const { tenant } = actorOf(c);
    const wildcard = wildcardOf(hostname);
    const agent = await store.agentServing(hostname) ??
      (wildcard === undefined ? undefined : await store.agentServing(wildcard));
    if (tenant !== ALL_TENANTS && agent?.tenant !== tenant) {
      throw new Problem(404, `Cannot find ${hostname}: there is no such name`);
    }
    // A token for a name alone, as the admin key gets it, belongs to no agent.
    const key = agent?.id ?? `hostname:${hostname}`;
    const { items: [session] } = await store.sessions({ agent: key, limit: 1 });
    const contact = await store.contact(key);
    const at = (ms: number | undefined) => ms === undefined ? null : timeText(ms);
    return c.json({
      hostname,
      agent: agent === undefined ? null : agentJson(agent),
      session: session === undefined ? null : sessionJson(session),
      last_seen_at: at(contact?.seenAtMs),
      last_refused_at: at(contact?.refusedAtMs),
      last_refusal: contact?.refusal ?? null,
    }, 200);
  });
  return [show];
}
