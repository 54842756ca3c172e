/**
 * `/v1/tokens` and, for agents that have enrolled, `/v1/agent-tokens`.
 *
 * @module
 */
import type { OpenAPIHono } from "@hono/zod-openapi";
import type { MiddlewareHandler } from "hono";
import type { Clock } from "../../runtime/port.ts";
import type { Logger } from "../../telemetry/log.ts";
import type { Metrics } from "../../telemetry/metrics.ts";
import type { Credential } from "../credentials.ts";
import type { MasterEnv } from "../env.ts";
import { boundedJson } from "../guards.ts";
import { Problem } from "../problem.ts";
import type { IssueLimit } from "../rate_limits.ts";
import { OWN_TOKENS_PATH, ownTokensRoute, TOKENS_PATH, tokensRoute } from "../routes.ts";
import type { TokenResponse, TokenTtl } from "../schemas.ts";
import type { Store } from "../store/store.ts";
import { CANNOT_ISSUE, type TokenIssuer } from "../tokens.ts";

/** Dependencies of {@link addTokensApi}. */
interface TokensApiParts {
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly issuer: TokenIssuer;
  /** Tokens for one name by one credential. */
  readonly limit: IssueLimit;
  readonly ttl: TokenTtl;
  readonly authenticated: MiddlewareHandler<MasterEnv>;
  /** The store of enrolled agents, if there are any. */
  readonly store: Store | undefined;
}

/** Whether a request at this path is for a token. */
export function asksForToken(path: string): boolean {
  return path.endsWith(TOKENS_PATH) || path.endsWith(OWN_TOKENS_PATH);
}

/** Adds the endpoints and returns their routes. */
export function addTokensApi(app: OpenAPIHono<MasterEnv>, parts: TokensApiParts) {
  const { clock, log, metrics, issuer, limit, ttl, authenticated, store } = parts;
  /** Counts a token before it is created. */
  const count = async (credential: Credential, hostname: string) => {
    const waitS = await limit.take(`${credential.id}/${hostname}`);
    if (waitS === 0) return;
    metrics.refused("agent", "limit_exceeded");
    throw new Problem(429, `${CANNOT_ISSUE}: too many tokens for this name, wait ${waitS} s`, {
      errors: [{ member: "Authorization", detail: "requested too many tokens for this name" }],
      headers: { "Retry-After": String(waitS) },
    });
  };
  /** Records a token, or the reason of an agent's refusal, which `doctor` shows. */
  const recorded = async (credential: Credential, requestId: string, issue: Promise<TokenResponse>) => {
    let issued: TokenResponse;
    try {
      issued = await issue;
    } catch (error) {
      const { agent } = credential;
      if (agent !== undefined && error instanceof Problem) {
        await store?.noteRefusal(agent.id, clock.wallMs(), error.message);
      }
      throw error;
    }
    metrics.tokenIssued(issued.protocol_version, issued.cipher);
    const { hostname, alias, cipher, protocol_version, publish, valid } = issued;
    log.info({
      ...{ client: credential.id, hostname, alias, cipher, protocol_version, publish, valid },
      request_id: requestId,
    }, "token issued");
    return issued;
  };

  const all = tokensRoute(ttl, [authenticated, boundedJson({ clock })]);
  app.openapi(all, async (c) => {
    const credential = c.get("credential");
    const request = c.req.valid("json");
    await count(credential, request.hostname);
    return c.json(await recorded(credential, c.get("requestId"), issuer.issue(credential, request)), 201);
  });
  if (store === undefined) return [all];
  const own = ownTokensRoute(ttl, [authenticated, boundedJson({ clock, optional: true })]);
  app.openapi(own, async (c) => {
    const credential = c.get("credential");
    await count(credential, "");
    const issue = issuer.issueOwn(credential, c.req.valid("json"));
    return c.json(await recorded(credential, c.get("requestId"), issue), 201);
  });
  return [all, own];
}
