/**
 * The checks on a request for a token before its body is validated: a key, and a JSON body of bounded size.
 *
 * @module
 */

import type { Context, MiddlewareHandler } from "hono";
import { readAtMost } from "../bytes/read_at_most.ts";
import type { NetworkSet } from "../wire/ip/networks.ts";
import type { Clock } from "../runtime/port.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { clientAddress } from "./client_address.ts";
import type { Credential, Credentials } from "./credentials.ts";
import type { MasterEnv } from "./env.ts";
import { bodyFault, Problem } from "./problem.ts";
import type { Scope } from "./model.ts";
import type { FailureLimit, IssueLimit } from "./rate_limits.ts";

/** Body of a request to the master. */
export const MASTER_BODY_MAX_BYTES = 64 * 1024;
/** Deadline for the complete body, counted from its headers: a body usually takes one or two packets. */
export const MASTER_BODY_DEADLINE_MS = 10_000;

/** RFC 6750 §2.1; the scheme's case doesn't matter (RFC 9110 §11.1). */
const BEARER = /^Bearer +([\w.~+/-]+=*) *$/i;
const KEY_MAX_LENGTH = 4096;
const REALM = 'Bearer realm="sallyport"';

function unauthorized(detail: string, challenge: string): Problem {
  return new Problem(401, `Cannot authenticate: Authorization ${detail}`, {
    errors: [{ member: "Authorization", detail }],
    headers: { "WWW-Authenticate": challenge },
  });
}

/** Options of {@link FailureGuard}. */
interface FailureGuardOptions {
  readonly limit: FailureLimit;
  /** Proxies whose X-Forwarded-For header is trusted. */
  readonly forwardedFrom?: NetworkSet;
  readonly metrics: Metrics;
}

/** Counts wrong keys and codes by client address. */
export class FailureGuard {
  readonly #options: FailureGuardOptions;

  constructor(options: FailureGuardOptions) {
    this.#options = options;
  }

  /** The client address of a request. */
  remoteOf(c: Context<MasterEnv>): string {
    const peer = c.env?.remote?.host ?? "unknown";
    const { forwardedFrom } = this.#options;
    return forwardedFrom === undefined
      ? peer
      : clientAddress(peer, c.req.header("x-forwarded-for"), forwardedFrom);
  }

  /** Throws 429 for an address with too many wrong keys. */
  async check(c: Context<MasterEnv>): Promise<void> {
    const { limit, metrics } = this.#options;
    const waitS = await limit.blockedForS(this.remoteOf(c));
    if (waitS === 0) return;
    metrics.refused("agent", "limit_exceeded");
    throw new Problem(429, `Cannot authenticate: too many wrong keys from this address, wait ${waitS} s`, {
      errors: [{ member: "Authorization", detail: "was wrong too often" }],
      headers: { "Retry-After": String(waitS) },
    });
  }

  /** Counts a wrong key. */
  async count(c: Context<MasterEnv>): Promise<void> {
    const { limit, metrics } = this.#options;
    await limit.count(this.remoteOf(c));
    metrics.refused("agent", "credential_refused");
  }

  /** The check as a middleware. */
  get guard(): MiddlewareHandler<MasterEnv> {
    return async (c, next) => {
      await this.check(c);
      await next();
    };
  }
}

/** Options of {@link authenticate}. */
interface AuthenticateOptions {
  readonly credentials: Credentials;
  readonly failures: FailureGuard;
  readonly log: Logger;
}

/**
 * Authenticates a request: 401 without a known key, 429 for an address with too many wrong keys. The count is checked
 * first, even for valid keys: otherwise guessing could continue at full speed behind the 429s.
 */
export function authenticate(options: AuthenticateOptions): MiddlewareHandler<MasterEnv> {
  const { credentials, failures, log } = options;
  return async (c, next) => {
    const header = c.req.header("authorization");
    if (header === undefined) throw unauthorized("is missing; Bearer and a key are needed", REALM);
    await failures.check(c);
    const key = bearerOf(header);
    const credential = key === undefined ? undefined : await credentials.find(key, c.req);
    if (credential === undefined) {
      await failures.count(c);
      const remote = failures.remoteOf(c);
      log.warn(
        { remote, reason: "credential_refused", path: c.req.path },
        "request refused: unknown credential",
      );
      throw unauthorized(
        key === undefined ? "is not Bearer and a key" : "is not a key that is known",
        `${REALM}, error="invalid_token"`,
      );
    }
    c.set("credential", credential);
    await next();
  };
}

/** The credential after Bearer; undefined if there is none. */
export function bearerOf(header: string | undefined): string | undefined {
  return header !== undefined && header.length <= KEY_MAX_LENGTH ? BEARER.exec(header)?.[1] : undefined;
}

/** The problem of a request without a known key. */
export function unknownKey(): Problem {
  return unauthorized("is not a key that is known", `${REALM}, error="invalid_token"`);
}

/** Refuses credentials without a scope, with 403. */
export function requireScope(scope: Scope): MiddlewareHandler<MasterEnv> {
  return async (c, next) => {
    const { id, scopes = [] } = c.get("credential");
    if (!allowsScope(scopes, scope)) {
      throw new Problem(403, `Cannot do this: ${id} doesn't have the scope ${scope}`, {
        errors: [{ member: "Authorization", detail: `is of a credential without the scope ${scope}` }],
      });
    }
    await next();
  };
}

/** Whether scopes include one; "admin" includes "read". */
export function allowsScope(scopes: readonly Scope[], wanted: Scope): boolean {
  return scopes.includes(wanted) || (wanted === "read" && scopes.includes("admin"));
}

/** Counts a request of a credential; throws 429 beyond the limit. */
export async function countRequest(limit: IssueLimit, { id }: Credential): Promise<void> {
  const waitS = await limit.take(id);
  if (waitS <= 0) return;
  throw new Problem(429, `Cannot answer: too many requests by this credential, wait ${waitS} s`, {
    errors: [{ member: "Authorization", detail: "came with too many requests" }],
    headers: { "Retry-After": String(waitS) },
  });
}

/** {@link countRequest} as a middleware. */
export function countRequests(limit: IssueLimit): MiddlewareHandler<MasterEnv> {
  return async (c, next) => {
    await countRequest(limit, c.get("credential"));
    await next();
  };
}

/** Options of {@link boundedJson}. */
interface BoundedJsonOptions {
  readonly clock: Clock;
  readonly maxBytes?: number;
  readonly deadlineMs?: number;
  /** Accepts a request without a body as an empty object. */
  readonly optional?: boolean;
}

type Bounds = Required<Omit<BoundedJsonOptions, "optional">>;

/** Why reading a body failed. */
type BodyFailure = "broken" | "late" | "large";

/** Reads a body of at most `maxBytes`, whatever its Content-Length, within `deadlineMs`. */
async function readBounded(
  request: Request,
  { clock, maxBytes, deadlineMs }: Bounds,
): Promise<Uint8Array<ArrayBuffer> | BodyFailure> {
  if (Number(request.headers.get("content-length") ?? 0) > maxBytes) return "large";
  if (request.body === null) return new Uint8Array(0);
  const reader = request.body.getReader();
  const late = Promise.withResolvers<BodyFailure>();
  const timer = clock.after(deadlineMs, () => late.resolve("late"));
  const whole = readAtMost(reader, maxBytes).then((body) => body ?? "large" as const);
  const read = await Promise.race([late.promise, whole]).catch(() => "broken" as const);
  timer.cancel();
  // Not awaited: a client that sends too much or too slowly may also be slow to receive the cancellation.
  if (typeof read === "string") reader.cancel().catch(() => {});
  return read;
}

/** The problem of a body that wasn't read completely. */
function bodyProblem(failure: BodyFailure, { maxBytes, deadlineMs }: Bounds): Problem {
  if (failure === "broken") {
    const detail = "ended before it was complete";
    return new Problem(400, `Cannot read body: it ${detail}`, { errors: [bodyFault([], detail)] });
  }
  const detail = failure === "large"
    ? `must have at most ${maxBytes} bytes`
    : `must be complete within ${deadlineMs / 1000} s`;
  return new Problem(failure === "large" ? 413 : 408, `Cannot read body: it ${detail}`, {
    errors: [{ member: "body", detail }],
    // RFC 9110 §15.5.9. Bun closes the connection itself, Deno leaves that to the client.
    headers: failure === "late" ? { Connection: "close" } : {},
  });
}

/**
 * Accepts JSON of a bounded size: 415 for another type, 413 for a larger body, 408 for one that isn't complete in time,
 * 400 for invalid JSON.
 */
export function boundedJson(options: BoundedJsonOptions): MiddlewareHandler<MasterEnv> {
  const bounds = { maxBytes: MASTER_BODY_MAX_BYTES, deadlineMs: MASTER_BODY_DEADLINE_MS, ...options };
  return async (c, next) => {
    const type = c.req.header("content-type");
    if (
      options.optional === true && type === undefined &&
      (c.req.raw.body === null || c.req.header("content-length") === "0")
    ) {
      c.req.raw = withBody(c.req.raw, new TextEncoder().encode("{}"));
      return await next();
    }
    if (type === undefined || !/^application\/json *(;|$)/i.test(type)) {
      throw new Problem(415, "Cannot read body: its Content-Type must be application/json", {
        errors: [{
          member: "Content-Type",
          detail: type === undefined ? "is missing" : "is not application/json",
        }],
      });
    }
    const body = await readBounded(c.req.raw, bounds);
    if (typeof body === "string") throw bodyProblem(body, bounds);
    try {
      JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
    } catch {
      // The parser's message differs by runtime and repeats the input.
      const detail = body.length === 0 ? "is empty" : "isn't JSON in UTF-8";
      throw new Problem(400, `Cannot read body: it ${detail}`, { errors: [bodyFault([], detail)] });
    }
    // The next step, the schema's validator, reads the body again.
    c.req.raw = withBody(c.req.raw, body);
    await next();
  };
}

/** Reads the fields of a form of bounded size: 415, 413, 408 and 400 as for {@link boundedJson}. */
export async function boundedForm(request: Request, clock: Clock): Promise<URLSearchParams> {
  const bounds = { clock, maxBytes: MASTER_BODY_MAX_BYTES, deadlineMs: MASTER_BODY_DEADLINE_MS };
  if (!/^application\/x-www-form-urlencoded *(;|$)/i.test(request.headers.get("content-type") ?? "")) {
    throw new Problem(415, "Cannot read body: its Content-Type must be application/x-www-form-urlencoded");
  }
  const body = await readBounded(request, bounds);
  if (typeof body === "string") throw bodyProblem(body, bounds);
  return new URLSearchParams(new TextDecoder().decode(body));
}

function withBody(request: Request, body: Uint8Array<ArrayBuffer>): Request {
  const headers = new Headers(request.headers);
  headers.set("content-type", "application/json");
  headers.delete("content-length");
  return new Request(request.url, { method: request.method, headers, body });
}
