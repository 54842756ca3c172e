/**
 * The status of a process over HTTP: health, readiness and metrics. The session master has these endpoints besides its
 * own; an edge or an agent by itself serves nothing else.
 *
 * @module
 */

import { randomUUID } from "node:crypto";
import { OpenAPIHono } from "@hono/zod-openapi";
import type { Context } from "hono";
import { HTTPException } from "hono/http-exception";
import { InternalError, SallyportError } from "../errors.ts";
import type { Clock } from "../runtime/port.ts";
import { type FaultSink, reportFault } from "../telemetry/faults.ts";
import { type Logger, silentLogger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { noTracer, type Tracer } from "../telemetry/tracing.ts";
import type { MasterEnv } from "./env.ts";
import { Problem, PROBLEM_TITLES, type ProblemStatus } from "./problem.ts";
import * as routes from "./routes.ts";

/** The response of GET /readyz. */
export interface Readiness {
  /** Whether the process is ready. */
  readonly ok: boolean;
  /** The result of each check: true, false, or a description of the problem. */
  readonly checks: Readonly<Record<string, boolean | string>>;
}

/** Options of {@link addStatusRoutes}. */
export interface StatusRoutesOptions {
  /** Metrics served at GET /metrics. */
  readonly metrics: Metrics;
  /** Readiness for GET /readyz. Defaults to always ready. */
  readonly ready?: () => Readiness | Promise<Readiness>;
}

/** Options of {@link createStatusApp}. */
export interface StatusOptions extends StatusRoutesOptions {
  /** Clock, for example the runtime's. */
  readonly clock: Clock;
  /** Logger. Defaults to no logging. */
  readonly log?: Logger;
}

/** Options of {@link createBaseApp}. */
interface BaseAppOptions {
  readonly clock: Clock;
  readonly log: Logger;
  /** Counts faults of this program. */
  readonly metrics: Metrics;
  /** The text of a 404 after "Cannot find this path; ". */
  readonly elsewhere: string;
  /** Called for each response. */
  answered?(route: string, status: number): void;
  /** The endpoint of a path, for traces and metrics. Defaults to the path itself. */
  routeOf?(path: string): string;
  /** Tracer for requests. */
  readonly tracer?: Tracer;
  /** The response to a body that doesn't match its schema. */
  readonly defaultHook?: NonNullable<ConstructorParameters<typeof OpenAPIHono<MasterEnv>>[0]>["defaultHook"];
}

/** A request id from a client or proxy that is adopted in logs. */
const REQUEST_ID = /^[\w.-]{8,64}$/;

/** The endpoints of {@link addStatusRoutes}. */
export const STATUS_ROUTES = [routes.healthRoute, routes.readyRoute, routes.metricsRoute] as const;

/** Converts any thrown value to a problem; unexpected ones are logged, and the client gets only the request id. */
function problemOf(error: unknown, sink: FaultSink, requestId: string | undefined): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof SallyportError && error.code === "io_failed") {
    sink.log.error({ error, request_id: requestId }, "request failed");
    return new Problem(503, "Cannot answer: the database is unavailable", {
      headers: { "Retry-After": "1" },
    });
  }
  if (error instanceof HTTPException && error.status in PROBLEM_TITLES && error.status !== 500) {
    return new Problem(error.status as ProblemStatus, error.message);
  }
  const instance = `urn:uuid:${randomUUID()}`;
  const fault = error instanceof InternalError ? error : new InternalError("http_request", error);
  reportFault(fault, sink, { instance, request_id: requestId });
  return new Problem(500, "Cannot answer: internal error", { instance });
}

/** An app without endpoints: errors as problem details, common response headers, a log line for each request. */
export function createBaseApp(options: BaseAppOptions): OpenAPIHono<MasterEnv> {
  const { clock, log, metrics, defaultHook, tracer = noTracer, routeOf = (path) => path } = options;
  const app = new OpenAPIHono<MasterEnv>({ defaultHook });
  const answer = (error: unknown, requestId: string | undefined) =>
    problemOf(error, { log, metrics }, requestId).response(requestId);
  app.onError((error, c) => answer(error, c.get("requestId")));
  app.notFound((c) =>
    new Problem(404, `Cannot find this path; ${options.elsewhere}`).response(c.get("requestId"))
  );
  app.use("*", async (c, next) => {
    const startedMs = clock.nowMs();
    const given = c.req.header("x-request-id");
    const requestId = given !== undefined && REQUEST_ID.test(given) ? given : randomUUID();
    c.set("requestId", requestId);
    const { method, path } = c.req;
    const route = routeOf(path);
    const span = tracer.start(`${method} ${route}`, "server", {
      "http.request.method": method,
      "http.route": route,
      "url.path": path,
      "sallyport.request_id": requestId,
    }, c.req.header("traceparent"));
    try {
      await next();
    } catch (error) {
      // Hono passes only instances of Error to onError.
      c.res = answer(error, requestId);
    }
    if (!c.res.headers.has("Cache-Control")) c.header("Cache-Control", "no-store");
    c.header("X-Request-Id", requestId);
    c.header("X-Content-Type-Options", "nosniff");
    const { status } = c.res;
    options.answered?.(route, status);
    span.end({ "http.response.status_code": status }, status >= 500 ? `status ${status}` : undefined);
    const fields = {
      method,
      path,
      status,
      request_id: requestId,
      ...span.traceId === undefined ? {} : { trace_id: span.traceId },
      duration_ms: Math.round((clock.nowMs() - startedMs) * 10) / 10,
    };
    // Probes and scrapes are frequent; only changes are worth a log line.
    if (path.startsWith("/v1/")) log.info(fields, "request");
    else log.debug(fields, "request");
  });
  return app;
}

/** Adds the endpoints of {@link STATUS_ROUTES}. */
export function addStatusRoutes(app: OpenAPIHono<MasterEnv>, options: StatusRoutesOptions): void {
  const { metrics, ready } = options;
  app.openapi(routes.healthRoute, (c) => c.json({ status: "ok" } as const, 200));
  app.openapi(routes.readyRoute, async (c) => {
    const { ok, checks } = await ready?.() ?? { ok: true, checks: {} };
    return ok
      ? c.json({ status: "ready", checks: { ...checks } } as const, 200)
      : c.json({ status: "not ready", checks: { ...checks } } as const, 503);
  });
  app.openapi(routes.metricsRoute, async (c) => {
    return c.body(await metrics.render(), 200, { "Content-Type": metrics.contentType }) as never;
  });
}

/** Adds, after all other handlers, the responses to methods that endpoints don't accept: OPTIONS, and 405. */
export function addOtherMethods(
  app: OpenAPIHono<MasterEnv>,
  endpoints: readonly { readonly method: string; readonly path: string }[],
): void {
  const methods = new Map<string, string[]>();
  for (const { method, path } of endpoints) {
    const own = method === "get" ? ["GET", "HEAD"] : [method.toUpperCase()];
    const routing = path.replaceAll(/\{(\w+)\}/g, ":$1");
    methods.set(routing, [...methods.get(routing) ?? [], ...own]);
  }
  for (const [path, own] of methods) {
    const allow = [...own, "OPTIONS"].join(", ");
    app.options(path, (c) => c.body(null, 204, { Allow: allow }));
    app.all(path, (c: Context) => {
      throw new Problem(405, `Cannot ${c.req.method} this path; it allows ${allow}`, {
        headers: { Allow: allow },
      });
    });
  }
}

/**
 * Creates an app with `GET /healthz`, `GET /readyz` and `GET /metrics` and nothing else. Serve `app.fetch(request)`.
 */
export function createStatusApp(options: StatusOptions): OpenAPIHono<MasterEnv> {
  const { clock } = options;
  const paths = STATUS_ROUTES.map((route) => route.path).join(", ");
  const { metrics, log = silentLogger } = options;
  const app = createBaseApp({ ...{ clock, log, metrics }, elsewhere: `there are ${paths}` });
  addStatusRoutes(app, options);
  addOtherMethods(app, STATUS_ROUTES);
  return app;
}
