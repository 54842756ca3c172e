/**
 * Sign-in by an OpenID Connect provider in front of a service: authorization code flow with PKCE. The device itself is
 * the client, and stores the signed-in user in a cookie that it signs.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { jwtVerify, SignJWT } from "jose";
import { errorMessage, SallyportError } from "../../errors.ts";
import { type IdentityClaims, SignIn } from "../../oidc/sign_in.ts";
import type { Clock, Fetch } from "../../runtime/port.ts";
import type { Logger } from "../../telemetry/log.ts";
import { type LogSampler, visitorLines } from "../../telemetry/log_sampler.ts";
import { type Field, fieldOf, fieldsWithout } from "../../wire/http1/fields.ts";
import type { CertificateStore } from "../acme/certificate_store.ts";
import { type Exchange, respondText } from "../http/exchange.ts";
import { derived, type Layer } from "../http/front.ts";
import type { OidcSettings } from "../services/service.ts";
import { OWN_FIELDS, safe } from "./basic_auth.ts";

/** Where the provider sends visitors back to. */
export const OIDC_CALLBACK_PATH = "/.sallyport/oidc/callback";
/** Where a visitor signs out of this service; the provider's session continues. */
export const OIDC_LOGOUT_PATH = "/.sallyport/oidc/logout";
/** Default duration of a sign-in. */
export const OIDC_SESSION_SECONDS = 12 * 3600;
/** Time for a visitor to sign in at the provider. */
export const OIDC_LOGIN_SECONDS = 600;
/** Longest path that a visitor is returned to. */
const RETURN_PATH_MAX = 2_000;
/** Groups of a visitor stored; further ones are dropped, except those that grant access. */
const GROUPS_MAX = 50;

// `__Host-` cookies belong to this host only, over HTTPS, regardless of what sibling hosts set (RFC 6265bis §4.1.3.2).
const SESSION_COOKIE = "__Host-sallyport-session";
const LOGIN_COOKIE = "__Host-sallyport-login";
const KEY_NAME = "gate/session-key.txt";

/** Options of {@link oidcGate}. */
interface OidcGateOptions {
  readonly settings: OidcSettings;
  /** The service's name: a cookie of one service isn't valid at another. */
  readonly service: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Stores the cookie signing key, so that sign-ins survive a restart. */
  readonly store: CertificateStore;
  /** The provider may be reached by plain HTTP; for tests. */
  readonly insecure?: boolean;
  /** Sends requests to the provider. Defaults to the platform's. */
  readonly fetch?: Fetch;
}

/** The signed-in user. */
interface Identity {
  readonly subject: string;
  readonly mail: string | undefined;
  readonly groups: readonly string[];
}

/** Admits visitors who have signed in and are permitted. The target receives `X-Forwarded-User` and `-Email`. */
export function oidcGate(options: OidcGateOptions): Layer {
  const gate = new OidcGate(options);
  return (handler) => (exchange) => gate.handle(exchange, handler);
}

class OidcGate {
  readonly #options: OidcGateOptions;
  readonly #sampler: LogSampler;
  readonly #signIn: SignIn;
  readonly #audience: string;
  #key: Promise<Uint8Array> | undefined;

  constructor(options: OidcGateOptions) {
    const { settings: { clientId, clientSecretFile, issuer }, service, clock, log, insecure = false, fetch } =
      options;
    this.#options = options;
    this.#sampler = visitorLines(log, clock);
    this.#signIn = new SignIn({
      ...{ issuer, clientId, clock, insecure, fetch },
      ...clientSecretFile === undefined ? {} : { clientSecret: readSecret(clientSecretFile) },
    });
    this.#audience = `${service} ${issuer} ${clientId}`;
  }

  async handle(exchange: Exchange, handler: (exchange: Exchange) => void | Promise<void>): Promise<void> {
    const { target, fields } = exchange.request;
    const [path = ""] = target.split("?");
    if (path === OIDC_CALLBACK_PATH) return await this.#comeBack(exchange);
    if (path === OIDC_LOGOUT_PATH) {
      return respondText(exchange, 200, "You are signed out here.", [[
        "set-cookie",
        clearCookie(SESSION_COOKIE),
      ]]);
    }
    const identity = await this.#identity(fields);
    if (identity === undefined) return await this.#ask(exchange);
    if (!this.#permits(identity)) return this.#forbid(exchange, identity);
    await handler(
      derived(exchange, { request: { ...exchange.request, fields: withIdentity(fields, identity) } }),
    );
  }

  #permits({ mail, groups }: Identity): boolean {
    const { allowedMails, allowedGroups } = this.#options.settings;
    if (allowedMails === undefined && allowedGroups === undefined) return true;
    const byMail = mail !== undefined &&
      allowedMails?.some((allowed) => allowed.toLowerCase() === mail.toLowerCase());
    return byMail === true || groups.some((group) => allowedGroups?.includes(group));
  }

  #forbid(exchange: Exchange, { subject, mail }: Identity, fields: readonly Field[] = []): void {
    this.#sampler.info(
      "forbidden",
      { visitor: exchange.visitor.address, subject },
      "visitor has signed in but isn't allowed",
    );
    const who = mail === undefined ? "You are signed in" : `You are signed in as ${mail}`;
    respondText(
      exchange,
      403,
      `${who}, which doesn't give access here. ${OIDC_LOGOUT_PATH} signs you out.`,
      fields,
    );
  }

  /** Redirects a visitor to the provider. */
  async #ask(exchange: Exchange): Promise<void> {
    const { request: { method, target, authority, fields }, upgrade } = exchange;
    // A picture or a script of the page, such as its icon, would take the place of a sign-in that has begun.
    const page = (method === "GET" || method === "HEAD") && upgrade === undefined &&
      (fieldOf(fields, "sec-fetch-mode") ?? "navigate") === "navigate";
    if (!page) return respondText(exchange, 401, "Sign in first: open this site in a browser.");
    const scope = this.#options.settings.allowedGroups === undefined ? "openid email" : "openid email groups";
    let begun: Awaited<ReturnType<SignIn["begin"]>>;
    try {
      begun = await this.#signIn.begin(`https://${authority}${OIDC_CALLBACK_PATH}`, scope);
    } catch (error) {
      return this.#unreachable(exchange, error);
    }
    const back = target.length <= RETURN_PATH_MAX && isOwnPath(target) ? target : "/";
    const login = await this.#sign({ ...begun.pending, back }, "login", OIDC_LOGIN_SECONDS);
    respondText(exchange, 302, "Sign in at the provider.", [
      ["location", begun.url],
      ["set-cookie", cookie(LOGIN_COOKIE, login, OIDC_LOGIN_SECONDS)],
    ]);
  }

  /** Handles a visitor's return from the provider with a code. */
  async #comeBack(exchange: Exchange): Promise<void> {
    const { request: { target, authority, fields }, visitor } = exchange;
    const kept = await this.#read(cookieOf(fields, LOGIN_COOKIE), "login");
    const { state, nonce, verifier, back } = kept ?? {};
    if (
      typeof state !== "string" || typeof nonce !== "string" || typeof verifier !== "string" ||
      typeof back !== "string"
    ) {
      return respondText(
        exchange,
        400,
        "The sign-in took too long, or began in another browser. Open the site again.",
      );
    }
    try {
      await this.#signIn.discover();
    } catch (error) {
      return this.#unreachable(exchange, error);
    }
    const redirect = `https://${authority}${OIDC_CALLBACK_PATH}`;
    let identity: Identity;
    try {
      const url = new URL(target, `https://${authority}`);
      identity = identityOf(await this.#signIn.finish(url, redirect, { state, nonce, verifier }));
    } catch (error) {
      const why = `Cannot sign visitor in: ${errorMessage(error)}`;
      this.#sampler.info("sign-in", { visitor: visitor.address }, why);
      const clear: Field = ["set-cookie", clearCookie(LOGIN_COOKIE)];
      return respondText(exchange, 400, "The provider didn't sign you in. Open the site again.", [clear]);
    }
    const seconds = this.#options.settings.sessionSeconds ?? OIDC_SESSION_SECONDS;
    const { subject, mail, groups } = identity;
    const { allowedGroups = [] } = this.#options.settings;
    // A cookie holds 4 KiB: groups that matter here come first.
    const shown = [...groups].sort((a, b) =>
      Number(allowedGroups.includes(b)) - Number(allowedGroups.includes(a))
    );
    const session = await this.#sign(
      { sub: subject, mail, groups: shown.slice(0, GROUPS_MAX) },
      "session",
      seconds,
    );
    const clear: Field = ["set-cookie", clearCookie(LOGIN_COOKIE)];
    const set: Field[] = [["set-cookie", cookie(SESSION_COOKIE, session, seconds)], clear];
    if (!this.#permits(identity)) return this.#forbid(exchange, identity, [clear]);
    respondText(exchange, 302, "You are signed in.", [["location", isOwnPath(back) ? back : "/"], ...set]);
  }

  #unreachable(exchange: Exchange, error: unknown): void {
    this.#sampler.warn(
      "provider",
      { issuer: this.#options.settings.issuer },
      `Cannot reach sign-in provider: ${errorMessage(error)}`,
    );
    respondText(exchange, 502, "The sign-in provider can't be reached. Try again in a moment.");
  }

  async #identity(fields: readonly Field[]): Promise<Identity | undefined> {
    const claims = await this.#read(cookieOf(fields, SESSION_COOKIE), "session");
    if (typeof claims?.sub !== "string") return undefined;
    const { sub: subject, mail, groups } = claims;
    return { subject, mail: typeof mail === "string" ? mail : undefined, groups: namesIn(groups) };
  }

  async #sign(claims: Record<string, unknown>, purpose: string, seconds: number): Promise<string> {
    const nowS = Math.floor(this.#options.clock.wallMs() / 1000);
    return await new SignJWT(claims)
      .setProtectedHeader({ alg: "HS256", typ: purpose })
      .setAudience(this.#audience).setIssuedAt(nowS).setExpirationTime(nowS + seconds)
      .sign(await this.#signingKey());
  }

  async #read(token: string | undefined, purpose: string): Promise<Record<string, unknown> | undefined> {
    if (token === undefined) return undefined;
    try {
      const { payload } = await jwtVerify(token, await this.#signingKey(), {
        algorithms: ["HS256"],
        typ: purpose,
        audience: this.#audience,
        currentDate: new Date(this.#options.clock.wallMs()),
      });
      return payload;
    } catch {
      return undefined;
    }
  }

  #signingKey(): Promise<Uint8Array> {
    return this.#key ??= this.#findKey();
  }

  async #findKey(): Promise<Uint8Array> {
    const { store, log } = this.#options;
    try {
      const kept = (await store.read(KEY_NAME))?.trim();
      if (kept !== undefined && /^[\w-]{43}$/.test(kept)) {
        return new Uint8Array(Buffer.from(kept, "base64url"));
      }
      const made = randomBytes(32);
      await store.write(KEY_NAME, `${made.toString("base64url")}\n`);
      return new Uint8Array(made);
    } catch (error) {
      log.warn({}, `Cannot save the sign-in key: ${errorMessage(error)}; sign-ins end with this process`);
      return new Uint8Array(randomBytes(32));
    }
  }
}

function identityOf(claims: IdentityClaims): Identity {
  const { sub, email, email_verified: verified, groups } = claims;
  // An address that the provider hasn't verified proves nothing.
  const mail = typeof email === "string" && verified !== false ? email : undefined;
  return { subject: sub, mail, groups: namesIn(groups) };
}

function namesIn(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((name): name is string => typeof name === "string") : [];
}

/** Drops what the target gets anew: the user's identity, and the cookies that aren't ours. */
const withoutOwn = fieldsWithout(["cookie", ...OWN_FIELDS]);

/** The request's fields for the target: with the user's identity, without our cookies. */
function withIdentity(fields: readonly Field[], { subject, mail, groups }: Identity): Field[] {
  const kept = withoutOwn(fields);
  const cookies = fields.filter(([name]) => name === "cookie")
    .flatMap(([, value]) => value.split(/; */))
    .filter((pair) => !pair.startsWith(`${SESSION_COOKIE}=`) && !pair.startsWith(`${LOGIN_COOKIE}=`));
  if (cookies.length > 0) kept.push(["cookie", cookies.join("; ")]);
  kept.push(["x-forwarded-user", safe(subject)]);
  if (mail !== undefined) kept.push(["x-forwarded-email", safe(mail)]);
  if (groups.length > 0) kept.push(["x-forwarded-groups", groups.map(safe).join(",")]);
  return kept;
}

function cookieOf(fields: readonly Field[], name: string): string | undefined {
  for (const [field, value] of fields) {
    if (field !== "cookie") continue;
    const found = value.split(/; */).find((pair) => pair.startsWith(`${name}=`));
    if (found !== undefined) return found.slice(name.length + 1);
  }
  return undefined;
}

function cookie(name: string, value: string, seconds: number): string {
  // Lax: the return from the provider is a cross-site navigation.
  return `${name}=${value}; Path=/; Max-Age=${seconds}; Secure; HttpOnly; SameSite=Lax`;
}

function clearCookie(name: string): string {
  return cookie(name, "", 0);
}

/** Whether it is a path on this host: "//" and "/\" would lead to another one. */
function isOwnPath(path: string): boolean {
  return /^\/(?![/\\])/.test(path) && !path.startsWith("/.sallyport/");
}

function readSecret(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (cause) {
    const message = `Cannot read client secret: ${errorMessage(cause)}`;
    throw new SallyportError("config_invalid", message, { side: "config", cause });
  }
}
