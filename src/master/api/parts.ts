/**
 * Shared by the endpoints of the management API: authorization, answers to repeated requests, and their errors in the
 * OpenAPI document.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from "node:crypto";
import { z } from "@hono/zod-openapi";
import type { Context, MiddlewareHandler } from "hono";
import { DAY_MS } from "../../calendar.ts";
import type { Clock } from "../../runtime/port.ts";
import type { MasterEnv } from "../env.ts";
import { boundedJson, requireScope } from "../guards.ts";
import type { Actor, Management } from "../management.ts";
import { ALL_TENANTS, type Scope } from "../model.ts";
import { Problem } from "../problem.ts";
import { BEARER_SCHEME, problem, retryAfter, wwwAuthenticate } from "../routes.ts";

/** How long a request with an `Idempotency-Key` may take; after it, its session master is taken to have ended. */
const IN_PROGRESS_MAX_MS = 60_000;
/** How long the answer to a request with an `Idempotency-Key` is kept. */
export const IDEMPOTENCY_KEPT_MS = DAY_MS;

/** Dependencies of the endpoints. */
export interface ApiParts {
  readonly management: Management;
  readonly clock: Clock;
  /** Identifies the caller and counts the request. */
  readonly authenticated: readonly MiddlewareHandler<MasterEnv>[];
}

/** The caller, for the audit log. */
export function actorOf(c: Context<MasterEnv>): Actor {
  const { id, tenant = ALL_TENANTS } = c.get("credential");
  return { id, tenant, request: c.get("requestId") };
}

/** The guards of a read endpoint. */
export function reading({ authenticated }: ApiParts): MiddlewareHandler<MasterEnv>[] {
  return [...authenticated, requireScope("read")];
}

/** The guards of an endpoint that makes changes. */
export function changing(
  { authenticated, clock, management }: ApiParts,
  { body, repeatable = false, scope = "admin" }: {
    readonly body: "none" | "optional" | "required";
    readonly repeatable?: boolean;
    readonly scope?: Scope;
  },
): MiddlewareHandler<MasterEnv>[] {
  return [
    ...authenticated,
    requireScope(scope),
    ...body === "none" ? [] : [boundedJson({ clock, optional: body === "optional" })],
    ...repeatable ? [idempotent(management, clock)] : [],
  ];
}

/** The revision in If-Match; undefined if any revision will do. */
export function revisionOf(c: Context<MasterEnv>): number | undefined {
  const header = c.req.header("if-match")?.trim();
  if (header === undefined || header === "*") return undefined;
  const [, revision] = /^"(\d{1,15})"$/.exec(header) ?? [];
  // Anything that isn't one of our ETags matches none.
  return revision === undefined ? -1 : Number(revision);
}

/** The security requirement of the endpoints. */
export const secured = { security: [{ [BEARER_SCHEME]: [] }] };

/** The header that makes a retry safe. */
export const IdempotencyHeaders = z.object({
  "idempotency-key": z.string().min(8).max(128).optional().openapi({
    description: "A random text; a repetition with the same one gets the first answer, for a day",
    example: "7c9e6679-7425-40de",
  }),
});

/** The header that prevents one change from overwriting another. */
export const IfMatchHeaders = z.object({
  "if-match": z.string().optional().openapi({
    description: "The agent's ETag: 412 if it has been changed meanwhile",
    example: '"3"',
  }),
});

/** The header of answers that show an agent. */
export const etag = { ETag: { schema: { type: "string" as const }, description: "The agent's revision" } };

/** A JSON response body. */
export function json<Schema extends z.ZodType>(schema: Schema) {
  return { "application/json": { schema } };
}

/** The errors of endpoints that require a credential. */
export const denials = {
  401: problem(401, "The key is missing or unknown", wwwAuthenticate),
  403: problem(403, "The key may not do this"),
  422: problem(422, "A parameter or a member is missing, unknown or wrong"),
  429: problem(429, "Too many requests by this key, or too many wrong keys from this address", retryAfter),
  500: problem(500, "Internal error; the log has details under the same instance"),
  503: problem(503, "The database is unavailable", retryAfter),
};

/** The errors of endpoints that also take a body. */
export const bodyFaults = {
  ...denials,
  400: problem(400, "The body isn't JSON"),
  408: problem(408, "The body took too long"),
  413: problem(413, "The body is too large"),
  415: problem(415, "The body's Content-Type isn't application/json"),
};

/** 404. */
export const missing = { 404: problem(404, "Not found") };
/** 409. */
export const conflict = {
  409: problem(409, "A name or a hostname is taken, or the same request is still in progress"),
};
/** 412. */
export const changedMeanwhile = { 412: problem(412, "It has been changed meanwhile") };

/**
 * Answers a request repeated with the same `Idempotency-Key` with the first answer. The answer may contain a secret
 * that is shown once, so it is stored encrypted, with a key derived from the client's header.
 */
function idempotent({ store }: Management, clock: Clock): MiddlewareHandler<MasterEnv> {
  return async (c, next) => {
    const key = c.req.header("idempotency-key");
    if (key === undefined) return await next();
    if (key.length < 8 || key.length > 128) {
      const detail = "must have 8 to 128 characters";
      throw new Problem(422, `Cannot read Idempotency-Key: it ${detail}`, {
        errors: [{ member: "Idempotency-Key", detail }],
      });
    }
    const body = new Uint8Array(await c.req.raw.clone().arrayBuffer());
    const whose = `${c.get("credential").id}\n${key}`;
    const id = createHash("sha256").update(`id\n${whose}`).digest("base64url");
    const request = createHash("sha256").update(`${c.req.method} ${c.req.path}\n`).update(body).digest(
      "base64url",
    );
    const nowMs = clock.wallMs();
    const kept = await store.reserveAnswer(id, request, nowMs, nowMs + IN_PROGRESS_MAX_MS);
    if (kept !== undefined) {
      if (kept.request !== request) {
        throw new Problem(422, "Cannot answer: this Idempotency-Key was used with another request before", {
          errors: [{ member: "Idempotency-Key", detail: "was used with another request before" }],
        });
      }
      if (kept.status === undefined) {
        throw new Problem(
          409,
          "Cannot answer: the first request with this Idempotency-Key is still in progress",
          {
            errors: [{ member: "Idempotency-Key", detail: "belongs to a request that is still in progress" }],
          },
        );
      }
      c.res = new Response(unlock(whose, kept.body), {
        status: kept.status,
        headers: { ...kept.headers, "Idempotency-Replayed": "true" },
      });
      return;
    }
    try {
      await next();
    } catch (error) {
      await store.dropAnswer(id);
      throw error;
    }
    // Only successes are kept: a refused request may be corrected and retried.
    const { status, headers } = c.res;
    if (status >= 300) return void await store.dropAnswer(id);
    const shown: Record<string, string> = {};
    for (const name of ["content-type", "etag", "location"]) {
      const value = headers.get(name);
      if (value !== null) shown[name] = value;
    }
    const text = await c.res.clone().text();
    const answer = { request, status, headers: shown, body: lock(whose, text) };
    await store.keepAnswer(id, answer, nowMs + IDEMPOTENCY_KEPT_MS);
  };
}

function answerKey(whose: string): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", whose, "sallyport", "kept answer", 32));
}

/** Encrypts a text with a key derived from `whose`. */
export function lock(whose: string, text: string): string {
  const iv = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", answerKey(whose), iv);
  const sealed = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
  return Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString("base64");
}

/** Reverses {@link lock}. */
export function unlock(whose: string, kept: string): string {
  const bytes = Buffer.from(kept, "base64");
  const decipher = createDecipheriv("aes-256-gcm", answerKey(whose), bytes.subarray(0, 12));
  decipher.setAuthTag(bytes.subarray(12, 28));
  return Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]).toString("utf8");
}
