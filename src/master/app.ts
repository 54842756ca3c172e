/**
 * The session master: a Hono app that issues tokens to agents and reports the status of the process.
 *
 * @module
 */

import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Bytes } from "../bytes/bytes.ts";
import type { FernetRing } from "../crypto/fernet.ts";
import type { NetworkSet } from "../wire/ip/networks.ts";
import type { Clock } from "../runtime/port.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import { Metrics } from "../telemetry/metrics.ts";
import type { Tracer } from "../telemetry/tracing.ts";
import { VERSION } from "../version.ts";
import { addAgentsApi } from "./api/agents.ts";
import { addDnsChallengesApi } from "./api/dns_challenges.ts";
import { addEdgesApi } from "./api/edges.ts";
import { addKeysApi } from "./api/keys.ts";
import type { ApiParts } from "./api/parts.ts";
import { addNamesApi } from "./api/names.ts";
import { addRecordsApi } from "./api/records.ts";
import { addTokensApi, asksForToken } from "./api/tokens.ts";
import { addWebhooksApi } from "./api/webhooks.ts";
import type { Changeable } from "./changeable.ts";
import { type Credentials, firstOf } from "./credentials.ts";
import type { DnsChallenges } from "./dns_challenges.ts";
import type { MasterEnv } from "./env.ts";
import { authenticate, countRequests, FailureGuard } from "./guards.ts";
import { API_REQUESTS_PER_MINUTE_MAX, TOKENS_PER_MINUTE_MAX } from "./limits.ts";
import type { Management } from "./management.ts";
import type { PageProvider } from "./page/host.ts";
import { addPage, PAGE_ROUTES } from "./page/page.ts";
import { schemaProblem } from "./problem.ts";
import { FailureLimit, IssueLimit } from "./rate_limits.ts";
import { REFERENCE_POLICY, type ReferenceDocument, renderReference } from "./reference.ts";
import * as routes from "./routes.ts";
import { DEFAULT_TOKEN_TTL, type TokenTtl } from "./schemas.ts";
import { addOtherMethods, addStatusRoutes, createBaseApp, type Readiness, STATUS_ROUTES } from "./status.ts";
import { agentCredentials, apiKeyCredentials } from "./store_credentials.ts";
import { CANNOT_ISSUE, TokenIssuer } from "./tokens.ts";

/** Requests with a wrong key from one address per minute, before 429. */
export const AUTH_FAILURES_PER_MINUTE_MAX = 20;

export type { Readiness };

/** The address that agents dial: a name or an IP address, and a port. */
export interface EdgeAddress {
  /** A name or an IP address. */
  readonly host: string;
  /** 1–65535. */
  readonly port: number;
  /** The edge's public key, 32 bytes, if it supports the sealed or the curve transport. */
  readonly publicKey?: Bytes;
  /** Its UDP port for the curve transport, if it has one. */
  readonly curvePort?: number;
  /** Its UDP port for the QUIC transport, if it has one. */
  readonly quicPort?: number;
  /** SHA-256 of its certificate for QUIC, 32 bytes. */
  readonly certificateFingerprint?: Bytes;
}

/** Options of {@link createMasterApp}. */
export interface MasterOptions {
  /** The keys shared by the edges; the first one creates tokens. */
  readonly ring: FernetRing;
  /** Credentials that may request tokens. */
  readonly credentials: Credentials;
  /** The edge's address in tokens; a function if it is only known once a listener is up. */
  readonly edgeAddress: EdgeAddress | (() => EdgeAddress);
  /** The edges of a cluster for an agent in this region, best first; `edgeAddress` is used if it returns none. */
  readonly edges?: (region: string | undefined) => Promise<readonly EdgeAddress[]>;
  /** Clock, for example the runtime's. */
  readonly clock: Clock;
  /** Metrics served at GET /metrics. Defaults to a new registry. */
  readonly metrics?: Metrics;
  /** Logger. Defaults to no logging. */
  readonly log?: Logger;
  /** Tracer for requests. Defaults to no tracing. */
  readonly tracer?: Tracer;
  /** Readiness for GET /readyz. Defaults to always ready. */
  readonly ready?: () => Readiness | Promise<Readiness>;
  /** Proxies whose X-Forwarded-For header is trusted. Defaults to none. */
  readonly forwardedFrom?: NetworkSet;
  /** Token lifetimes in seconds. Default to those of protocol/token/token.ts. */
  readonly ttl?: TokenTtl;
  /** Wrong keys from one address (an IPv6 /64 counts as one) per minute. */
  readonly authFailuresPerMinute?: number;
  /** Tokens for one name by one credential per minute. */
  readonly tokensPerMinute?: Changeable<number>;
  /** Requests to the management API by one credential per minute. */
  readonly apiRequestsPerMinute?: Changeable<number>;
  /** Agents, keys and session data; without it the master only issues tokens to `credentials`. */
  readonly management?: Management;
  /** Sets DNS records for agents' wildcard certificates, with {@link management}. Defaults to none. */
  readonly dnsChallenges?: DnsChallenges | undefined;
  /** An identity provider for logins to the page; its claims are those of `oidcCredentials`. */
  readonly pageProvider?: PageProvider | undefined;
}

/** An endpoint in the index. */
interface Endpoint {
  readonly method: string;
  readonly path: string;
  readonly summary?: string;
}

const ENDPOINTS: readonly Endpoint[] = [
  routes.indexRoute,
  ...STATUS_ROUTES,
  routes.openapiRoute,
  routes.referenceRoute,
];

/**
 * Makes the session master. Serve `app.fetch(request, { remote })`, or call `app.request(path, init, { remote })`.
 *
 * | endpoint | |
 * | --- | --- |
 * | `POST /v1/tokens` | issues a token to a credential |
 * | `/v1/agents`, `/v1/sessions`, `/v1/usage`, `/v1/audit`, `/v1/keys`, `/v1/webhooks`, … | with {@link MasterOptions.management} |
 * | `GET /` | the management page for browsers, with {@link MasterOptions.management}; otherwise an index |
 * | `GET /healthz`, `GET /readyz` | liveness, readiness |
 * | `GET /metrics` | Prometheus' text format |
 * | `GET /openapi.json` | the OpenAPI document, from the schemas that validate the input |
 * | `GET /docs` | the same as an HTML page |
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
  const { clock, ready, management } = options;
  const log = options.log ?? silentLogger;
  const metrics = options.metrics ?? new Metrics();
  const failures = new FailureGuard({
    limit: new FailureLimit(options.authFailuresPerMinute ?? AUTH_FAILURES_PER_MINUTE_MAX),
    forwardedFrom: options.forwardedFrom,
    metrics,
  });
  const store = management?.store;
  const credentials = store === undefined
    ? options.credentials
    : firstOf(agentCredentials(store, clock), apiKeyCredentials(store, clock), options.credentials);
  const authenticated = authenticate({ credentials, failures, log });
  const app = createBaseApp({
    ...{ clock, log, metrics },
    elsewhere: "GET / names those that there are",
    answered: (route, status) => metrics.masterRequest(route, status),
    routeOf: (path) => label(path),
    ...options.tracer === undefined ? {} : { tracer: options.tracer },
    defaultHook: (result, c) => {
      if (result.success) return;
      throw schemaProblem(asksForToken(c.req.path) ? CANNOT_ISSUE : "Cannot use request", result.error);
    },
  });
  const endpoints: Endpoint[] = addTokensApi(app, {
    ...{ clock, log, metrics, store, authenticated },
    issuer: new TokenIssuer({ ...options, ...store && { store } }),
    limit: new IssueLimit(options.tokensPerMinute ?? TOKENS_PER_MINUTE_MAX),
    ttl: options.ttl ?? DEFAULT_TOKEN_TTL,
  });
  if (management !== undefined) {
    const calls = new IssueLimit(options.apiRequestsPerMinute ?? API_REQUESTS_PER_MINUTE_MAX);
    const parts: ApiParts = { management, clock, authenticated: [authenticated, countRequests(calls)] };
    endpoints.push(
      ...addAgentsApi(app, parts, failures),
      ...addNamesApi(app, parts),
      ...addRecordsApi(app, parts),
      ...addKeysApi(app, parts),
      ...addWebhooksApi(app, parts),
      ...addDnsChallengesApi(app, parts, options.dnsChallenges),
      ...addEdgesApi(app, { management, clock, ring: options.ring, failures, log }),
    );
    addPage(app, { management, clock, credentials, failures, calls, log, provider: options.pageProvider });
  }
  endpoints.push(...ENDPOINTS);
  const pages = management === undefined ? [] : PAGE_ROUTES;
  const label = labeller([...endpoints, ...pages].map(({ path }) => path));

  addIndex(app, endpoints);
  addStatusRoutes(app, { metrics, ready });
  addDocuments(app);
  addOtherMethods(app, [...endpoints, ...pages]);

  app.openAPIRegistry.registerComponent("securitySchemes", routes.BEARER_SCHEME, {
    type: "http",
    scheme: "bearer",
    description:
      "The admin key, another key that the master knows, or a JWT that an enrolled agent has signed",
  });
  return app;
}

/** Adds the index of endpoints, for programs. */
function addIndex(app: OpenAPIHono<MasterEnv>, endpoints: readonly Endpoint[]): void {
  app.openapi(routes.indexRoute, (c) => {
    const named = endpoints.map((route) => [`${route.method.toUpperCase()} ${route.path}`, route.summary]);
    return c.json({
      name: "Sallyport session master",
      version: VERSION,
      endpoints: Object.fromEntries(named) as Record<string, string>,
    }, 200);
  });
}

/** Adds the OpenAPI document, and the same as a page. Both are made at the first request. */
function addDocuments(app: OpenAPIHono<MasterEnv>): void {
  let document: ReturnType<typeof openApiDocument> | undefined;
  app.openapi(routes.openapiRoute, (c) => c.json(document ??= openApiDocument(app), 200));
  let reference: Promise<string> | undefined;
  app.openapi(routes.referenceRoute, async (c) => {
    reference ??= renderReference((document ??= openApiDocument(app)) as unknown as ReferenceDocument);
    const headers = {
      "Content-Type": "text/html; charset=utf-8",
      "Content-Security-Policy": REFERENCE_POLICY,
    };
    return c.body(await reference, 200, headers) as never;
  });
}

/** Maps a path to its endpoint, so that metrics have few labels: `/v1/agents/{id}`, "other". */
function labeller(paths: readonly string[]): (path: string) => string {
  const exact = new Set(paths.filter((path) => !path.includes("{")));
  const patterns = [...new Set(paths)].filter((path) => path.includes("{"))
    .map((path) => ({ path, pattern: new RegExp(`^${path.replaceAll(/\{\w+\}/g, "[^/]+")}$`) }));
  return (path) =>
    exact.has(path) ? path : patterns.find(({ pattern }) => pattern.test(path))?.path ?? "other";
}

function openApiDocument(app: OpenAPIHono<MasterEnv>) {
  const document = app.getOpenAPI31Document({
    openapi: "3.1.0",
    info: {
      title: "Sallyport session master",
      version: VERSION,
      description: "Issues the tokens with which agents open sessions at an edge.",
      license: { name: "MIT" },
    },
    servers: [{ url: "/" }],
  });
  // A plain object: the document's type lacks the index signature that the response's schema requires.
  return { ...document };
}
