/**
 * `/v1/agents` and `/v1/enrolments`: agents and the names they may serve.
 *
 * @module
 */
import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { Context, MiddlewareHandler } from "hono";
import type { MasterEnv } from "../env.ts";
import { boundedJson, type FailureGuard } from "../guards.ts";
import type { AgentChange, IssuedJoin } from "../management.ts";
import type { Agent } from "../model.ts";
import { Problem } from "../problem.ts";
import { problem, retryAfter } from "../routes.ts";
import {
  actorOf,
  type ApiParts,
  bodyFaults,
  changedMeanwhile,
  changing,
  conflict,
  denials,
  etag,
  IdempotencyHeaders,
  IfMatchHeaders,
  json,
  missing,
  reading,
  revisionOf,
  secured,
} from "./parts.ts";
import {
  AgentChangeSchema,
  AgentCreateSchema,
  agentJson,
  AgentSchema,
  EnrolledSchema,
  EnrolmentSchema,
  JoiningAgentSchema,
  ListedAgentSchema,
  pageQuery,
  pageSchema,
  RotateSchema,
} from "./schemas.ts";

const params = z.object({
  id: z.string().min(1).max(128).openapi({ description: "The agent's id, or its name", example: "home" }),
});
const AgentsSchema = pageSchema(ListedAgentSchema, "Agents");

function routes(parts: ApiParts) {
  const one = { 200: { description: "The agent", headers: etag, content: json(AgentSchema) } };
  const state = (verb: "suspend" | "resume", summary: string, description: string) =>
    createRoute({
      method: "post",
      path: `/v1/agents/{id}/${verb}` as const,
      operationId: `${verb}Agent`,
      summary,
      description,
      ...secured,
      middleware: changing(parts, { body: "none", repeatable: true }),
      request: { params, headers: IfMatchHeaders.extend(IdempotencyHeaders.shape) },
      responses: { ...one, ...denials, ...missing, ...conflict, ...changedMeanwhile },
    });
  return {
    create: createRoute({
      method: "post",
      path: "/v1/agents",
      operationId: "addAgent",
      summary: "Add an agent",
      description: "Creates an agent and a single-use code with which it enrols its own key pair.",
      ...secured,
      middleware: changing(parts, { body: "required", repeatable: true }),
      request: { headers: IdempotencyHeaders, body: { required: true, content: json(AgentCreateSchema) } },
      responses: {
        201: {
          description: "The agent, and its join code",
          headers: etag,
          content: json(JoiningAgentSchema),
        },
        ...bodyFaults,
        ...conflict,
      },
    }),
    list: createRoute({
      method: "get",
      path: "/v1/agents",
      operationId: "listAgents",
      summary: "List agents",
      ...secured,
      middleware: reading(parts),
      request: {
        query: z.object({
          ...pageQuery,
          search: z.string().max(255).optional().openapi({
            description: "Text in the name, a hostname or the notes",
            example: "home",
          }),
          state: z.enum(["active", "suspended"], { error: "must be active or suspended" }).optional(),
          tenant: z.string().max(64).optional().openapi({
            description: "For keys of all tenants: only the agents of this one",
          }),
        }),
      },
      responses: {
        200: { description: "One page, sorted by name", content: json(AgentsSchema) },
        ...denials,
      },
    }),
    show: createRoute({
      method: "get",
      path: "/v1/agents/{id}",
      operationId: "showAgent",
      summary: "Show an agent",
      ...secured,
      middleware: reading(parts),
      request: { params },
      responses: { ...one, ...denials, ...missing },
    }),
    change: createRoute({
      method: "patch",
      path: "/v1/agents/{id}",
      operationId: "changeAgent",
      summary: "Change an agent",
      description: "Absent members stay as they are. Limits and names apply to tokens issued from now on.",
      ...secured,
      middleware: changing(parts, { body: "required" }),
      request: {
        params,
        headers: IfMatchHeaders,
        body: { required: true, content: json(AgentChangeSchema) },
      },
      responses: { ...one, ...bodyFaults, ...missing, ...conflict, ...changedMeanwhile },
    }),
    remove: createRoute({
      method: "delete",
      path: "/v1/agents/{id}",
      operationId: "removeAgent",
      summary: "Remove an agent",
      description:
        "Ends its sessions on every edge, and refuses its tokens even if they are still valid. Its usage is kept.",
      ...secured,
      middleware: changing(parts, { body: "none" }),
      request: { params, headers: IfMatchHeaders },
      responses: { 204: { description: "Removed" }, ...denials, ...missing, ...changedMeanwhile },
    }),
    rotate: createRoute({
      method: "post",
      path: "/v1/agents/{id}/rotate",
      operationId: "rotateAgent",
      summary: "Give an agent a new join code",
      description: "Revokes its key and all its tokens, and ends its sessions.",
      ...secured,
      middleware: changing(parts, { body: "optional", repeatable: true }),
      request: {
        params,
        headers: IfMatchHeaders.extend(IdempotencyHeaders.shape),
        body: { required: false, content: json(RotateSchema) },
      },
      responses: {
        200: {
          description: "The agent, and its join code",
          headers: etag,
          content: json(JoiningAgentSchema),
        },
        ...bodyFaults,
        ...missing,
        ...conflict,
        ...changedMeanwhile,
      },
    }),
    suspend: state(
      "suspend",
      "Suspend an agent",
      "Ends its sessions on every edge within a second, and refuses its tokens even if they are still valid.",
    ),
    resume: state("resume", "Resume an agent", "Undoes suspend; the agent reconnects by itself."),
  };
}

/** The enrolment endpoint; the join code is its only credential. */
function enrolmentRoute(parts: ApiParts, guards: MiddlewareHandler<MasterEnv>[]) {
  const { 401: _, ...faults } = bodyFaults;
  return createRoute({
    method: "post",
    path: "/v1/enrolments",
    operationId: "enrol",
    summary: "Enrol an agent",
    description:
      "Registers the public key of the agent that the join code belongs to, once. A repetition with the same key gets the same answer.",
    middleware: [...guards, boundedJson({ clock: parts.clock })],
    request: { body: { required: true, content: json(EnrolmentSchema) } },
    responses: {
      200: { description: "The agent", content: json(EnrolledSchema) },
      ...faults,
      403: problem(403, "The code is unknown, used or expired"),
      429: problem(429, "Too many wrong codes from this address", retryAfter),
    },
  });
}

/** Adds the endpoints and returns their routes. */
export function addAgentsApi(
  app: OpenAPIHono<MasterEnv>,
  parts: ApiParts,
  failures: FailureGuard,
) {
  const { management } = parts;
  const own = routes(parts);
  const shown = (c: Context<MasterEnv>, agent: Agent) => {
    c.header("ETag", `"${agent.revision}"`);
    return agentJson(agent);
  };
  const joining = (c: Context<MasterEnv>, agent: Agent, join: IssuedJoin) => ({
    ...shown(c, agent),
    join_code: join.code,
    join_expires_at: new Date(join.expiresAtMs).toISOString(),
  });

  app.openapi(own.create, async (c) => {
    const body = c.req.valid("json");
    const { agent, join } = await management.addAgent(
      actorOf(c),
      changeOf(body) as never,
      body.join_ttl_seconds,
    );
    c.header("Location", `/v1/agents/${agent.id}`);
    return c.json(joining(c, agent, join), 201);
  });
  app.openapi(own.list, async (c) => {
    const { items, next } = await management.agents(actorOf(c), c.req.valid("query"));
    const counts = await management.sessionCounts(items);
    const listed = items.map((agent) => ({ ...agentJson(agent), sessions: counts.get(agent.id) ?? 0 }));
    return c.json({ items: listed, next: next ?? null }, 200);
  });
  app.openapi(own.show, async (c) => {
    return c.json(shown(c, await management.agent(actorOf(c), c.req.valid("param").id)), 200);
  });
  app.openapi(own.change, async (c) => {
    const { id } = c.req.valid("param");
    const change = changeOf(c.req.valid("json"));
    return c.json(shown(c, await management.changeAgent(actorOf(c), id, change, revisionOf(c))), 200);
  });
  app.openapi(own.remove, async (c) => {
    await management.removeAgent(actorOf(c), c.req.valid("param").id, revisionOf(c));
    return c.body(null, 204);
  });
  app.openapi(own.rotate, async (c) => {
    const { join_ttl_seconds } = c.req.valid("json");
    const { id } = c.req.valid("param");
    const { agent, join } = await management.rotate(actorOf(c), id, revisionOf(c), join_ttl_seconds);
    return c.json(joining(c, agent, join), 200);
  });
  app.openapi(own.suspend, async (c) => {
    return c.json(
      shown(c, await management.suspend(actorOf(c), c.req.valid("param").id, revisionOf(c))),
      200,
    );
  });
  app.openapi(own.resume, async (c) => {
    return c.json(shown(c, await management.resume(actorOf(c), c.req.valid("param").id, revisionOf(c))), 200);
  });

  const enrol = enrolmentRoute(parts, [failures.guard]);
  app.openapi(enrol, async (c) => {
    const { code, public_key } = c.req.valid("json");
    try {
      const { id, name, hostnames } = await management.enrol(code, public_key, c.get("requestId"));
      return c.json({ id, name, hostnames: [...hostnames] }, 200);
    } catch (error) {
      if (error instanceof Problem) await failures.count(c);
      throw error;
    }
  });
  return [...Object.values(own), enrol];
}

/** A request body's members in the model's form. */
export function changeOf(
  body: Omit<z.output<typeof AgentChangeSchema>, "expires_at"> & {
    readonly tenant?: string;
    readonly expires_at?: string | null;
    readonly join_ttl_seconds?: number;
  },
): AgentChange {
  const { agent_networks, visitor_networks, expires_at, join_ttl_seconds: _, limits, ...rest } = body;
  const defined = {
    ...rest,
    limits: limits === undefined ? undefined : JSON.parse(JSON.stringify(limits)) as AgentChange["limits"],
    agentNetworks: agent_networks,
    visitorNetworks: visitor_networks,
    expiresAtMs: typeof expires_at === "string" ? Date.parse(expires_at) : expires_at,
  };
  return Object.fromEntries(
    Object.entries(defined).filter(([, value]) => value !== undefined),
  ) as AgentChange;
}
