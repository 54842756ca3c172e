/**
 * `/v1/keys`, the Fernet keys that tokens are created with, and `/v1/api-keys`, the keys of this API.
 *
 * @module
 */
import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { MasterEnv } from "../env.ts";
import {
  actorOf,
  type ApiParts,
  bodyFaults,
  changing,
  conflict,
  denials,
  IdempotencyHeaders,
  json,
  missing,
  reading,
  secured,
} from "./parts.ts";
import {
  ApiKeyCreateSchema,
  apiKeyJson,
  ApiKeySchema,
  FernetKeyCreateSchema,
  fernetKeyJson,
  FernetKeySchema,
  NewApiKeySchema,
} from "./schemas.ts";

const params = z.object({ id: z.string().min(1).max(128).openapi({ example: "630dcd2966c43366" }) });
const FernetKeysSchema = z.object({ items: z.array(FernetKeySchema) }).openapi("FernetKeys");
const ApiKeysSchema = z.object({ items: z.array(ApiKeySchema) }).openapi("ApiKeys");

function routes(parts: ApiParts) {
  return {
    list: createRoute({
      method: "get",
      path: "/v1/keys",
      operationId: "listKeys",
      summary: "List Fernet keys",
      ...secured,
      middleware: reading(parts),
      responses: {
        200: {
          description: "Their ids, newest first, without the keys themselves",
          content: json(FernetKeysSchema),
        },
        ...denials,
      },
    }),
    add: createRoute({
      method: "post",
      path: "/v1/keys",
      operationId: "addKey",
      summary: "Add a Fernet key",
      description: "Tokens are made with it from now on; edges that have joined this master learn it first.",
      ...secured,
      middleware: changing(parts, { body: "optional", repeatable: true }),
      request: {
        headers: IdempotencyHeaders,
        body: { required: false, content: json(FernetKeyCreateSchema) },
      },
      responses: {
        201: { description: "The key's id", content: json(FernetKeySchema) },
        ...bodyFaults,
        ...conflict,
      },
    }),
    retire: createRoute({
      method: "delete",
      path: "/v1/keys/{id}",
      operationId: "retireKey",
      summary: "Retire a Fernet key",
      description: "Tokens made with it are refused from now on; sessions that they opened continue.",
      ...secured,
      middleware: changing(parts, { body: "none" }),
      request: { params },
      responses: { 204: { description: "Retired" }, ...denials, ...missing, ...conflict },
    }),
    apiList: createRoute({
      method: "get",
      path: "/v1/api-keys",
      operationId: "listApiKeys",
      summary: "List keys of this API",
      ...secured,
      middleware: reading(parts),
      responses: {
        200: { description: "Without the keys themselves", content: json(ApiKeysSchema) },
        ...denials,
      },
    }),
    apiAdd: createRoute({
      method: "post",
      path: "/v1/api-keys",
      operationId: "addApiKey",
      summary: "Add a key of this API",
      ...secured,
      middleware: changing(parts, { body: "required", repeatable: true }),
      request: { headers: IdempotencyHeaders, body: { required: true, content: json(ApiKeyCreateSchema) } },
      responses: {
        201: { description: "The key", content: json(NewApiKeySchema) },
        ...bodyFaults,
        ...conflict,
      },
    }),
    apiRemove: createRoute({
      method: "delete",
      path: "/v1/api-keys/{id}",
      operationId: "removeApiKey",
      summary: "Remove a key of this API",
      ...secured,
      middleware: changing(parts, { body: "none" }),
      request: { params },
      responses: { 204: { description: "Removed" }, ...denials, ...missing },
    }),
  };
}

/** Adds the endpoints and returns their routes. */
export function addKeysApi(app: OpenAPIHono<MasterEnv>, parts: ApiParts) {
  const { management } = parts;
  const own = routes(parts);
  app.openapi(own.list, (c) => c.json({ items: management.keys.list().map(fernetKeyJson) }, 200));
  app.openapi(own.add, async (c) => {
    return c.json(fernetKeyJson(await management.addFernetKey(actorOf(c), c.req.valid("json").key)), 201);
  });
  app.openapi(own.retire, async (c) => {
    await management.retireFernetKey(actorOf(c), c.req.valid("param").id);
    return c.body(null, 204);
  });
  app.openapi(own.apiList, async (c) => {
    return c.json({ items: (await management.apiKeys(actorOf(c))).map(apiKeyJson) }, 200);
  });
  app.openapi(own.apiAdd, async (c) => {
    const actor = actorOf(c);
    const { tenant = actor.tenant, expires_at, ...rest } = c.req.valid("json");
    const { info, key } = await management.addApiKey(actor, {
      ...rest,
      tenant,
      ...expires_at === undefined ? {} : { expiresAtMs: Date.parse(expires_at) },
    });
    return c.json({ ...apiKeyJson(info), key }, 201);
  });
  app.openapi(own.apiRemove, async (c) => {
    await management.removeApiKey(actorOf(c), c.req.valid("param").id);
    return c.body(null, 204);
  });
  return Object.values(own);
}
