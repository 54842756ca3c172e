/**
 * User names and passwords in front of a service (RFC 7617).
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHmac, randomBytes } from "node:crypto";
import type { Clock } from "../../runtime/port.ts";
import { fieldOf, fieldsWithout } from "../../wire/http1/fields.ts";
import { FailureLimiter } from "../../wire/ip/failure_limiter.ts";
import { respondText } from "../http/exchange.ts";
import { derived, type Layer } from "../http/front.ts";
import type { BasicAuthSettings } from "../services/service.ts";
import { isPassword, parsePasswordHash, type PasswordHash } from "./password_hash.ts";

/** Wrong passwords from one address (an IPv6 /64 counts as one) within a minute. */
export const GATE_FAILURES_PER_MINUTE_MAX = 10;
/** Passwords that are checked at a time; each takes 32 MiB of memory for a tenth of a second. */
export const GATE_CHECKS_MAX = 4;
/** A verified password isn't hashed again for this time, since browsers send it with every request. */
const REMEMBERED_MS = 600_000;
const REMEMBERED_MAX = 1_000;

/**
 * Admits visitors who know a password. The target doesn't see it, and receives the user name in `X-Forwarded-User`.
 *
 * @throws SallyportError `config_invalid` if a hash is malformed.
 */
export function basicAuth({ realm = "Sallyport", users }: BasicAuthSettings, clock: Clock): Layer {
  const hashes = new Map(Object.entries(users).map(([user, hash]) => [user, parsePasswordHash(hash)]));
  // For unknown names, so that timing doesn't distinguish them from existing ones.
  const nobody: PasswordHash = [...hashes.values()][0] ??
    { rounds: 2 ** 15, blockSize: 8, parallel: 1, salt: randomBytes(16), hash: randomBytes(32) };
  const failures = new FailureLimiter(GATE_FAILURES_PER_MINUTE_MAX);
  const key = randomBytes(32);
  const remembered = new Map<string, number>();
  let checks = 0;

  const know = (digest: string) => {
    const untilMs = remembered.get(digest);
    return untilMs !== undefined && untilMs > clock.nowMs();
  };
  const remember = (digest: string) => {
    remembered.delete(digest);
    if (remembered.size >= REMEMBERED_MAX) remembered.delete(remembered.keys().next().value as string);
    remembered.set(digest, clock.nowMs() + REMEMBERED_MS);
  };
  const challenge = [
    "www-authenticate",
    `Basic realm="${realm.replaceAll(/["\\]/g, "")}", charset="UTF-8"`,
  ] as const;

  return (handler) => async (exchange) => {
    const { request, visitor } = exchange;
    const given = credentialsOf(fieldOf(request.fields, "authorization"));
    if (given === undefined) return respondText(exchange, 401, "A password is required here.", [challenge]);
    const [user, password] = given;
    const digest = createHmac("sha256", key).update(JSON.stringify(given)).digest("base64");
    if (!know(digest)) {
      if (failures.over(visitor.address, clock.nowMs())) {
        return respondText(exchange, 429, "Too many wrong passwords. Try again in a minute.", [[
          "retry-after",
          "60",
        ]]);
      }
      if (checks >= GATE_CHECKS_MAX) {
        return respondText(exchange, 503, "This service is busy. Try again in a moment.", [[
          "retry-after",
          "1",
        ]]);
      }
      // Counted before the result is known, so that parallel attempts gain nothing over sequential ones.
      failures.failed(visitor.address, clock.nowMs());
      checks++;
      let right: boolean;
      try {
        right = await isPassword(password, hashes.get(user) ?? nobody) && hashes.has(user);
      } finally {
        checks--;
      }
      if (!right) return respondText(exchange, 401, "The password is wrong.", [challenge]);
      failures.clear(visitor.address);
      remember(digest);
    }
    const fields = withoutOwn(request.fields);
    return handler(
      derived(exchange, { request: { ...request, fields: [...fields, ["x-forwarded-user", safe(user)]] } }),
    );
  };
}

/** Fields that a gate sets about the user; a visitor's are dropped. */
export const OWN_FIELDS: readonly string[] = ["x-forwarded-user", "x-forwarded-email", "x-forwarded-groups"];
/** Drops those, and the password, which the target must not see. */
const withoutOwn = fieldsWithout(["authorization", ...OWN_FIELDS]);

/** Makes text safe for a field's value. */
export function safe(text: string): string {
  return /^[\x20-\x7e]*$/.test(text) ? text : encodeURIComponent(text);
}

function credentialsOf(field: string | undefined): readonly [user: string, password: string] | undefined {
  const encoded = /^basic +([A-Za-z0-9+/]{2,1500}={0,2})$/i.exec(field ?? "")?.[1];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, "base64").toString("utf8");
  const colon = text.indexOf(":");
  return colon < 0 ? undefined : [text.slice(0, colon), text.slice(colon + 1)];
}
