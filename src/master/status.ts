/**
 * How a process is, over HTTP: health, readiness and metrics. The session master has these endpoints beside its own; an
 * edge or an agent alone serves nothing else.
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

/** What GET /readyz answers with. */
export interface Readiness {
  /** Whether all is there. */
  readonly ok: boolean;
  /** Each thing that must be there: true, false, or what is wrong in words. */
  readonly checks: Readonly<Record<string, boolean | string>>;
}

/** What {@link addStatusRoutes} takes. */
export interface StatusRoutesOptions {
  /** What GET /metrics shows. */
  readonly metrics: Metrics;
  /** Asked for GET /readyz; always ready when absent. */
  readonly ready?: () => Readiness;
}

/** What {@link createStatusApp} takes. */
export interface StatusOptions extends StatusRoutesOptions {
  /** Time, of the runtime for example. */
  readonly clock: Clock;
  /** Where it logs; nowhere when absent. */
  readonly log?: Logger;
}

/** What {@link createBaseApp} takes. */
interface BaseAppOptions {
  readonly clock: Clock;
  readonly log: Logger;
  /** Counts faults of this program. */
  readonly metrics: Metrics;
  /** What a 404 says behind "Cannot find this path; ". */
  readonly elsewhere: string;
  /** Hears of each answer. */
  answered?(route: string, status: number): void;
  /** The endpoint that a path belongs to, for traces and metrics; the path itself when absent. */
  routeOf?(path: string): string;
  /** Where the spans of requests go. */
  readonly tracer?: Tracer;
  /** What a body that doesn't fit its schema is answered with. */
  readonly defaultHook?: NonNullable<ConstructorParameters<typeof OpenAPIHono<MasterEnv>>[0]>["defaultHook"];
}

/** A request id of a client's or a proxy's that is taken over into logs. */
const REQUEST_ID = /^[\w.-]{8,64}$/;

/** The endpoints of {@link addStatusRoutes}. */
export const STATUS_ROUTES = [routes.healthRoute, routes.readyRoute, routes.metricsRoute] as const;

/** Any thrown value as the problem to answer with; what nobody expected is logged, and told to the client by number only. */
function problemOf(error: unknown, sink: FaultSink, requestId: string | undefined): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof SallyportError && error.code === "io_failed") {
    sink.log.error({ error, request_id: requestId }, "request failed");
    return new Problem(503, "Cannot answer: the database can't be used now", {
      headers: { "Retry-After": "1" },
    });
  }
  if (error instanceof HTTPException && error.status in PROBLEM_TITLES && error.status !== 500) {
    return new Problem(error.status as ProblemStatus, error.message);
  }
  const instance = `urn:uuid:${randomUUID()}`;
  const fault = error instanceof InternalError ? error : new InternalError("http_request", error);
  reportFault(fault, sink, { instance, request_id: requestId });
  return new Problem(500, "Cannot answer: something is broken here", { instance });
}

/** An app without endpoints: errors as problem details, headers that every answer has, a log line for each request. */
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
      // Hono hands only instances of Error to onError.
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
    // Probes and scrapes come all the time; what changes something is worth a line.
    if (path.startsWith("/v1/")) log.info(fields, "request");
    else log.debug(fields, "request");
  });
  return app;
}

/** Adds the endpoints of {@link STATUS_ROUTES}. */
export function addStatusRoutes(app: OpenAPIHono<MasterEnv>, options: StatusRoutesOptions): void {
  const { metrics, ready } = options;
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
}

/** Adds, behind all other handlers, what answers the methods that endpoints don't take: OPTIONS, and 405. */
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
      throw new Problem(405, `Cannot ${c.req.method} this path; it takes ${allow}`, {
        headers: { Allow: allow },
      });
    });
  }
}

/**
 * Makes an app with `GET /healthz`, `GET /readyz` and `GET /metrics` and nothing else. Serve `app.fetch(request)`.
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
