/**
 * SHA-256 and HKDF (RFC 5869) with it, for key schedules.
 *
 * @module
 */
import { createHash, createHmac } from "node:crypto";
import type { Bytes } from "../bytes/bytes.ts";

/** SHA-256 of the parts, one behind the other. */
export function sha256(...parts: readonly (Bytes | string)[]): Bytes {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

/** HKDF-Extract with SHA-256 (RFC 5869); `parts` are the input key material, one behind the other. */
export function hkdfExtract(salt: Bytes, ...parts: readonly Bytes[]): Bytes {
  const hmac = createHmac("sha256", salt);
  for (const part of parts) hmac.update(part);
  return new Uint8Array(hmac.digest());
}

/** HKDF-Expand with SHA-256 (RFC 5869) of at most 64 bytes. */
export function hkdfExpand(key: Bytes, info: string, size: number): Bytes {
  const first = createHmac("sha256", key).update(info).update(Uint8Array.of(1)).digest();
  const output = new Uint8Array(64);
  output.set(first);
  if (size > 32) {
    output.set(createHmac("sha256", key).update(first).update(info).update(Uint8Array.of(2)).digest(), 32);
  }
  return output.slice(0, size);
}
