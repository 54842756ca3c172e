/**
 * Authentication by a shared secret. Neither side reveals it; each proves possession.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import type { Bytes } from "../../bytes/bytes.ts";
import type { TunnelAttributes } from "../../cluster/registry.ts";
import { SallyportError } from "../../errors.ts";
import { NONCE_BYTES, proveKey, splitClaim, verifyKey } from "./challenge.ts";
import { unauthorized } from "./negotiate.ts";
import type { Authenticator, TunnelCredential } from "./port.ts";
import { TUNNEL_NAME_MAX_BYTES } from "./port.ts";

const METHOD = "secret";
/** Shorter secrets can be brute-forced from one recorded proof. */
const SECRET_MIN_BYTES = 16;

/** The entry for a name. */
export interface SecretEntry {
  /** At least 16 random bytes. */
  readonly secret: Bytes;
  readonly attributes?: TunnelAttributes;
}

/** Accepts a peer that holds the secret of its name; `find` returns the entry of a name, undefined if there is none. */
export function secretAuthenticator(
  find: (name: string) => SecretEntry | undefined | Promise<SecretEntry | undefined>,
): Authenticator {
  return {
    method: METHOD,
    async verify(steps) {
      const claim = splitClaim(await steps.receive());
      if (claim.subject.length > TUNNEL_NAME_MAX_BYTES) throw unauthorized("its name is too long");
      const name = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(claim.subject);
      const entry = await find(name);
      if (entry !== undefined) checkSecret(entry.secret);
      // Unknown names fail at the same step as wrong secrets.
      const key = entry?.secret ?? new Uint8Array(randomBytes(NONCE_BYTES));
      const confirmation = await verifyKey(steps, METHOD, claim, key);
      return {
        name,
        ...entry?.attributes === undefined ? {} : { attributes: entry.attributes },
        confirmation,
      };
    },
  };
}

/** Proves a name's secret. Throws `config_invalid` if it is too short. */
export function secretCredential(name: string, secret: Bytes): TunnelCredential {
  checkSecret(secret);
  const subject = new TextEncoder().encode(name);
  return { method: METHOD, prove: (steps) => proveKey(steps, METHOD, subject, secret) };
}

function checkSecret(secret: Bytes): void {
  if (secret.length >= SECRET_MIN_BYTES) return;
  const why = `the secret has ${secret.length} bytes, needs ${SECRET_MIN_BYTES}`;
  throw new SallyportError("config_invalid", `Cannot authenticate: ${why}`, { side: "config" });
}
