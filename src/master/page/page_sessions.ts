/**
 * Logins to the page: server-side sessions, identified by a random cookie.
 *
 * @module
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { Clock } from "../../runtime/port.ts";
import { lock, unlock } from "../api/parts.ts";
import { secretDigest } from "../management.ts";
import type { Credential, Credentials, CredentialUse } from "../credentials.ts";

/** Lifetime of a login to the management page. */
export const PAGE_SESSION_MS = 12 * 3_600_000;
/** Maximum number of concurrent logins to the management page; one more ends the oldest. */
export const PAGE_SESSIONS_MAX = 256;
const SECRET_BYTES = 32;

interface StoredSession {
  /**
   * The key it was opened with, encrypted with the cookie's secret, which the server does not keep; or the credential
   * from the identity provider.
   */
  readonly by: { readonly sealedKey: string } | Credential;
  readonly token: string;
  readonly expiresAtMs: number;
}

/** A request's login. */
interface PageSession {
  readonly credential: Credential;
  /** The token that every form of the page must contain. */
  readonly token: string;
}

/** Creates, finds and ends logins to the page. */
export class PageSessions {
  readonly #credentials: Credentials;
  readonly #clock: Clock;
  /** By the digest of the cookie's secret, oldest first. */
  readonly #sessions = new Map<string, StoredSession>();

  constructor(credentials: Credentials, clock: Clock) {
    this.#credentials = credentials;
    this.#clock = clock;
  }

  /** Opens a session for a known key; returns the cookie's secret. */
  open(key: string): string {
    return this.#add((secret) => ({ sealedKey: lock(secret, key) }));
  }

  /** Opens a session for a user authenticated by the identity provider; returns the cookie's secret. */
  openFor(credential: Credential): string {
    return this.#add(() => credential);
  }

  /** The session of a cookie. Its key is looked up each time, so that removing a key ends the session. */
  async find(secret: string | undefined, use: CredentialUse): Promise<PageSession | undefined> {
    if (secret === undefined || secret.length > 64) return undefined;
    const id = secretDigest(secret);
    const stored = this.#sessions.get(id);
    if (stored === undefined) return undefined;
    const credential = stored.expiresAtMs <= this.#clock.wallMs()
      ? undefined
      : "sealedKey" in stored.by
      ? await this.#credentials.find(unlock(secret, stored.by.sealedKey), use)
      : stored.by;
    if (credential !== undefined) return { credential, token: stored.token };
    this.#sessions.delete(id);
    return undefined;
  }

  close(secret: string): void {
    this.#sessions.delete(secretDigest(secret));
  }

  #add(by: (secret: string) => StoredSession["by"]): string {
    const nowMs = this.#clock.wallMs();
    for (const [id, { expiresAtMs }] of this.#sessions) if (expiresAtMs <= nowMs) this.#sessions.delete(id);
    for (const id of this.#sessions.keys()) {
      if (this.#sessions.size < PAGE_SESSIONS_MAX) break;
      this.#sessions.delete(id);
    }
    const secret = randomBytes(SECRET_BYTES).toString("base64url");
    this.#sessions.set(secretDigest(secret), {
      by: by(secret),
      token: randomBytes(SECRET_BYTES).toString("base64url"),
      expiresAtMs: nowMs + PAGE_SESSION_MS,
    });
    return secret;
  }
}

/** Whether two texts are equal, compared in constant time. */
export function sameText(a: string, b: string): boolean {
  const sha256 = (text: string) => createHash("sha256").update(text, "utf8").digest();
  return timingSafeEqual(sha256(a), sha256(b));
}
