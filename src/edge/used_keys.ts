/**
 * Key material that has opened a session: under aes-gcm its second use would repeat nonces (docs/protocols/snitun.md, Faults).
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Bytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";

/** Key material remembered to refuse its second use under aes-gcm; the oldest is forgotten beyond it. */
export const USED_KEYS_MAX = 200_000;

/** Remembers keys until their token expires, in bounded memory. */
export class UsedKeys {
  /** Fingerprint → Unix seconds, in the order of use. */
  readonly #keys = new Map<string, number>();

  /** Marks a key as used; throws `key_reused` where it was. */
  use(key: Bytes, validUntilS: number): void {
    const fingerprint = createHash("sha256").update(key).digest("base64").slice(0, 22);
    if (this.#keys.has(fingerprint)) {
      throw new SallyportError(
        "key_reused",
        "Cannot open session: the token's key has been used before, and aes-gcm allows one session per key; ask for a fresh token",
        { side: "peer" },
      );
    }
    if (this.#keys.size >= USED_KEYS_MAX) {
      const oldest = this.#keys.keys().next();
      if (!oldest.done) this.#keys.delete(oldest.value);
    }
    this.#keys.set(fingerprint, validUntilS);
  }

  /** Forgets keys whose token nobody accepts any more. */
  sweep(nowS: number): void {
    for (const [fingerprint, validUntilS] of this.#keys) {
      if (validUntilS < nowS) this.#keys.delete(fingerprint);
    }
  }
}
