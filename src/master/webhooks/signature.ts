/**
 * How messages to webhooks are signed: Standard Webhooks 1.0 (https://www.standardwebhooks.com), for which there are
 * libraries in most languages.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHmac, randomBytes } from "node:crypto";

/** Bytes of a webhook's secret that the session master makes. */
const SECRET_BYTES = 32;
/** Fewest bytes of a secret that an operator brings along. */
const SECRET_MIN_BYTES = 24;
const SECRET_MAX_BYTES = 64;
const PREFIX = "whsec_";

/** A new secret. */
export function makeWebhookSecret(): string {
  return PREFIX + randomBytes(SECRET_BYTES).toString("base64");
}

/** Why a text is no secret; undefined where it is one. */
export function webhookSecretFault(text: string): string | undefined {
  if (!/^whsec_[A-Za-z0-9+/]+={0,2}$/.test(text)) return "must be whsec_ and base64";
  const { length } = Buffer.from(text.slice(PREFIX.length), "base64");
  return length < SECRET_MIN_BYTES || length > SECRET_MAX_BYTES
    ? `must hold ${SECRET_MIN_BYTES} to ${SECRET_MAX_BYTES} bytes`
    : undefined;
}

/** The headers of a message that say who sent it, and when. */
export function signatureHeaders(
  secret: string,
  { id, sentAtMs, body }: { readonly id: string; readonly sentAtMs: number; readonly body: string },
): Record<string, string> {
  const timestamp = String(Math.floor(sentAtMs / 1000));
  const key = Buffer.from(secret.slice(PREFIX.length), "base64");
  const signature = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
  return { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": `v1,${signature}` };
}
