/**
 * `/v1/dns-challenges`: agents have the session master set the DNS records that their wildcard certificates need.
 *
 * @module
 */
import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { DnsChallenges } from "../dns_challenges.ts";
import type { MasterEnv } from "../env.ts";
import { Problem } from "../problem.ts";
import { problem, retryAfter } from "../routes.ts";
import { HOSTNAME_OPENAPI, HostnameSchema } from "../schemas.ts";
import { type ApiParts, denials, secured } from "./parts.ts";

const params = z.object({
  domain: HostnameSchema.openapi({
    ...HOSTNAME_OPENAPI,
    description: "The name below which the wildcard is: the record is that of _acme-challenge and this name",
    example: "home.example.org",
  }),
  value: z.string().regex(/^[\w-]{43}$/, { error: "must be 43 characters of base64url" }).openapi({
    description: "The record's value: the SHA-256 of a key authorization (RFC 8555, section 8.4)",
    example: "A".repeat(43),
  }),
});

function routes({ authenticated }: ApiParts) {
  const shared = {
    path: "/v1/dns-challenges/{domain}/{value}",
    ...secured,
    middleware: [...authenticated],
    request: { params },
  };
  const absent = { 404: problem(404, "This session master has no program that sets DNS records") };
  return {
    set: createRoute({
      method: "put",
      operationId: "setDnsChallenge",
      summary: "For agents: set a record that proves control of a wildcard",
      ...shared,
      responses: {
        202: { description: "The program is still running: repeat the request", headers: retryAfter },
        204: { description: "The record is visible" },
        ...denials,
        ...absent,
      },
    }),
    clear: createRoute({
      method: "delete",
      operationId: "clearDnsChallenge",
      summary: "For agents: remove such a record",
      ...shared,
      responses: { 204: { description: "The record is gone" }, ...denials, ...absent },
    }),
  };
}

/** Adds the endpoints and returns their routes. */
export function addDnsChallengesApi(
  app: OpenAPIHono<MasterEnv>,
  parts: ApiParts,
  challenges: DnsChallenges | undefined,
) {
  const { management: { store } } = parts;
  const own = routes(parts);
  const available = (): DnsChallenges => {
    if (challenges !== undefined) return challenges;
    throw new Problem(404, "Cannot set DNS record: this session master has no --acme-dns-hook");
  };
  app.openapi(own.set, async (c) => {
    const { domain, value } = c.req.valid("param");
    const isVisible = await available().set(store, c.get("credential"), domain, value);
    return isVisible ? c.body(null, 204) : c.body(null, 202, { "Retry-After": "5" });
  });
  app.openapi(own.clear, async (c) => {
    const { domain, value } = c.req.valid("param");
    await available().clear(store, c.get("credential"), domain, value);
    return c.body(null, 204);
  });
  return Object.values(own);
}
