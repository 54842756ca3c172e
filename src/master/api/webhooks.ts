/**
 * `/v1/webhooks`, the receivers of events, `/v1/webhook-deliveries`, the delivery log, and `/v1/agent-certificates`,
 * where agents report when their certificates expire.
 *
 * @module
 */
import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { MasterEnv } from "../env.ts";
import { boundedJson } from "../guards.ts";
import { DELIVERY_STATES, EVENT_TYPES, type Webhook, type WebhookDelivery } from "../model.ts";
import { Problem } from "../problem.ts";
import { problem } from "../routes.ts";
import { WEBHOOK_URL_MAX_LENGTH } from "../webhooks/destination.ts";
import { webhookSecretFault } from "../webhooks/signature.ts";
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
import { pageQuery, pageSchema, TenantSchema, timeText } from "./schemas.ts";

/** Certificates that one agent may report. */
export const CERTIFICATES_MAX = 256;

const params = z.object({ id: z.string().min(1).max(128).openapi({ example: "hook_630dcd2966c43366" }) });

const events = z.array(z.enum(EVENT_TYPES, { error: `must be one of ${EVENT_TYPES.join(", ")}` }), {
  error: "must be a list of events",
}).min(1, { error: "must have at least one" }).max(EVENT_TYPES.length, {
  error: `must have at most ${EVENT_TYPES.length}`,
}).transform((names) => [...new Set(names)]).openapi({ example: ["agent.offline"] });

/** The body of POST /v1/webhooks. */
export const WebhookCreateSchema = z.strictObject({
  url: z.string({ error: "must be a string" }).max(WEBHOOK_URL_MAX_LENGTH, {
    error: `must have at most ${WEBHOOK_URL_MAX_LENGTH} characters`,
  }).openapi({
    format: "uri",
    pattern: "^https?://",
    description:
      "Where messages are posted to: https, at a public address or in a network of --webhook-networks",
    example: "https://hooks.example.org/sallyport",
  }),
  events: events.optional().openapi({ description: "The events that are sent; default: all" }),
  tenant: TenantSchema.optional().openapi({
    description: "The tenant whose events are sent, `*` for all; default: that of the requesting key",
  }),
  secret: z.string({ error: "must be a string" }).max(128, { error: "must have at most 128 characters" })
    .superRefine((text, context) => {
      const fault = webhookSecretFault(text);
      if (fault !== undefined) context.addIssue({ code: "custom", message: fault });
    }).optional().openapi({
      pattern: "^whsec_[A-Za-z0-9+/]{32,86}={0,2}$",
      description: "The secret with which messages are signed; default: a random one",
      example: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }),
}, { error: "must be a JSON object" }).openapi("WebhookCreate");

/** A webhook in responses; never with its secret. */
export const WebhookSchema = z.object({
  id: z.string(),
  tenant: z.string(),
  url: z.string(),
  events: z.array(z.string()),
  created_at: z.string(),
  dropped: z.int().openapi({
    description: "Events that were dropped because too many messages were pending",
  }),
}).openapi("Webhook");

/** A new webhook, with its secret. */
export const NewWebhookSchema = WebhookSchema.extend({
  secret: z.string().openapi({ description: "The secret with which its messages are signed; shown once" }),
}).openapi("NewWebhook");

/** A message to a webhook. */
export const DeliverySchema = z.object({
  seq: z.int(),
  id: z.string().openapi({ description: "The message's `webhook-id`, the same at each attempt" }),
  webhook: z.string(),
  event: z.string().openapi({ example: "agent.offline" }),
  state: z.enum(DELIVERY_STATES),
  created_at: z.string(),
  attempts: z.int(),
  sent_at: z.string().nullable().openapi({ description: "Time of the last attempt" }),
  next_at: z.string().nullable().openapi({ description: "Time of the next attempt, while pending" }),
  status: z.int().nullable().openapi({ description: "Status of the response to the last attempt" }),
  error: z.string().nullable().openapi({ description: "Why the last attempt failed" }),
  body: z.string().openapi({ description: "The message itself" }),
}).openapi("WebhookDelivery");

const time = z.iso.datetime({ offset: true, error: "must be a time such as 2027-01-31T00:00:00Z" });

/** The body of PUT /v1/agent-certificates. */
export const CertificatesSchema = z.strictObject({
  certificates: z.array(
    z.strictObject({
      names: z.array(z.string({ error: "must be a string" }).min(1).max(255), {
        error: "must be a list of names",
      })
        .min(1, { error: "must have at least one" }).max(256, { error: "must have at most 256" })
        .openapi({ example: ["home.example.org"] }),
      not_before: time,
      not_after: time,
    }, { error: "must be an object" }),
    { error: "must be a list of certificates" },
  ).max(CERTIFICATES_MAX, { error: `must have at most ${CERTIFICATES_MAX}` }),
}, { error: "must be a JSON object" }).openapi("AgentCertificates");

const WebhooksSchema = z.object({ items: z.array(WebhookSchema) }).openapi("Webhooks");
const DeliveriesSchema = pageSchema(DeliverySchema, "WebhookDeliveries");

function routes(parts: ApiParts) {
  return {
    list: createRoute({
      method: "get",
      path: "/v1/webhooks",
      operationId: "listWebhooks",
      summary: "List webhooks",
      ...secured,
      middleware: reading(parts),
      responses: { 200: { description: "Without their secrets", content: json(WebhooksSchema) }, ...denials },
    }),
    add: createRoute({
      method: "post",
      path: "/v1/webhooks",
      operationId: "addWebhook",
      summary: "Add a webhook",
      description:
        "Events are posted to it as JSON, signed according to Standard Webhooks 1.0, and retried for 18 hours.",
      ...secured,
      middleware: changing(parts, { body: "required", repeatable: true }),
      request: { headers: IdempotencyHeaders, body: { required: true, content: json(WebhookCreateSchema) } },
      responses: {
        201: { description: "The webhook, with its secret", content: json(NewWebhookSchema) },
        ...bodyFaults,
        ...conflict,
      },
    }),
    show: createRoute({
      method: "get",
      path: "/v1/webhooks/{id}",
      operationId: "showWebhook",
      summary: "Show a webhook",
      ...secured,
      middleware: reading(parts),
      request: { params },
      responses: {
        200: { description: "The webhook", content: json(WebhookSchema) },
        ...denials,
        ...missing,
      },
    }),
    remove: createRoute({
      method: "delete",
      path: "/v1/webhooks/{id}",
      operationId: "removeWebhook",
      summary: "Remove a webhook",
      description: "Its pending messages are dropped.",
      ...secured,
      middleware: changing(parts, { body: "none" }),
      request: { params },
      responses: { 204: { description: "Removed" }, ...denials, ...missing },
    }),
    test: createRoute({
      method: "post",
      path: "/v1/webhooks/{id}/test",
      operationId: "testWebhook",
      summary: "Try a webhook",
      description: "Sends it the event `webhook.test`, once, and reports the outcome.",
      ...secured,
      middleware: changing(parts, { body: "none" }),
      request: { params },
      responses: {
        200: { description: "The outcome", content: json(DeliverySchema) },
        ...denials,
        ...missing,
        ...conflict,
      },
    }),
    deliveries: createRoute({
      method: "get",
      path: "/v1/webhook-deliveries",
      operationId: "listWebhookDeliveries",
      summary: "Messages to webhooks, newest first",
      ...secured,
      middleware: reading(parts),
      request: {
        query: z.object({
          ...pageQuery,
          webhook: z.string().min(1).max(128).optional().openapi({
            description: "Only those to one webhook, by its id",
          }),
          state: z.enum(DELIVERY_STATES, { error: `must be one of ${DELIVERY_STATES.join(", ")}` })
            .optional(),
        }),
      },
      responses: {
        200: { description: "One page", content: json(DeliveriesSchema) },
        ...denials,
        ...missing,
      },
    }),
    certificates: createRoute({
      method: "put",
      path: "/v1/agent-certificates",
      operationId: "reportCertificates",
      summary: "For agents: when their certificates expire",
      ...secured,
      middleware: [...parts.authenticated, boundedJson({ clock: parts.clock })],
      request: { body: { required: true, content: json(CertificatesSchema) } },
      responses: {
        204: { description: "Recorded; replaces earlier reports" },
        ...bodyFaults,
        403: problem(403, "This isn't an agent's signature"),
      },
    }),
  };
}

/** Adds the endpoints and returns their routes. */
export function addWebhooksApi(app: OpenAPIHono<MasterEnv>, parts: ApiParts) {
  const { management: { webhooks, store } } = parts;
  const own = routes(parts);
  app.openapi(own.list, async (c) => {
    return c.json({ items: (await webhooks.list(actorOf(c))).map(webhookJson) }, 200);
  });
  app.openapi(own.add, async (c) => {
    const actor = actorOf(c);
    const webhook = await webhooks.add(actor, { tenant: actor.tenant, ...c.req.valid("json") });
    return c.json({ ...webhookJson(webhook), secret: webhook.secret }, 201);
  });
  app.openapi(own.show, async (c) => {
    return c.json(webhookJson(await webhooks.one(actorOf(c), c.req.valid("param").id)), 200);
  });
  app.openapi(own.remove, async (c) => {
    await webhooks.remove(actorOf(c), c.req.valid("param").id);
    return c.body(null, 204);
  });
  app.openapi(own.test, async (c) => {
    return c.json(deliveryJson(await webhooks.test(actorOf(c), c.req.valid("param").id)), 200);
  });
  app.openapi(own.deliveries, async (c) => {
    const { items, next } = await webhooks.deliveries(actorOf(c), c.req.valid("query"));
    return c.json({ items: items.map(deliveryJson), next: next ?? null }, 200);
  });
  app.openapi(own.certificates, async (c) => {
    const { agent } = c.get("credential");
    if (agent === undefined) {
      const detail = "isn't an agent's signature";
      throw new Problem(403, `Cannot record certificates: Authorization ${detail}`, {
        errors: [{ member: "Authorization", detail }],
      });
    }
    const { certificates } = c.req.valid("json");
    await store.reportCertificates(
      agent.id,
      certificates.map(({ names, not_before, not_after }) => ({
        names,
        notBeforeMs: Date.parse(not_before),
        notAfterMs: Date.parse(not_after),
      })),
    );
    return c.body(null, 204);
  });
  return Object.values(own);
}

function webhookJson(
  { id, tenant, url, events, createdAtMs, dropped }: Webhook,
): z.infer<typeof WebhookSchema> {
  return { id, tenant, url, events: [...events], created_at: timeText(createdAtMs), dropped };
}

function deliveryJson(delivery: WebhookDelivery): z.infer<typeof DeliverySchema> {
  const { seq, id, webhook, event, state, attempts, body } = delivery;
  const time = (ms: number | undefined) => ms === undefined ? null : timeText(ms);
  return {
    ...{ seq, id, webhook, event, state, attempts, body },
    created_at: timeText(delivery.createdAtMs),
    sent_at: time(delivery.sentAtMs),
    next_at: time(delivery.nextAtMs),
    status: delivery.status ?? null,
    error: delivery.error ?? null,
  };
}
