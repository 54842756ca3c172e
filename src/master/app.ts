/**
 * The session master: a Hono app that issues tokens to agents and says how the process is.
 *
 * @module
 */

import { randomUUID } from "node:crypto";
import { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import type { FernetRing } from "../crypto/fernet.ts";
import { createToken } from "../handshake/token.ts";
import { AUTH_FAILURES_PER_MINUTE_MAX, TOKEN_MAX_BYTES, TOKENS_PER_MINUTE_MAX } from "../limits.ts";
import type { Clock } from "../runtime/port.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import { Metrics } from "../telemetry/metrics.ts";
import { VERSION } from "../version.ts";
import type { Credential, Credentials } from "./credentials.ts";
import type { MasterEnv } from "./env.ts";
import { authenticate, boundedJson } from "./guards.ts";
import {
  bodyFault,
  Problem,
  PROBLEM_TITLES,
  type ProblemStatus,
  schemaProblem,
  unprocessable,
} from "./problem.ts";
import { FailureLimit, IssueLimit } from "./rate_limits.ts";
import * as routes from "./routes.ts";
import { DEFAULT_TOKEN_TTL, type TokenRequest, type TokenResponse, type TokenTtl } from "./schemas.ts";

/** Where agents dial; a name or an IP address, and a port. */
export interface EdgeAddress {
  readonly host: string;
  readonly port: number;
}

/** What GET /readyz answers with. */
export interface Readiness {
  readonly ok: boolean;
  /** Each thing that must be there: true, false, or what is wrong in words. */
  readonly checks: Readonly<Record<string, boolean | string>>;
}

/** What {@link createMasterApp} takes. */
export interface MasterOptions {
  /** The keys that the edges share; the first one makes tokens. */
  readonly ring: FernetRing;
  /** Who may ask. */
  readonly credentials: Credentials;
  /** What tokens name as the edge; a function when it is only known once a listener is up. */
  readonly edgeAddress: EdgeAddress | (() => EdgeAddress);
  readonly clock: Clock;
  /** What GET /metrics shows; its own when absent. */
  readonly metrics?: Metrics;
  readonly log?: Logger;
  /** Asked for GET /readyz; always ready when absent. */
  readonly ready?: () => Readiness;
  /** Lifetimes in seconds; those of limits.ts when absent. */
  readonly ttl?: TokenTtl;
  /** Wrong keys from one address (an IPv6 /64 counts as one) in a minute. */
  readonly authFailuresPerMinute?: number;
  /** Tokens for one credential in a minute. */
  readonly tokensPerMinute?: number;
}

const CANNOT_ISSUE = "Cannot issue token";
const ENDPOINTS = [
  routes.indexRoute,
  routes.healthRoute,
  routes.readyRoute,
  routes.metricsRoute,
  routes.openapiRoute,
];

/** Throws 403 when `credential` may not serve one of the names, with all of these. */
function checkNames(credential: Credential, request: TokenRequest): void {
  const names = [request.hostname, ...request.alias];
  const refused = names.flatMap((name, index) =>
    credential.mayServe(name) ? [] : [
      bodyFault(index === 0 ? ["hostname"] : ["alias", index - 1], "is not a name that this key may serve"),
    ]
  );
  if (refused.length > 0) {
    throw new Problem(403, `${CANNOT_ISSUE}: ${refused[0].member} ${refused[0].detail}`, { errors: refused });
  }
}

/** Makes a token with fresh key material; throws 422 for one that is too long for an edge. */
function issueToken(options: MasterOptions, request: TokenRequest): TokenResponse {
  const { hostname } = request;
  const { token, claims } = createToken(options.ring, {
    hostname,
    aliases: [...new Set(request.alias)].filter((name) => name !== hostname),
    protocolVersion: request.protocol_version,
    cipher: request.cipher,
    ttlSeconds: request.ttl_seconds,
    nowMs: options.clock.wallMs(),
  });
  if (token.length > TOKEN_MAX_BYTES) {
    const detail = `makes a token of ${token.length} bytes; edges take ${TOKEN_MAX_BYTES}`;
    throw unprocessable(CANNOT_ISSUE, [bodyFault(["alias"], detail)]);
  }
  const { edgeAddress } = options;
  const edge = typeof edgeAddress === "function" ? edgeAddress() : edgeAddress;
  return {
    token,
    hostname: claims.hostname,
    alias: [...claims.aliases],
    aes_key: claims.aesKey.toHex(),
    aes_iv: claims.aesIv.toHex(),
    cipher: claims.cipher,
    protocol_version: request.protocol_version,
    valid: claims.valid,
    edge: { host: edge.host, port: edge.port },
  };
}

/** Any thrown value as the problem to answer with; what nobody expected is logged, and told to the client by number only. */
function problemOf(error: unknown, log: Logger): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof HTTPException && error.status in PROBLEM_TITLES && error.status !== 500) {
    return new Problem(error.status as ProblemStatus, error.message);
  }
  const instance = `urn:uuid:${randomUUID()}`;
  log.error({ instance, error: error instanceof Error ? error : String(error) }, "request failed");
  return new Problem(500, "Cannot answer: something is broken here", { instance });
}

/**
 * Makes the session master. Serve `app.fetch(request, { remote })`, or call `app.request(path, init, { remote })`.
 *
 * | endpoint | |
 * | --- | --- |
 * | `POST /v1/tokens` | issues a token to a credential |
 * | `GET /healthz`, `GET /readyz` | whether it runs, whether it can work |
 * | `GET /metrics` | Prometheus' text format |
 * | `GET /openapi.json` | all of this, from the schemas that check the input |
 *
 * Errors are problem details (RFC 9457).
 *
 * @example
 * ```ts
 * const app = createMasterApp({
 *   ring,
 *   credentials: adminCredentials(adminKey),
 *   edgeAddress: { host: "edge.example.net", port: 8443 },
 *   clock: runtime.clock,
 * });
 * const answer = await app.request("/v1/tokens", {
 *   method: "POST",
 *   headers: { Authorization: `Bearer ${adminKey}`, "Content-Type": "application/json" },
 *   body: JSON.stringify({ hostname: "a.example.org" }),
 * });
 * ```
 */
export function createMasterApp(options: MasterOptions): OpenAPIHono<MasterEnv> {
  const { clock, credentials, ready } = options;
  const log = options.log ?? silentLogger;
  const metrics = options.metrics ?? new Metrics();
  const failures = new FailureLimit(options.authFailuresPerMinute ?? AUTH_FAILURES_PER_MINUTE_MAX);
  const issues = new IssueLimit(options.tokensPerMinute ?? TOKENS_PER_MINUTE_MAX);
  const tokensRoute = routes.tokensRoute(options.ttl ?? DEFAULT_TOKEN_TTL, [
    authenticate({ credentials, failures, metrics, log }),
    boundedJson(),
  ]);
  const endpoints = [tokensRoute, ...ENDPOINTS];
  const paths = new Set(endpoints.map((route) => route.path as string));

  const app = new OpenAPIHono<MasterEnv>({
    defaultHook: (result) => {
      if (!result.success) throw schemaProblem(CANNOT_ISSUE, result.error);
    },
  });
  app.onError((error) => problemOf(error, log).response());
  app.notFound(() => new Problem(404, "Cannot find this path; GET / names those that there are").response());

  app.use("*", async (c, next) => {
    const startedMs = clock.nowMs();
    try {
      await next();
    } catch (error) {
      // Hono hands only instances of Error to onError.
      c.res = problemOf(error, log).response();
    }
    c.header("Cache-Control", "no-store");
    c.header("X-Content-Type-Options", "nosniff");
    const { method, path } = c.req;
    const { status } = c.res;
    metrics.masterRequest(paths.has(path) ? path : "other", status);
    const fields = { method, path, status, duration_ms: Math.round((clock.nowMs() - startedMs) * 10) / 10 };
    // Probes and scrapes come all the time; what changes something is worth a line.
    if (path.startsWith("/v1/")) log.info(fields, "request");
    else log.debug(fields, "request");
  });

  app.openapi(tokensRoute, async (c) => {
    const credential = c.get("credential");
    const request = c.req.valid("json");
    checkNames(credential, request);
    const waitS = await issues.take(credential.id);
    if (waitS > 0) {
      metrics.refused("agent", "limit_exceeded");
      throw new Problem(429, `${CANNOT_ISSUE}: too many tokens for this key, wait ${waitS} s`, {
        errors: [{ member: "Authorization", detail: "had too many tokens" }],
        headers: { "Retry-After": String(waitS) },
      });
    }
    const issued = issueToken(options, request);
    metrics.tokenIssued(issued.protocol_version, issued.cipher);
    const { hostname, alias, cipher, protocol_version, valid } = issued;
    log.info({ client: credential.id, hostname, alias, cipher, protocol_version, valid }, "token issued");
    return c.json(issued, 201);
  });

  app.openapi(routes.indexRoute, (c) => {
    const named = endpoints.map((route) => [`${route.method.toUpperCase()} ${route.path}`, route.summary]);
    return c.json({
      name: "Sallyport session master",
      version: VERSION,
      endpoints: Object.fromEntries(named) as Record<string, string>,
    }, 200);
  });
  app.openapi(routes.healthRoute, (c) => c.json({ status: "ok" } as const, 200));
  app.openapi(routes.readyRoute, (c) => {
    const { ok, checks } = ready?.() ?? { ok: true, checks: {} };
    return ok
      ? c.json({ status: "ready", checks: { ...checks } } as const, 200)
      : c.json({ status: "not ready", checks: { ...checks } } as const, 503);
  });
  app.openapi(routes.metricsRoute, async (c) => {
    return c.body(await metrics.render(), 200, { "Content-Type": metrics.contentType }) as never;
  });
  let document: ReturnType<typeof openApiDocument> | undefined;
  app.openapi(routes.openapiRoute, (c) => c.json(document ??= openApiDocument(app), 200));

  for (const route of endpoints) {
    const allow = route.method === "get" ? "GET, HEAD, OPTIONS" : `${route.method.toUpperCase()}, OPTIONS`;
    app.options(route.path, (c) => c.body(null, 204, { Allow: allow }));
    app.all(route.path, (c: Context) => {
      throw new Problem(405, `Cannot ${c.req.method} this path; it takes ${allow}`, {
        headers: { Allow: allow },
      });
    });
  }

  app.openAPIRegistry.registerComponent("securitySchemes", routes.BEARER_SCHEME, {
    type: "http",
    scheme: "bearer",
    description: "The admin key, or another key that the master knows",
  });
  return app;
}

function openApiDocument(app: OpenAPIHono<MasterEnv>) {
  const document = app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: {
      title: "Sallyport session master",
      version: VERSION,
      description: "Issues the tokens that agents open sessions at the edge with.",
      license: { name: "MIT" },
    },
    servers: [{ url: "/" }],
  });
  // A plain object: the document's own type has no index signature, as the response's schema wants one.
  return { ...document };
}
