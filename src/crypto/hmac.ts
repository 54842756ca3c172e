/**
 * HMAC-SHA-256 (RFC 2104) with two one-shot hashes: on Deno they cost a third of `createHmac`.
 *
 * @module
 */
import { hash } from "node:crypto";
import type { Bytes } from "../bytes/bytes.ts";

const BLOCK_BYTES = 64;
const HASH_BYTES = 32;

/** The MAC of the concatenated parts, with a key of at most 64 bytes. */
export function hmacSha256(key: Bytes, ...parts: readonly Bytes[]): Bytes {
  const length = parts.reduce((sum, part) => sum + part.length, BLOCK_BYTES);
  const inner = new Uint8Array(length).fill(0x36, 0, BLOCK_BYTES);
  const outer = new Uint8Array(BLOCK_BYTES + HASH_BYTES).fill(0x5c, 0, BLOCK_BYTES);
  for (let i = 0; i < key.length; i++) {
    inner[i]! ^= key[i]!;
    outer[i]! ^= key[i]!;
  }
  let at = BLOCK_BYTES;
  for (const part of parts) {
    inner.set(part, at);
    at += part.length;
  }
  // Hexadecimal is faster than a buffer on Deno.
  outer.subarray(BLOCK_BYTES).setFromHex(hash("sha256", inner, "hex"));
  return Uint8Array.fromHex(hash("sha256", outer, "hex"));
}
