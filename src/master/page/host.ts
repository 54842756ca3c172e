/**
 * The frame of the page's requests: logins, forms, headers, problems.
 *
 * The policy of every response allows the browser only our own scripts, styles and forms. Every form requires a login,
 * the login's token, and an Origin equal to the page's.
 *
 * @module
 */
import type { Context, Handler, Hono } from "hono";
import { getCookie } from "hono/cookie";
import type { Clock } from "../../runtime/port.ts";
import type { Logger } from "../../telemetry/log.ts";
import { actorOf } from "../api/parts.ts";
import type { Credentials } from "../credentials.ts";
import type { MasterEnv } from "../env.ts";
import { allowsScope, boundedForm, countRequest, type FailureGuard } from "../guards.ts";
import type { Actor, Management } from "../management.ts";
import { ALL_TENANTS } from "../model.ts";
import type { OidcGrant } from "../oidc.ts";
import { Problem } from "../problem.ts";
import type { IssueLimit } from "../rate_limits.ts";
import type { Html, Viewer } from "./layout.tsx";
import { PageSessions, sameText } from "./page_sessions.ts";
import { ErrorView, LoginView } from "./views/login.tsx";

/** Entries on one page of a list. */
export const PAGE_LIMIT = 50;

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

/** Dependencies of the page. */
export interface PageParts {
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

/** A request to the page. */
export type PageContext = Context<MasterEnv>;

/** A request with a login. */
export interface Visit {
  readonly c: PageContext;
  readonly actor: Actor;
  readonly viewer: Viewer;
}

/** The page's requests, and the logins of its users. */
export class PageHost {
  readonly app: Hono<MasterEnv>;
  readonly parts: PageParts;
  readonly sessions: PageSessions;

  constructor(app: Hono<MasterEnv>, parts: PageParts) {
    this.app = app;
    this.parts = parts;
    this.sessions = new PageSessions(parts.credentials, parts.clock);
  }

  /** The login form, with what was wrong with the attempt before. */
  login(wrong?: string): Html {
    const { provider } = this.parts;
    return LoginView({
      provider: provider && new URL(provider.issuer).hostname,
      ...wrong === undefined ? {} : { wrong },
    });
  }

  /** Responds with the page's headers; problems are HTML as well. */
  page(work: (c: PageContext) => Promise<Response> | Response): Handler<MasterEnv> {
    return async (c) => {
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
  }

  /** The visit of a logged-in user; undefined for anyone else. */
  async visitOf(c: PageContext): Promise<Visit | undefined> {
    const session = await this.sessions.find(getCookie(c, cookieName(c)), c.req);
    if (session === undefined) return undefined;
    const { credential, token } = session;
    await countRequest(this.parts.calls, credential);
    c.set("credential", credential);
    const actor = actorOf(c);
    const mayChange = allowsScope(credential.scopes ?? [], "admin");
    const allTenants = actor.tenant === ALL_TENANTS;
    return { c, actor, viewer: { name: credential.id, mayChange, allTenants, token } };
  }

  /** A path that requires a login; others are redirected to the login. */
  answers(path: string, answer: (visit: Visit) => Promise<Response> | Response): void {
    this.app.get(
      path,
      this.page(async (c) => {
        const visit = await this.visitOf(c);
        return visit === undefined ? c.redirect("/", 303) : await answer(visit);
      }),
    );
  }

  /** A view at a path that requires a login. */
  shows(path: string, show: (visit: Visit) => Promise<Html> | Html): void {
    this.answers(path, async (visit) => visit.c.html(await show(visit)));
  }

  /** A form's target. It requires a login with `scope`, the login's token and the page's own origin. */
  changes(
    path: string,
    change: (visit: Visit, form: URLSearchParams) => Promise<Response> | Response,
    scope: "admin" | "none" = "admin",
  ): void {
    this.app.post(
      path,
      this.page(async (c) => {
        refuseOtherOrigin(c);
        const visit = await this.visitOf(c);
        if (visit === undefined) {
          return await c.html(this.login("Your login has ended; log in again."), 401);
        }
        const form = await boundedForm(c.req.raw, this.parts.clock);
        if (!sameText(form.get("token") ?? "", visit.viewer.token)) {
          throw new Problem(403, "Cannot do this: the form belongs to another login; reload the page");
        }
        if (scope === "admin") refuseReaders(visit.viewer);
        return await change(visit, form);
      }),
    );
  }
}

/** The form's view of a problem; anything else is rethrown. */
export function wrongOf(error: unknown) {
  if (!(error instanceof Problem)) throw error;
  return { message: error.message, faults: error.errors ?? [] };
}

/** Throws 403 for a login that may only read. */
export function refuseReaders({ name, mayChange }: Viewer): void {
  if (!mayChange) throw new Problem(403, `Cannot do this: ${name} doesn't have the scope admin`);
}

/** The id in the path. */
export function idOf(c: PageContext): string {
  return c.req.param("id") ?? "";
}

/** Adds the headers common to all responses of the page. */
export function withPolicy(answer: Response): Response {
  answer.headers.set("Content-Security-Policy", PAGE_POLICY);
  // Not "no-referrer": with it browsers submit forms with a null Origin.
  answer.headers.set("Referrer-Policy", "same-origin");
  answer.headers.set("Cross-Origin-Opener-Policy", "same-origin");
  answer.headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return answer;
}

/** Throws 403 for a form submitted by another site. */
export function refuseOtherOrigin(c: PageContext): void {
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
function isSecure(c: PageContext): boolean {
  return new URL(c.req.url).protocol === "https:" || c.req.header("x-forwarded-proto") === "https";
}

/** The address that the browser uses. */
export function originOf(c: PageContext): string {
  return `${isSecure(c) ? "https" : "http"}://${new URL(c.req.url).host}`;
}

/** With TLS the name prevents other hosts of the domain from setting the cookie (RFC 6265bis, `__Host-`). */
export function cookieName(c: PageContext): string {
  return isSecure(c) ? "__Host-sallyport" : "sallyport";
}

/** Options of the cookie with the login. */
export function cookieOptions(c: PageContext) {
  return { path: "/", httpOnly: true, sameSite: "Strict", secure: isSecure(c) } as const;
}

/** The part of a list that a request asks for. */
export function pageOf(c: PageContext): { readonly limit: number; readonly cursor?: string } {
  const cursor = c.req.query("cursor")?.slice(0, 2_048);
  return { limit: PAGE_LIMIT, ...cursor === undefined ? {} : { cursor } };
}
