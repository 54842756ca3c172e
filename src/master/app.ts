/**
 * The session master: a Hono app that issues tokens to agents and says how the process is.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Bytes } from "../bytes/bytes.ts";
import { fingerprintText } from "../crypto/certificate.ts";
import type { FernetRing } from "../crypto/fernet.ts";
import { createToken } from "../protocol/token/token.ts";
import type { NetworkSet } from "../wire/ip/networks.ts";
import type { Clock } from "../runtime/port.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import { Metrics } from "../telemetry/metrics.ts";
import { VERSION } from "../version.ts";
import { PUBLISH_MEMBER } from "../wire/token/publish_claim.ts";
import { TRANSPORTS_MEMBER } from "../wire/token/transports_claim.ts";
import type { Credential, Credentials } from "./credentials.ts";
import type { MasterEnv } from "./env.ts";
import { authenticate, boundedJson } from "./guards.ts";
import { bodyFault, Problem, schemaProblem, unprocessable } from "./problem.ts";
import { FailureLimit, IssueLimit } from "./rate_limits.ts";
import * as routes from "./routes.ts";
import { DEFAULT_TOKEN_TTL, type TokenRequest, type TokenResponse, type TokenTtl } from "./schemas.ts";
import { addOtherMethods, addStatusRoutes, createBaseApp, type Readiness, STATUS_ROUTES } from "./status.ts";
import { TOKEN_MAX_BYTES } from "../wire/token/token_payload.ts";

/** Requests with a wrong key from one address in a minute, before 429. */
export const AUTH_FAILURES_PER_MINUTE_MAX = 20;
/** Tokens for one credential in a minute, before 429. */
export const TOKENS_PER_MINUTE_MAX = 600;

export type { Readiness };

/** Where agents dial; a name or an IP address, and a port. */
export interface EdgeAddress {
  /** A name or an IP address. */
  readonly host: string;
  /** 1–65535. */
  readonly port: number;
  /** The edge's public key, 32 bytes, where it speaks the sealed or the curve transport. */
  readonly publicKey?: Bytes;
  /** Its UDP port for the curve transport, where it has one. */
  readonly curvePort?: number;
  /** Its UDP port for the QUIC transport, where it has one. */
  readonly quicPort?: number;
  /** SHA-256 of its certificate for QUIC, 32 bytes. */
  readonly certificateFingerprint?: Bytes;
}

/** What {@link createMasterApp} takes. */
export interface MasterOptions {
  /** The keys that the edges share; the first one makes tokens. */
  readonly ring: FernetRing;
  /** Who may ask. */
  readonly credentials: Credentials;
  /** What tokens name as the edge; a function when it is only known once a listener is up. */
  readonly edgeAddress: EdgeAddress | (() => EdgeAddress);
  /** Time, of the runtime for example. */
  readonly clock: Clock;
  /** What GET /metrics shows; its own when absent. */
  readonly metrics?: Metrics;
  /** Where it logs; nowhere when absent. */
  readonly log?: Logger;
  /** Asked for GET /readyz; always ready when absent. */
  readonly ready?: () => Readiness;
  /** Proxies whose X-Forwarded-For says whom a request comes from; nobody is believed when absent. */
  readonly forwardedFrom?: NetworkSet;
  /** Lifetimes in seconds; those of protocol/token/token.ts when absent. */
  readonly ttl?: TokenTtl;
  /** Wrong keys from one address (an IPv6 /64 counts as one) in a minute. */
  readonly authFailuresPerMinute?: number;
  /** Tokens for one credential in a minute. */
  readonly tokensPerMinute?: number;
}

const CANNOT_ISSUE = "Cannot issue token";
const ENDPOINTS = [routes.indexRoute, ...STATUS_ROUTES, routes.openapiRoute];

/** Throws 403 when `credential` may not serve one of the names, or have one of the ports, with all of these. */
function checkPermission(credential: Credential, request: TokenRequest): void {
  const names = [request.hostname, ...request.alias];
  const refused = names.flatMap((name, index) =>
    credential.mayServe(name) ? [] : [
      bodyFault(index === 0 ? ["hostname"] : ["alias", index - 1], "is not a name that this key may serve"),
    ]
  );
  for (const [index, port] of request.publish.entries()) {
    if (credential.mayPublish?.(port) === true) continue;
    refused.push(bodyFault(["publish", index], "is not a public port that this key may have"));
  }
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
    extra: {
      ...request.publish.length > 0 ? { [PUBLISH_MEMBER]: request.publish } : {},
      ...request.transports === undefined ? {} : { [TRANSPORTS_MEMBER]: request.transports },
    },
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
    publish: request.publish,
    valid: claims.valid,
    edge: {
      host: edge.host,
      port: edge.port,
      ...offerOf(edge),
    },
  };
}

/** How agents may come to the edge, besides SniTun, and what they insist on. */
function offerOf({ publicKey, curvePort, quicPort, certificateFingerprint }: EdgeAddress) {
  const keyed = publicKey !== undefined;
  const curve = keyed && curvePort !== undefined;
  const quic = quicPort !== undefined && certificateFingerprint !== undefined;
  if (!keyed && !quic) return {};
  return {
    ...keyed ? { public_key: Buffer.from(publicKey).toString("base64url") } : {},
    ...curve ? { curve_port: curvePort } : {},
    ...quic ? { quic_port: quicPort, certificate_fingerprint: fingerprintText(certificateFingerprint) } : {},
    transports: ["snitun", ...keyed ? ["sealed"] : [], ...curve ? ["curve"] : [], ...quic ? ["quic"] : []],
  };
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
    authenticate({ credentials, failures, forwardedFrom: options.forwardedFrom, metrics, log }),
    boundedJson({ clock }),
  ]);
  const endpoints = [tokensRoute, ...ENDPOINTS];
  const paths = new Set(endpoints.map((route) => route.path as string));

  const app = createBaseApp({
    clock,
    log,
    elsewhere: "GET / names those that there are",
    answered: (path, status) => metrics.masterRequest(paths.has(path) ? path : "other", status),
    defaultHook: (result) => {
      if (!result.success) throw schemaProblem(CANNOT_ISSUE, result.error);
    },
  });

  app.openapi(tokensRoute, async (c) => {
    const credential = c.get("credential");
    const request = c.req.valid("json");
    checkPermission(credential, request);
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
    const { hostname, alias, cipher, protocol_version, publish, valid } = issued;
    log.info(
      { client: credential.id, hostname, alias, cipher, protocol_version, publish, valid },
      "token issued",
    );
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
  addStatusRoutes(app, { metrics, ready });
  let document: ReturnType<typeof openApiDocument> | undefined;
  app.openapi(routes.openapiRoute, (c) => c.json(document ??= openApiDocument(app), 200));

  addOtherMethods(app, endpoints);

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
