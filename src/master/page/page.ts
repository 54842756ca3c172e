/**
 * The management page at `/`: HTML around {@link Management}, for people. Programs use the API under `/v1/`.
 *
 * The policy of every response allows the browser only our own scripts, styles and forms. Every form requires a login,
 * the login's token, and an Origin equal to the page's.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Context, Handler, Hono } from "hono";
import { deleteCookie, getCookie, setCookie } from "hono/cookie";
import { encodeQR } from "qr";
import { errorMessage } from "../../errors.ts";
import { isLocalProvider } from "../../oidc/provider.ts";
import { SignIn } from "../../oidc/sign_in.ts";
import type { Clock } from "../../runtime/port.ts";
import type { Logger } from "../../telemetry/log.ts";
import { dayOf } from "../../wire/control/control_messages.ts";
import { formatJoinLink } from "../../wire/token/join_link.ts";
import { changeOf } from "../api/agents.ts";
import { ofTenant } from "../actor.ts";
import { actorOf } from "../api/parts.ts";
import { usageCsv, usageDays } from "../api/records.ts";
import { AgentChangeSchema, AgentCreateSchema, ApiKeyCreateSchema } from "../api/schemas.ts";
import { WebhookCreateSchema } from "../api/webhooks.ts";
import type { Credential, Credentials } from "../credentials.ts";
import type { MasterEnv } from "../env.ts";
import { allowsScope, boundedForm, countRequest, type FailureGuard } from "../guards.ts";
import type { Actor, IssuedJoin, Management } from "../management.ts";
import { type Agent, ALL_TENANTS, DELIVERY_STATES } from "../model.ts";
import { claimsCredential, type OidcGrant } from "../oidc.ts";
import { Problem, PROBLEM_TYPE, schemaProblem } from "../problem.ts";
import type { IssueLimit } from "../rate_limits.ts";
import { ASSETS } from "./assets.ts";
import { agentPath, webhookPath } from "./format.ts";
import { agentBody } from "./forms.ts";
import type { Html, Viewer } from "./layout.tsx";
import { LiveFeeds } from "./live.ts";
import { PAGE_SESSION_MS, PageSessions, sameText } from "./page_sessions.ts";
import { AgentFormView, fieldsOf } from "./views/agent_form.tsx";
import { AgentsView, AgentView, StartView } from "./views/agents.tsx";
import { AuditView } from "./views/audit.tsx";
import { KeysView } from "./views/keys.tsx";
import { ErrorView, LoginView, WelcomeView } from "./views/login.tsx";
import { OverviewView } from "./views/overview.tsx";
import { SessionsView } from "./views/sessions.tsx";
import { UsageView } from "./views/usage.tsx";
import { type WebhookFields, WebhooksView, WebhookView } from "./views/webhooks.tsx";

/** The content security policy of the page's responses. */
export const PAGE_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self'",
  "form-action 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");

/** The page's paths besides `/`. */
export const PAGE_ROUTES = [
  ...[
    ...[
      "agents",
      "agents/new",
      "agents/{id}",
      "agents/{id}/edit",
      "sessions",
      "usage",
      "usage.csv",
      "audit",
      "keys",
      "webhooks",
      "webhooks/{id}",
    ],
    ...["login/provider", "login/callback", "events", ...Object.keys(ASSETS)],
  ].map((path) => ({ method: "get", path: `/page/${path}` })),
  ...[
    ...["login", "logout", "agents/new", "sessions/close"],
    ...["edit", "suspend", "resume", "rotate", "remove", "close"].map((verb) => `agents/{id}/${verb}`),
    ...["api", "api/remove", "fernet", "fernet/retire"].map((verb) => `keys/${verb}`),
    ...["webhooks", "webhooks/{id}/test", "webhooks/{id}/remove"],
  ].map((path) => ({ method: "post", path: `/page/${path}` })),
];

/** Time limit for a login at the identity provider. */
const PENDING_S = 600;
const PENDING_COOKIE = "sallyport-login";
const PAGE_LIMIT = 50;
/** Maximum number of sessions on the overview. */
const OVERVIEW_SESSIONS = 20;
/** Maximum number of messages in the list of webhooks. */
const RECENT_DELIVERIES = 10;
const USAGE_DAYS = 30;
const DAY_MS = 24 * 3_600_000;
const KEY_MAX_LENGTH = 4096;
/** The target in a start command, for the reader to replace. */
const START_TARGET = "http://127.0.0.1:3000";

/** Dependencies of {@link addPage}. */
interface PageParts {
  readonly management: Management;
  readonly clock: Clock;
  readonly credentials: Credentials;
  readonly failures: FailureGuard;
  /** Counts requests by credential. */
  readonly calls: IssueLimit;
  readonly log: Logger;
  /** An identity provider for logins. */
  readonly provider?: PageProvider | undefined;
}

/** See {@link PageParts.provider}. */
export interface PageProvider {
  readonly issuer: string;
  /** The session master's client id at the provider. */
  readonly clientId: string;
  /** The session master's client secret; absent for a public client. */
  readonly clientSecret?: string;
  /** Scopes requested from the provider besides `openid`. Defaults to `profile` and `email`. */
  readonly loginScopes?: readonly string[];
  /** Scopes by claim, besides those in `sallyport_scopes`. */
  readonly grants?: readonly OidcGrant[];
}

type C = Context<MasterEnv>;

/** A request with a login. */
interface Visit {
  readonly c: C;
  readonly actor: Actor;
  readonly viewer: Viewer;
}

/** Adds the page; passes requests for `/` that don't accept HTML to the next handler. */
export function addPage(app: Hono<MasterEnv>, parts: PageParts): void {
  const { management, clock, credentials, failures, calls, log, provider } = parts;
  const { store, hub } = management;
  const issuer = provider && new URL(provider.issuer);
  const signIn = provider && new SignIn({ ...provider, clock, insecure: isLocalProvider(provider.issuer) });
  const login = (wrong?: string) =>
    LoginView({ provider: issuer?.hostname, ...wrong === undefined ? {} : { wrong } });
  const sessions = new PageSessions(credentials, clock);
  const feeds = new LiveFeeds({ store, clock, closing: hub.closing });

  /** Responds with the page's headers; problems are HTML as well. */
  const page = (work: (c: C) => Promise<Response> | Response): Handler<MasterEnv> => async (c) => {
    try {
      return withPolicy(await work(c));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const view = ErrorView({ detail: error.message, requestId: c.get("requestId") });
      const answer = withPolicy(await c.html(view, error.status));
      for (const [name, value] of Object.entries(error.headers)) answer.headers.set(name, value);
      return answer;
    }
  };

  /** The visit of a logged-in user; undefined for anyone else. */
  const visitOf = async (c: C): Promise<Visit | undefined> => {
    const session = await sessions.find(getCookie(c, cookieName(c)), c.req);
    if (session === undefined) return undefined;
    const { credential, token } = session;
    await countRequest(calls, credential);
    c.set("credential", credential);
    const actor = actorOf(c);
    const mayChange = allowsScope(credential.scopes ?? [], "admin");
    const allTenants = actor.tenant === ALL_TENANTS;
    return { c, actor, viewer: { name: credential.id, mayChange, allTenants, token } };
  };

  /** A path that requires a login; others are redirected to the login. */
  const answers = (path: string, answer: (visit: Visit) => Promise<Response> | Response) => {
    app.get(
      path,
      page(async (c) => {
        const visit = await visitOf(c);
        return visit === undefined ? c.redirect("/", 303) : await answer(visit);
      }),
    );
  };
  const shows = (path: string, show: (visit: Visit) => Promise<Html>) =>
    answers(path, async (visit) => visit.c.html(await show(visit)));

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
        if (visit === undefined) {
          return await c.html(login("Your login has ended; log in again."), 401);
        }
        const form = await boundedForm(c.req.raw, clock);
        if (!sameText(form.get("token") ?? "", visit.viewer.token)) {
          throw new Problem(403, "Cannot do this: the form belongs to another login; reload the page");
        }
        if (scope === "admin") refuseReaders(visit.viewer);
        return await change(visit, form);
      }),
    );
  };

  const overview = async ({ actor, viewer }: Visit) => {
    const nowMs = clock.wallMs();
    const totals = await store.totals({ from: dayOf(nowMs), ...ofTenant(actor) });
    const live = await store.sessions({ limit: OVERVIEW_SESSIONS, ...ofTenant(actor) });
    return OverviewView({ viewer, totals, sessions: live.items, nowMs });
  };

  app.get("/", async (c, next) => {
    // Programs get the index below.
    if (!/\btext\/html\b/i.test(c.req.header("accept") ?? "")) {
      await next();
      c.header("Vary", "Accept");
      return;
    }
    const answer = page(async () => {
      const visit = await visitOf(c);
      return await c.html(visit === undefined ? login() : await overview(visit));
    });
    const answered = await answer(c, next) as Response;
    answered.headers.set("Vary", "Accept");
    return answered;
  });
  app.get(
    "/page/events",
    page(async (c) => {
      const visit = await visitOf(c);
      if (visit === undefined) return c.text("", 401);
      return c.body(feeds.open(ofTenant(visit.actor).tenant), 200, {
        "Content-Type": "text/event-stream; charset=utf-8",
        "X-Accel-Buffering": "no",
      });
    }),
  );
  app.get("/page/*", async (c, next) => {
    await next();
    // A 404 is rendered as a page.
    if (c.res.status !== 404 || c.req.header("accept")?.includes("text/html") !== true) return;
    if (c.res.headers.get("content-type") !== PROBLEM_TYPE) return;
    const view = ErrorView({ detail: "There is no such page.", requestId: c.get("requestId") });
    c.res = withPolicy(await c.html(view, 404));
  });
  for (const [name, { type, text }] of Object.entries(ASSETS)) {
    const etag = `"${createHash("sha256").update(text).digest("base64url").slice(0, 16)}"`;
    // Browsers cache it, and revalidate each time.
    const kept = { ETag: etag, "Cache-Control": "no-cache" };
    app.get(
      `/page/${name}`,
      page((c) =>
        c.req.header("if-none-match") === etag
          ? c.body(null, 304, kept)
          : c.body(text, 200, { ...kept, "Content-Type": type })
      ),
    );
  }

  const opened = (c: C, credential: Credential, secret: string) => {
    setCookie(c, cookieName(c), secret, { ...cookieOptions(c), maxAge: PAGE_SESSION_MS / 1000 });
    log.info({ client: credential.id, remote: failures.remoteOf(c) }, "login at the page");
  };
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
        return await c.html(login("This key is not known."), 401);
      }
      if (!allowsScope(credential.scopes ?? [], "read")) {
        return await c.html(login("This key doesn't have the scope read."), 403);
      }
      opened(c, credential, sessions.open(key));
      return c.redirect("/", 303);
    }),
  );
  if (signIn !== undefined) {
    app.get(
      "/page/login/provider",
      page(async (c) => {
        await failures.check(c);
        try {
          const scopes = ["openid", ...provider?.loginScopes ?? ["profile", "email"]];
          const { url, pending } = await signIn.begin(callbackOf(c), scopes.join(" "));
          setCookie(c, PENDING_COOKIE, Object.values(pending).join("."), pendingOptions(c, PENDING_S));
          return c.redirect(url, 303);
        } catch (error) {
          log.warn({ issuer: provider?.issuer }, `Cannot reach identity provider: ${errorMessage(error)}`);
          return await c.html(login("The identity provider can't be reached. Try again in a moment."), 503);
        }
      }),
    );
    app.get(
      "/page/login/callback",
      page(async (c) => {
        await failures.check(c);
        const [state, nonce, verifier] = (getCookie(c, PENDING_COOKIE) ?? "").split(".");
        setCookie(c, PENDING_COOKIE, "", pendingOptions(c, 0));
        if (!state || !nonce || !verifier) {
          return await c.html(login("The login took too long, or began in another browser. Try again."), 400);
        }
        let credential: Credential;
        try {
          // The host is the one sent to the provider, whatever scheme a proxy uses.
          const callback = new URL(callbackOf(c) + new URL(c.req.url).search);
          const claims = await signIn.finish(callback, callbackOf(c), { state, nonce, verifier });
          // The login lasts as long as one by key, not as long as the ID token.
          const { exp: _, ...lasting } = claims;
          credential = claimsCredential(lasting, provider?.grants);
        } catch (error) {
          await failures.count(c);
          log.warn(
            { remote: failures.remoteOf(c), reason: "credential_refused", path: c.req.path },
            `login refused: ${errorMessage(error)}`,
          );
          return await c.html(login("The identity provider didn't log you in. Try again."), 401);
        }
        if (!allowsScope(credential.scopes ?? [], "read")) {
          const id = credential.id.replace(/^oidc:/, "");
          const why = `You are signed in as ${id}, who may not see this page. Its operator decides who may.`;
          log.warn(
            { client: credential.id, remote: failures.remoteOf(c) },
            "login refused: no claim gives the scope read",
          );
          return await c.html(login(why), 403);
        }
        opened(c, credential, sessions.openFor(credential));
        return await c.html(WelcomeView());
      }),
    );
  }
  changes("/page/logout", ({ c }) => {
    sessions.close(getCookie(c, cookieName(c)) ?? "");
    deleteCookie(c, cookieName(c), cookieOptions(c));
    return Promise.resolve(c.redirect("/", 303));
  }, "none");

  const started = async ({ c, viewer }: Visit, agent: Agent, join: IssuedJoin) => {
    const link = formatJoinLink({ master: originOf(c), code: join.code }).replaceAll("'", "%27");
    const command = `sallyport agent --join '${link}' --to ${START_TARGET}`;
    const qr = encodeQR(command, "svg", { border: 2, optimize: true });
    return await c.html(StartView({ viewer, agent, command, qr, expiresAtMs: join.expiresAtMs }));
  };
  shows("/page/agents", async ({ c, actor, viewer }) => {
    const search = c.req.query("search")?.slice(0, 255) ?? "";
    const state = (["active", "suspended"] as const).find((known) => known === c.req.query("state"));
    const paged = pageOf(c);
    const agents = await management.agents(actor, {
      ...paged,
      ...search === "" ? {} : { search },
      ...state === undefined ? {} : { state },
    });
    return AgentsView({
      viewer,
      agents,
      sessions: await management.sessionCounts(agents.items),
      query: { search, state: state ?? "", cursor: paged.cursor },
      done: c.req.query("done"),
    });
  });
  shows("/page/agents/new", ({ viewer }) => {
    refuseReaders(viewer);
    return Promise.resolve(AgentFormView({ viewer, fields: {} }));
  });
  changes("/page/agents/new", async (visit, form) => {
    const { c, actor, viewer } = visit;
    const { fields, body } = agentBody(form, "create");
    try {
      const wanted = AgentCreateSchema.safeParse(body);
      if (!wanted.success) throw schemaProblem("Cannot add agent", wanted.error);
      const { name, hostnames } = wanted.data;
      const policy = { ...changeOf(wanted.data), name, hostnames };
      const { agent, join } = await management.addAgent(actor, policy, wanted.data.join_ttl_seconds);
      return await started(visit, agent, join);
    } catch (error) {
      return await c.html(
        AgentFormView({ viewer, fields, wrong: wrongOf(error) }),
        (error as Problem).status,
      );
    }
  });
  shows("/page/agents/:id", async ({ c, actor, viewer }) => {
    const agent = await management.agent(actor, idOf(c));
    const live = await store.sessions({ agent: agent.id, limit: PAGE_LIMIT });
    return AgentView({ viewer, agent, sessions: live, nowMs: clock.wallMs(), done: c.req.query("done") });
  });
  shows("/page/agents/:id/edit", async ({ c, actor, viewer }) => {
    refuseReaders(viewer);
    const agent = await management.agent(actor, idOf(c));
    return AgentFormView({ viewer, agent, fields: fieldsOf(agent) });
  });
  changes("/page/agents/:id/edit", async ({ c, actor, viewer }, form) => {
    const agent = await management.agent(actor, idOf(c));
    const { fields, body } = agentBody(form, "change");
    try {
      const wanted = AgentChangeSchema.safeParse(body);
      if (!wanted.success) throw schemaProblem("Cannot change agent", wanted.error);
      const revision = Number(form.get("revision"));
      await management.changeAgent(actor, agent.id, changeOf(wanted.data), revision);
      return c.redirect(`${agentPath(agent.id)}?done=saved`, 303);
    } catch (error) {
      const wrong = wrongOf(error);
      return await c.html(AgentFormView({ viewer, agent, fields, wrong }), (error as Problem).status);
    }
  });
  for (const verb of ["suspend", "resume"] as const) {
    changes(`/page/agents/:id/${verb}`, async ({ c, actor }) => {
      const agent = await management[verb](actor, idOf(c));
      return c.redirect(`${agentPath(agent.id)}?done=${verb === "suspend" ? "suspended" : "resumed"}`, 303);
    });
  }
  changes("/page/agents/:id/rotate", async (visit) => {
    const { agent, join } = await management.rotate(visit.actor, idOf(visit.c));
    return await started(visit, agent, join);
  });
  changes("/page/agents/:id/remove", async ({ c, actor }) => {
    await management.removeAgent(actor, idOf(c));
    return c.redirect("/page/agents?done=removed", 303);
  });
  changes("/page/agents/:id/close", async ({ c, actor }, form) => {
    const agent = await management.agent(actor, idOf(c));
    await management.closeSession(actor, form.get("id") ?? "");
    return c.redirect(`${agentPath(agent.id)}?done=disconnected`, 303);
  });

  shows("/page/sessions", async ({ c, actor, viewer }) => {
    const paged = pageOf(c);
    const live = await store.sessions({ ...paged, ...ofTenant(actor) });
    const nowMs = clock.wallMs();
    return SessionsView({ viewer, sessions: live, nowMs, cursor: paged.cursor, done: c.req.query("done") });
  });
  changes("/page/sessions/close", async ({ c, actor }, form) => {
    await management.closeSession(actor, form.get("id") ?? "");
    return c.redirect("/page/sessions?done=disconnected", 303);
  });

  const usageOf = async ({ c, actor }: Visit) => {
    const id = c.req.query("agent");
    const agent = id === undefined || id === "" ? undefined : await management.agent(actor, id);
    const nowMs = clock.wallMs();
    const day = (name: string, otherwise: number) => c.req.query(name) || dayOf(otherwise);
    const days = usageDays(day("from", nowMs - (USAGE_DAYS - 1) * DAY_MS), day("to", nowMs));
    const rows = await store.usage({ ...days, ...ofTenant(actor), ...agent && { agent: agent.id } });
    return { ...days, rows, ...agent && { agent } };
  };
  shows("/page/usage", async (visit) => UsageView({ viewer: visit.viewer, ...await usageOf(visit) }));
  answers("/page/usage.csv", async (visit) => {
    const { rows, from, to } = await usageOf(visit);
    return visit.c.body(usageCsv(rows), 200, {
      "Content-Type": "text/csv; charset=utf-8",
      "Content-Disposition": `attachment; filename="usage-${from}-${to}.csv"`,
    });
  });
  shows("/page/audit", async ({ c, actor, viewer }) => {
    const subject = c.req.query("subject")?.slice(0, 300) ?? "";
    const paged = pageOf(c);
    const query = { ...paged, ...ofTenant(actor), ...subject === "" ? {} : { subject } };
    return AuditView({ viewer, records: await store.audit(query), subject, cursor: paged.cursor });
  });

  const keys = async ({ actor, viewer }: Visit) => ({
    viewer,
    // Fernet keys belong to all tenants.
    fernet: viewer.allTenants ? management.keys.list() : undefined,
    api: await management.apiKeys(actor),
  });
  shows("/page/keys", async (visit) => KeysView({ ...await keys(visit), done: visit.c.req.query("done") }));
  changes("/page/keys/api", async (visit, fields) => {
    const { c, actor } = visit;
    const field = (name: string) => (fields.get(name) ?? "").trim();
    const form = { name: field("name"), scope: field("scope"), tenant: field("tenant") };
    try {
      const wanted = ApiKeyCreateSchema.safeParse({
        name: form.name,
        scopes: [form.scope],
        ...form.tenant === "" ? {} : { tenant: form.tenant },
      });
      if (!wanted.success) throw schemaProblem("Cannot add API key", wanted.error);
      const { name, scopes, hostnames, publish, tenant = actor.tenant } = wanted.data;
      const { key } = await management.addApiKey(actor, { name, scopes, hostnames, publish, tenant });
      return await c.html(KeysView({ ...await keys(visit), made: { name, key } }));
    } catch (error) {
      const wrong = wrongOf(error).message;
      return await c.html(KeysView({ ...await keys(visit), form, wrong }), (error as Problem).status);
    }
  });
  changes("/page/keys/api/remove", async ({ c, actor }, form) => {
    await management.removeApiKey(actor, form.get("id") ?? "");
    return c.redirect("/page/keys?done=key-removed", 303);
  });
  changes("/page/keys/fernet", async ({ c, actor }) => {
    await management.addFernetKey(actor);
    return c.redirect("/page/keys?done=fernet-added", 303);
  });
  changes("/page/keys/fernet/retire", async ({ c, actor }, form) => {
    await management.retireFernetKey(actor, form.get("id") ?? "");
    return c.redirect("/page/keys?done=fernet-retired", 303);
  });

  const { webhooks } = management;
  const hooks = async ({ c, actor, viewer }: Visit) => ({
    viewer,
    webhooks: await webhooks.list(actor),
    recent: (await webhooks.deliveries(actor, { limit: RECENT_DELIVERIES })).items,
    done: c.req.query("done"),
  });
  shows("/page/webhooks", async (visit) => WebhooksView(await hooks(visit)));
  changes("/page/webhooks", async (visit, fields) => {
    const { c, actor } = visit;
    const field = (name: string) => (fields.get(name) ?? "").trim();
    const form: WebhookFields = {
      url: field("url"),
      tenant: field("tenant"),
      events: fields.getAll("event"),
    };
    try {
      const wanted = WebhookCreateSchema.safeParse({
        url: form.url,
        events: form.events,
        ...form.tenant === "" ? {} : { tenant: form.tenant },
      });
      if (!wanted.success) throw schemaProblem("Cannot add webhook", wanted.error);
      const made = await webhooks.add(actor, { tenant: actor.tenant, ...wanted.data });
      return await c.html(WebhooksView({ ...await hooks(visit), made }));
    } catch (error) {
      const wrong = wrongOf(error).message;
      return await c.html(WebhooksView({ ...await hooks(visit), form, wrong }), (error as Problem).status);
    }
  });
  shows("/page/webhooks/:id", async ({ c, actor, viewer }) => {
    const webhook = await webhooks.one(actor, idOf(c));
    const paged = pageOf(c);
    const state = DELIVERY_STATES.find((known) => known === c.req.query("state"));
    const wanted = { ...paged, webhook: webhook.id, ...state === undefined ? {} : { state } };
    return WebhookView({
      ...{ viewer, webhook, cursor: paged.cursor, done: c.req.query("done") },
      state: state ?? "",
      deliveries: await webhooks.deliveries(actor, wanted),
    });
  });
  changes("/page/webhooks/:id/test", async ({ c, actor }) => {
    const { webhook, state } = await webhooks.test(actor, idOf(c));
    const done = state === "delivered" ? "webhook-tested" : "webhook-test-failed";
    return c.redirect(`${webhookPath(webhook)}?done=${done}`, 303);
  });
  changes("/page/webhooks/:id/remove", async ({ c, actor }) => {
    await webhooks.remove(actor, idOf(c));
    return c.redirect("/page/webhooks?done=webhook-removed", 303);
  });
}

/** The form's view of a problem; anything else is rethrown. */
function wrongOf(error: unknown) {
  if (!(error instanceof Problem)) throw error;
  return { message: error.message, faults: error.errors ?? [] };
}

function refuseReaders({ name, mayChange }: Viewer): void {
  if (!mayChange) throw new Problem(403, `Cannot do this: ${name} doesn't have the scope admin`);
}

function idOf(c: C): string {
  return c.req.param("id") ?? "";
}

/** Adds the headers common to all responses of the page. */
function withPolicy(answer: Response): Response {
  answer.headers.set("Content-Security-Policy", PAGE_POLICY);
  // Not "no-referrer": with it browsers submit forms with a null Origin.
  answer.headers.set("Referrer-Policy", "same-origin");
  answer.headers.set("Cross-Origin-Opener-Policy", "same-origin");
  answer.headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return answer;
}

/** Throws 403 for a form submitted by another site. */
function refuseOtherOrigin(c: C): void {
  const origin = c.req.header("origin") ?? "";
  const site = c.req.header("sec-fetch-site");
  // The scheme isn't compared: a proxy may have terminated TLS.
  const isOwn = URL.canParse(origin) && new URL(origin).host === new URL(c.req.url).host;
  if (isOwn && (site === undefined || site === "same-origin")) return;
  throw new Problem(
    403,
    "Cannot do this: the form comes from another site; a proxy must pass the Host header on unchanged",
  );
}

/** Whether the browser connected over TLS. A forged header harms only the login of the sender. */
function isSecure(c: C): boolean {
  return new URL(c.req.url).protocol === "https:" || c.req.header("x-forwarded-proto") === "https";
}

function originOf(c: C): string {
  return `${isSecure(c) ? "https" : "http"}://${new URL(c.req.url).host}`;
}

/** The redirect URI for the identity provider, which must have it registered. */
function callbackOf(c: C): string {
  return `${originOf(c)}/page/login/callback`;
}

/** Lax: the redirect back from the provider is a cross-site navigation. */
function pendingOptions(c: C, maxAge: number) {
  return { ...cookieOptions(c), path: "/page/login", sameSite: "Lax", maxAge } as const;
}

/** With TLS the name prevents other hosts of the domain from setting the cookie (RFC 6265bis, `__Host-`). */
function cookieName(c: C): string {
  return isSecure(c) ? "__Host-sallyport" : "sallyport";
}

function cookieOptions(c: C) {
  return { path: "/", httpOnly: true, sameSite: "Strict", secure: isSecure(c) } as const;
}

function pageOf(c: C): { readonly limit: number; readonly cursor?: string } {
  const cursor = c.req.query("cursor")?.slice(0, 2_048);
  return { limit: PAGE_LIMIT, ...cursor === undefined ? {} : { cursor } };
}
