/**
 * The management page at `/`: HTML around {@link Management}, for people. Programs use the API under `/v1/`.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Hono } from "hono";
import { dayOf } from "../../calendar.ts";
import { ofTenant } from "../actor.ts";
import type { MasterEnv } from "../env.ts";
import { PROBLEM_TYPE } from "../problem.ts";
import { addAgentPages } from "./agent_pages.ts";
import { ASSETS } from "./assets.ts";
import { PageHost, type PageParts, type Visit, withPolicy } from "./host.ts";
import { addKeyPages } from "./key_pages.ts";
import { LiveFeeds } from "./live.ts";
import { addLogin } from "./login.ts";
import { addRecordPages } from "./record_pages.ts";
import { ErrorView } from "./views/login.tsx";
import { OverviewView } from "./views/overview.tsx";
import { addWebhookPages } from "./webhook_pages.ts";

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

/** Maximum number of sessions on the overview. */
const OVERVIEW_SESSIONS = 20;

/** Adds the page; passes requests for `/` that don't accept HTML to the next handler. */
export function addPage(app: Hono<MasterEnv>, parts: PageParts): void {
  const host = new PageHost(app, parts);
  addOverview(host);
  addAssets(host);
  addLogin(host);
  addAgentPages(host);
  addRecordPages(host);
  addKeyPages(host);
  addWebhookPages(host);
}

/** Adds `/`, the events that keep views up to date, and the view of an unknown path. */
function addOverview(host: PageHost): void {
  const { app, parts: { management, clock } } = host;
  const { store, hub } = management;
  const feeds = new LiveFeeds({ store, clock, closing: hub.closing });
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
    const answer = host.page(async () => {
      const visit = await host.visitOf(c);
      return await c.html(visit === undefined ? host.login() : await overview(visit));
    });
    const answered = await answer(c, next) as Response;
    answered.headers.set("Vary", "Accept");
    return answered;
  });
  app.get(
    "/page/events",
    host.page(async (c) => {
      const visit = await host.visitOf(c);
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
}

/** Adds scripts, styles and pictures. */
function addAssets(host: PageHost): void {
  for (const [name, { type, text }] of Object.entries(ASSETS)) {
    const etag = `"${createHash("sha256").update(text).digest("base64url").slice(0, 16)}"`;
    // Browsers cache it, and revalidate each time.
    const kept = { ETag: etag, "Cache-Control": "no-cache" };
    host.app.get(
      `/page/${name}`,
      host.page((c) =>
        c.req.header("if-none-match") === etag
          ? c.body(null, 304, kept)
          : c.body(text, 200, { ...kept, "Content-Type": type })
      ),
    );
  }
}
