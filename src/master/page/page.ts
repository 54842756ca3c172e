/**
 * The management page at `/`: HTML around {@link Management}, for people. Programs use the API under `/v1/`.
 *
 * Every answer forbids the browser all but our own script, style and forms. Every form needs a login, the login's token,
 * and an Origin that is the page's own.
 *
 * @module
 */
import type { Context, Handler, Hono } from "hono";
import { deleteCookie, getCookie, setCookie } from "hono/cookie";
import type { Clock } from "../../runtime/port.ts";
import type { Logger } from "../../telemetry/log.ts";
import { dayOf } from "../../wire/control/control_messages.ts";
import { formatJoinLink } from "../../wire/token/join_link.ts";
import { actorOf } from "../api/parts.ts";
import { AgentCreateSchema, PAGE_MAX } from "../api/schemas.ts";
import type { Credentials } from "../credentials.ts";
import type { MasterEnv } from "../env.ts";
import { allowsScope, boundedForm, type FailureGuard } from "../guards.ts";
import type { Actor, IssuedJoin, Management } from "../management.ts";
import { type Agent, ALL_TENANTS } from "../model.ts";
import { Problem, schemaProblem } from "../problem.ts";
import type { IssueLimit } from "../rate_limits.ts";
import { PAGE_SESSION_MS, PageSessions, sameText } from "./page_sessions.ts";
import { SCRIPT } from "./script.ts";
import { STYLE } from "./style.ts";
import * as views from "./views.ts";

/** What browsers may do with an answer of the page. */
export const PAGE_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "form-action 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
].join("; ");

/** The page's paths beside `/`. */
export const PAGE_ROUTES = [
  ...["agents", "agents/{id}", "sessions", "usage", "audit", "live", "style.css", "script.js"]
    .map((path) => ({ method: "get", path: `/page/${path}` })),
  ...[
    ...["login", "logout", "agents", "sessions/close"],
    ...["suspend", "resume", "rotate", "remove"].map((verb) => `agents/{id}/${verb}`),
  ].map((path) => ({ method: "post", path: `/page/${path}` })),
];

const PAGE_LIMIT = 50;
const USAGE_DAYS = 30;
const USAGE_ROWS_MAX = 500;
const DAY_MS = 24 * 3_600_000;
const KEY_MAX_LENGTH = 4096;

/** What {@link addPage} works with. */
interface PageParts {
  readonly management: Management;
  readonly clock: Clock;
  readonly credentials: Credentials;
  readonly failures: FailureGuard;
  /** Counts requests by credential. */
  readonly calls: IssueLimit;
  readonly log: Logger;
}

type C = Context<MasterEnv>;

/** A request of somebody who is logged in. */
interface Visit {
  readonly c: C;
  readonly actor: Actor;
  readonly viewer: views.Viewer;
}

/** Adds the page; gives way at `/` to clients that don't accept HTML. */
export function addPage(app: Hono<MasterEnv>, parts: PageParts): void {
  const { management, clock, credentials, failures, calls, log } = parts;
  const { store } = management;
  const sessions = new PageSessions(credentials, clock);

  /** Answers with the page's headers; problems too are HTML. */
  const page = (work: (c: C) => Promise<Response> | Response): Handler<MasterEnv> => async (c) => {
    try {
      return withPolicy(await work(c));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const answer = withPolicy(await c.html(views.errorView(error.message), error.status));
      for (const [name, value] of Object.entries(error.headers)) answer.headers.set(name, value);
      return answer;
    }
  };

  /** The visit of somebody who is logged in; undefined for anybody else. */
  const visitOf = async (c: C): Promise<Visit | undefined> => {
    const session = await sessions.find(getCookie(c, cookieName(c)), c.req);
    if (session === undefined) return undefined;
    const { credential, token } = session;
    const waitS = await calls.take(credential.id);
    if (waitS > 0) {
      throw new Problem(429, `Cannot answer: too many requests by this credential, wait ${waitS} s`, {
        headers: { "Retry-After": String(waitS) },
      });
    }
    c.set("credential", credential);
    const mayChange = allowsScope(credential.scopes ?? [], "admin");
    return { c, actor: actorOf(c), viewer: { name: credential.id, mayChange, token } };
  };

  const shows = (path: string, show: (visit: Visit) => Promise<views.Html>) => {
    app.get(
      path,
      page(async (c) => {
        const visit = await visitOf(c);
        return visit === undefined ? c.redirect("/", 303) : c.html(await show(visit));
      }),
    );
  };

  const changes = (
    path: string,
    change: (visit: Visit, form: URLSearchParams) => Promise<Response>,
    scope: "admin" | "none" = "admin",
  ) => {
    app.post(
      path,
      page(async (c) => {
        refuseOtherOrigin(c);
        const visit = await visitOf(c);
        if (visit === undefined) return c.html(views.loginView("Your login has ended; log in again."), 401);
        const form = await boundedForm(c.req.raw, clock);
        if (!sameText(form.get("token") ?? "", visit.viewer.token)) {
          throw new Problem(403, "Cannot do this: the form is not of this login; load the page again");
        }
        if (scope === "admin" && !visit.viewer.mayChange) {
          throw new Problem(403, `Cannot do this: ${visit.viewer.name} doesn't have the scope admin`);
        }
        return await change(visit, form);
      }),
    );
  };

  const live = async ({ actor }: Visit) =>
    views.liveView(
      await management.agents(actor, { limit: PAGE_MAX }),
      await store.sessions({ limit: PAGE_MAX, ...ofTenant(actor) }),
    );

  app.get("/", async (c, next) => {
    // The index below answers programs.
    if (!/\btext\/html\b/i.test(c.req.header("accept") ?? "")) {
      await next();
      c.header("Vary", "Accept");
      return;
    }
    const answer = page(async () => {
      const visit = await visitOf(c);
      return visit === undefined
        ? c.html(views.loginView())
        : c.html(views.overviewView(visit.viewer, await live(visit)));
    });
    const answered = await answer(c, next) as Response;
    answered.headers.set("Vary", "Accept");
    return answered;
  });
  app.get(
    "/page/live",
    page(async (c) => {
      const visit = await visitOf(c);
      return visit === undefined ? c.text("", 401) : c.html(await live(visit));
    }),
  );
  app.get("/page/style.css", page((c) => c.body(STYLE, 200, { "Content-Type": "text/css; charset=utf-8" })));
  app.get(
    "/page/script.js",
    page((c) => c.body(SCRIPT, 200, { "Content-Type": "text/javascript; charset=utf-8" })),
  );

  app.post(
    "/page/login",
    page(async (c) => {
      refuseOtherOrigin(c);
      await failures.check(c);
      const key = ((await boundedForm(c.req.raw, clock)).get("key") ?? "").trim();
      const credential = key === "" || key.length > KEY_MAX_LENGTH
        ? undefined
        : await credentials.find(key, c.req);
      if (credential === undefined) {
        await failures.count(c);
        log.warn(
          { remote: failures.remoteOf(c), reason: "credential_refused", path: c.req.path },
          "login refused: unknown credential",
        );
        return c.html(views.loginView("This key is not known."), 401);
      }
      if (!allowsScope(credential.scopes ?? [], "read")) {
        return c.html(views.loginView("This key doesn't have the scope read."), 403);
      }
      setCookie(c, cookieName(c), sessions.open(key), {
        ...cookieOptions(c),
        maxAge: PAGE_SESSION_MS / 1000,
      });
      log.info({ client: credential.id, remote: failures.remoteOf(c) }, "login at the page");
      return c.redirect("/", 303);
    }),
  );
  changes("/page/logout", ({ c }) => {
    sessions.close(getCookie(c, cookieName(c)) ?? "");
    deleteCookie(c, cookieName(c), cookieOptions(c));
    return Promise.resolve(c.redirect("/", 303));
  }, "none");

  const started = ({ c, viewer }: Visit, agent: Agent, join: IssuedJoin) => {
    const link = formatJoinLink({ master: originOf(c), code: join.code }).replaceAll("'", "%27");
    const command = `sallyport agent --join '${link}' --to 127.0.0.1:443`;
    return c.html(views.startView(viewer, agent, command, join.expiresAtMs));
  };
  shows("/page/agents", async ({ c, actor, viewer }) => {
    const search = c.req.query("search")?.slice(0, 255) ?? "";
    const state = (["active", "suspended"] as const).find((known) => known === c.req.query("state"));
    const agents = await management.agents(actor, {
      ...pageOf(c),
      ...search === "" ? {} : { search },
      ...state === undefined ? {} : { state },
    });
    return views.agentsView(viewer, agents, { search, ...state && { state } });
  });
  changes("/page/agents", async (visit, fields) => {
    const { c, actor, viewer } = visit;
    const field = (name: string) => (fields.get(name) ?? "").trim();
    const form = { name: field("name"), hostnames: field("hostnames"), notes: field("notes") };
    try {
      const wanted = AgentCreateSchema.safeParse({
        ...form,
        hostnames: form.hostnames.split(/[\s,]+/).filter((name) => name !== ""),
      });
      if (!wanted.success) throw schemaProblem("Cannot add agent", wanted.error);
      const { name, hostnames, notes, join_ttl_seconds } = wanted.data;
      const { agent, join } = await management.addAgent(
        actor,
        { name, hostnames, ...notes === undefined ? {} : { notes } },
        join_ttl_seconds,
      );
      return started(visit, agent, join);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const agents = await management.agents(actor, { limit: PAGE_LIMIT });
      return c.html(views.agentsView(viewer, agents, { form, wrong: error.message }), error.status);
    }
  });
  shows("/page/agents/:id", async ({ c, actor, viewer }) => {
    const agent = await management.agent(actor, c.req.param("id") ?? "");
    return views.agentView(viewer, agent, await store.sessions({ agent: agent.id, limit: PAGE_LIMIT }));
  });
  for (const verb of ["suspend", "resume"] as const) {
    changes(`/page/agents/:id/${verb}`, async ({ c, actor }) => {
      const { id } = await management[verb](actor, c.req.param("id") ?? "");
      return c.redirect(`/page/agents/${encodeURIComponent(id)}`, 303);
    });
  }
  changes("/page/agents/:id/rotate", async (visit) => {
    const { agent, join } = await management.rotate(visit.actor, visit.c.req.param("id") ?? "");
    return started(visit, agent, join);
  });
  changes("/page/agents/:id/remove", async ({ c, actor }) => {
    await management.removeAgent(actor, c.req.param("id") ?? "");
    return c.redirect("/page/agents", 303);
  });

  shows(
    "/page/sessions",
    async ({ c, actor, viewer }) =>
      views.sessionsView(viewer, await store.sessions({ ...pageOf(c), ...ofTenant(actor) })),
  );
  changes("/page/sessions/close", async ({ c, actor }, form) => {
    await management.closeSession(actor, form.get("id") ?? "");
    return c.redirect("/page/sessions", 303);
  });
  shows("/page/usage", async ({ c, actor, viewer }) => {
    const nowMs = clock.wallMs();
    const name = c.req.query("agent");
    const agent = name === undefined ? {} : { agent: (await management.agent(actor, name)).id };
    const days = { from: dayOf(nowMs - USAGE_DAYS * DAY_MS), to: dayOf(nowMs) };
    const rows = await store.usage({ ...days, ...ofTenant(actor), ...agent });
    return views.usageView(viewer, rows, USAGE_ROWS_MAX);
  });
  shows("/page/audit", async ({ c, actor, viewer }) => {
    const subject = c.req.query("subject")?.slice(0, 300) ?? "";
    const query = { ...pageOf(c), ...ofTenant(actor), ...subject === "" ? {} : { subject } };
    return views.auditView(viewer, await store.audit(query), subject);
  });
}

/** Gives an answer what every answer of the page has. */
function withPolicy(answer: Response): Response {
  answer.headers.set("Content-Security-Policy", PAGE_POLICY);
  // Not "no-referrer": with it browsers send forms with the Origin null.
  answer.headers.set("Referrer-Policy", "same-origin");
  answer.headers.set("Cross-Origin-Opener-Policy", "same-origin");
  answer.headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return answer;
}

/** Throws 403 for a form that another site has sent. */
function refuseOtherOrigin(c: C): void {
  const origin = c.req.header("origin") ?? "";
  const site = c.req.header("sec-fetch-site");
  // The scheme isn't compared: a proxy may have ended TLS.
  const isOwn = URL.canParse(origin) && new URL(origin).host === new URL(c.req.url).host;
  if (isOwn && (site === undefined || site === "same-origin")) return;
  throw new Problem(
    403,
    "Cannot do this: the form comes from another site; a proxy must pass the Host header on unchanged",
  );
}

/** Whether the browser came by TLS. A header that lies about it hurts only the login of whoever sends it. */
function isSecure(c: C): boolean {
  return new URL(c.req.url).protocol === "https:" || c.req.header("x-forwarded-proto") === "https";
}

function originOf(c: C): string {
  return `${isSecure(c) ? "https" : "http"}://${new URL(c.req.url).host}`;
}

/** With TLS the name keeps other hosts of the domain from setting the cookie (RFC 6265bis, `__Host-`). */
function cookieName(c: C): string {
  return isSecure(c) ? "__Host-sallyport" : "sallyport";
}

function cookieOptions(c: C) {
  return { path: "/", httpOnly: true, sameSite: "Strict", secure: isSecure(c) } as const;
}

function ofTenant({ tenant }: Actor): { readonly tenant?: string } {
  return tenant === ALL_TENANTS ? {} : { tenant };
}

function pageOf(c: C): { readonly limit: number; readonly cursor?: string } {
  const cursor = c.req.query("cursor")?.slice(0, 2_048);
  return { limit: PAGE_LIMIT, ...cursor === undefined ? {} : { cursor } };
}
