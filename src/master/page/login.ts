/**
 * Logging in to the page, by a key or at the identity provider, and logging out.
 *
 * @module
 */
import { deleteCookie, getCookie, setCookie } from "hono/cookie";
import { errorMessage } from "../../errors.ts";
import { isLocalProvider } from "../../oidc/provider.ts";
import { SignIn } from "../../oidc/sign_in.ts";
import type { Credential } from "../credentials.ts";
import { allowsScope, boundedForm } from "../guards.ts";
import { claimsCredential } from "../oidc.ts";
import {
  cookieName,
  cookieOptions,
  originOf,
  type PageContext,
  type PageHost,
  type PageProvider,
  refuseOtherOrigin,
} from "./host.ts";
import { PAGE_SESSION_MS } from "./page_sessions.ts";
import { WelcomeView } from "./views/login.tsx";

/** Time limit for a login at the identity provider. */
const PENDING_S = 600;
const PENDING_COOKIE = "sallyport-login";
const KEY_MAX_LENGTH = 4096;

/** Adds the paths below `/page/login`, and `/page/logout`. */
export function addLogin(host: PageHost): void {
  const { provider } = host.parts;
  addKeyLogin(host);
  if (provider !== undefined) addProviderLogin(host, provider);
  host.changes("/page/logout", ({ c }) => {
    host.sessions.close(getCookie(c, cookieName(c)) ?? "");
    deleteCookie(c, cookieName(c), cookieOptions(c));
    return c.redirect("/", 303);
  }, "none");
}

function addKeyLogin(host: PageHost): void {
  const { clock, credentials, failures, log } = host.parts;
  host.app.post(
    "/page/login",
    host.page(async (c) => {
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
        return await c.html(host.login("This key is not known."), 401);
      }
      if (!allowsScope(credential.scopes ?? [], "read")) {
        return await c.html(host.login("This key doesn't have the scope read."), 403);
      }
      keepLogin(c, host, credential, host.sessions.open(key));
      return c.redirect("/", 303);
    }),
  );
}

function addProviderLogin(host: PageHost, provider: PageProvider): void {
  const { clock, failures, log } = host.parts;
  const { issuer, loginScopes = ["profile", "email"], grants } = provider;
  const signIn = new SignIn({ ...provider, clock, insecure: isLocalProvider(issuer) });
  host.app.get(
    "/page/login/provider",
    host.page(async (c) => {
      await failures.check(c);
      try {
        const scopes = ["openid", ...loginScopes];
        const { url, pending } = await signIn.begin(callbackOf(c), scopes.join(" "));
        setCookie(c, PENDING_COOKIE, Object.values(pending).join("."), pendingOptions(c, PENDING_S));
        return c.redirect(url, 303);
      } catch (error) {
        log.warn({ issuer }, `Cannot reach identity provider: ${errorMessage(error)}`);
        return await c.html(
          host.login("The identity provider can't be reached. Try again in a moment."),
          503,
        );
      }
    }),
  );
  host.app.get(
    "/page/login/callback",
    host.page(async (c) => {
      await failures.check(c);
      const [state, nonce, verifier] = (getCookie(c, PENDING_COOKIE) ?? "").split(".");
      setCookie(c, PENDING_COOKIE, "", pendingOptions(c, 0));
      if (!state || !nonce || !verifier) {
        return await c.html(
          host.login("The login took too long, or began in another browser. Try again."),
          400,
        );
      }
      let credential: Credential;
      try {
        // The host is the one sent to the provider, whatever scheme a proxy uses.
        const callback = new URL(callbackOf(c) + new URL(c.req.url).search);
        const claims = await signIn.finish(callback, callbackOf(c), { state, nonce, verifier });
        // The login lasts as long as one by key, not as long as the ID token.
        const { exp: _, ...lasting } = claims;
        credential = claimsCredential(lasting, grants);
      } catch (error) {
        await failures.count(c);
        log.warn(
          { remote: failures.remoteOf(c), reason: "credential_refused", path: c.req.path },
          `login refused: ${errorMessage(error)}`,
        );
        return await c.html(host.login("The identity provider didn't log you in. Try again."), 401);
      }
      if (!allowsScope(credential.scopes ?? [], "read")) {
        const id = credential.id.replace(/^oidc:/, "");
        const why = `You are signed in as ${id}, who may not see this page. Its operator decides who may.`;
        log.warn(
          { client: credential.id, remote: failures.remoteOf(c) },
          "login refused: no claim gives the scope read",
        );
        return await c.html(host.login(why), 403);
      }
      keepLogin(c, host, credential, host.sessions.openFor(credential));
      return await c.html(WelcomeView());
    }),
  );
}

/** Gives the browser the login's cookie. */
function keepLogin(
  c: PageContext,
  { parts: { failures, log } }: PageHost,
  credential: Credential,
  secret: string,
): void {
  setCookie(c, cookieName(c), secret, { ...cookieOptions(c), maxAge: PAGE_SESSION_MS / 1000 });
  log.info({ client: credential.id, remote: failures.remoteOf(c) }, "login at the page");
}

/** The redirect URI for the identity provider, which must have it registered. */
function callbackOf(c: PageContext): string {
  return `${originOf(c)}/page/login/callback`;
}

/** Lax: the redirect back from the provider is a cross-site navigation. */
function pendingOptions(c: PageContext, maxAge: number) {
  return { ...cookieOptions(c), path: "/page/login", sameSite: "Lax", maxAge } as const;
}
