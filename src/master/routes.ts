/**
 * The session master's endpoints for OpenAPI; app.ts adds their handlers.
 *
 * @module
 */

import { createRoute, z } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import type { MasterEnv } from "./env.ts";
import { PROBLEM_TITLES, PROBLEM_TYPE, ProblemSchema, type ProblemStatus } from "./problem.ts";
import {
  HealthSchema,
  IndexSchema,
  ownTokenRequestSchema,
  ReadinessSchema,
  tokenRequestSchema,
  TokenResponseSchema,
  type TokenTtl,
} from "./schemas.ts";

/** The name of the security scheme in the document. */
export const BEARER_SCHEME = "bearer";

/** A problem in the OpenAPI document. */
export function problem<Status extends ProblemStatus>(
  status: Status,
  description: string,
  headers: object = {},
) {
  return {
    description,
    headers: headers as Record<string, { schema: { type: "string" | "integer" }; description: string }>,
    content: {
      [PROBLEM_TYPE]: {
        schema: ProblemSchema,
        example: { type: "about:blank", title: PROBLEM_TITLES[status], status, detail: description },
      },
    },
  };
}

/** The header of responses that ask the client to wait. */
export const retryAfter = {
  "Retry-After": {
    schema: { type: "integer" as const },
    description: "Seconds to wait before the next attempt",
  },
};
/** The header of responses that require a key. */
export const wwwAuthenticate = {
  "WWW-Authenticate": { schema: { type: "string" as const }, description: "`Bearer`, RFC 6750" },
};
const failed = problem(500, "Internal error; the log has details under the same instance");

/** The path of {@link tokensRoute}. */
export const TOKENS_PATH = "/v1/tokens";
/** The path of {@link ownTokensRoute}. */
export const OWN_TOKENS_PATH = "/v1/agent-tokens";

/** POST /v1/tokens; `middleware` runs before the body is read. */
export function tokensRoute(ttl: TokenTtl, middleware: MiddlewareHandler<MasterEnv>[]) {
  return createRoute({
    method: "post",
    path: TOKENS_PATH,
    operationId: "issueToken",
    summary: "Issue a token",
    description: "Issues a token for an agent, with fresh key material each time.",
    security: [{ [BEARER_SCHEME]: [] }],
    middleware,
    request: {
      body: { required: true, content: { "application/json": { schema: tokenRequestSchema(ttl) } } },
    },
    responses: {
      201: {
        description: "The token, and what an agent needs with it",
        content: { "application/json": { schema: TokenResponseSchema } },
      },
      400: problem(400, "The body isn't JSON"),
      401: problem(401, "The key is missing or unknown", wwwAuthenticate),
      403: problem(403, "The key may not serve one of these names"),
      408: problem(408, "The body took too long"),
      413: problem(413, "The body is too large"),
      415: problem(415, "The body's Content-Type isn't application/json"),
      422: problem(422, "A member is missing, unknown or wrong"),
      429: problem(429, "Too many wrong keys from this address, or too many tokens for this key", retryAfter),
      500: failed,
      503: problem(503, "The database is unavailable", retryAfter),
    },
  });
}

/** POST /v1/agent-tokens: for enrolled agents, whose names the master knows. */
export function ownTokensRoute(ttl: TokenTtl, middleware: MiddlewareHandler<MasterEnv>[]) {
  return createRoute({
    method: "post",
    path: OWN_TOKENS_PATH,
    operationId: "issueOwnToken",
    summary: "Issue a token to an enrolled agent",
    description: "Issues a token for all exact names and public ports of the agent that signs the request.",
    security: [{ [BEARER_SCHEME]: [] }],
    middleware,
    request: {
      body: { required: false, content: { "application/json": { schema: ownTokenRequestSchema(ttl) } } },
    },
    responses: {
      201: {
        description: "The token, and what an agent needs with it",
        content: { "application/json": { schema: TokenResponseSchema } },
      },
      400: problem(400, "The body isn't JSON"),
      401: problem(401, "The signature is missing or wrong, or the agent is unknown", wwwAuthenticate),
      403: problem(
        403,
        "The agent is suspended or expired, has no exact name, or this isn't an agent's signature",
      ),
      408: problem(408, "The body took too long"),
      413: problem(413, "The body is too large"),
      415: problem(415, "The body's Content-Type isn't application/json"),
      422: problem(422, "A member is unknown or wrong"),
      429: problem(
        429,
        "Too many wrong keys from this address, or too many tokens for this agent",
        retryAfter,
      ),
      500: failed,
      503: problem(503, "The database is unavailable", retryAfter),
    },
  });
}

/** GET / */
export const indexRoute = createRoute({
  method: "get",
  path: "/",
  operationId: "index",
  summary: "List the endpoints",
  responses: {
    200: { description: "The endpoints", content: { "application/json": { schema: IndexSchema } } },
  },
});

/** GET /healthz */
export const healthRoute = createRoute({
  method: "get",
  path: "/healthz",
  operationId: "health",
  summary: "Whether the process runs",
  responses: {
    200: { description: "It does", content: { "application/json": { schema: HealthSchema } } },
  },
});

/** GET /readyz */
export const readyRoute = createRoute({
  method: "get",
  path: "/readyz",
  operationId: "ready",
  summary: "Whether it is ready: listeners up, keys loaded",
  responses: {
    200: { description: "It can", content: { "application/json": { schema: ReadinessSchema } } },
    503: { description: "Not ready, and why", content: { "application/json": { schema: ReadinessSchema } } },
    500: failed,
  },
});

/** GET /metrics */
export const metricsRoute = createRoute({
  method: "get",
  path: "/metrics",
  operationId: "metrics",
  summary: "Metrics in Prometheus' text format",
  responses: {
    200: {
      description: "Version 0.0.4 of the format",
      content: { "text/plain": { schema: z.string().openapi({ example: "sallyport_sessions 3\n" }) } },
    },
    500: failed,
  },
});

/** GET /docs */
export const referenceRoute = createRoute({
  method: "get",
  path: "/docs",
  operationId: "reference",
  summary: "This description as a page",
  responses: {
    200: { description: "HTML", content: { "text/html": { schema: z.string() } } },
    500: failed,
  },
});

/** GET /openapi.json */
export const openapiRoute = createRoute({
  method: "get",
  path: "/openapi.json",
  operationId: "openapi",
  summary: "This description",
  responses: {
    200: {
      description: "OpenAPI 3.1",
      content: { "application/json": { schema: z.looseObject({ openapi: z.string() }).openapi("OpenAPI") } },
    },
    500: failed,
  },
});
