/**
 * SHA-256, and HKDF (RFC 5869) based on it, for key schedules and proofs.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Bytes } from "../bytes/bytes.ts";
import { hmacSha256 } from "./hmac.ts";

const HASH_BYTES = 32;

/** SHA-256 of the concatenated parts. */
export function sha256(...parts: readonly (Bytes | string)[]): Bytes {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

/** HKDF-Extract with SHA-256 (RFC 5869); `parts` are concatenated to form the input key material. */
export function hkdfExtract(salt: Bytes, ...parts: readonly Bytes[]): Bytes {
  return hmacSha256(salt, ...parts);
}

/** HKDF-Expand with SHA-256 (RFC 5869), up to 64 bytes. */
export function hkdfExpand(key: Bytes, info: string, size: number): Bytes {
  const label = new TextEncoder().encode(info);
  const first = hmacSha256(key, label, Uint8Array.of(1));
  if (size <= HASH_BYTES) return first.slice(0, size);
  const output = new Uint8Array(2 * HASH_BYTES);
  output.set(first);
  output.set(hmacSha256(key, first, label, Uint8Array.of(2)), HASH_BYTES);
  return output.slice(0, size);
}
