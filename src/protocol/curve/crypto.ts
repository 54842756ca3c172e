/**
 * The cryptography of the curve transport as a port: X25519 and ChaCha20-Poly1305 (RFC 7748, RFC 8439), from
 * `sodium-native` (2.0 to 2.7 µs for a packet of 1200 bytes on either runtime) or, where native code can't be loaded,
 * from `libsodium-wrappers` (3.5 µs). node:crypto was measured too: it has no such AEAD on Bun and takes 4.6 µs on Deno;
 * its AES-256-GCM takes 1.5 and 11 µs.
 *
 * @module
 */
import { createHash, createHmac } from "node:crypto";
import type { Bytes } from "../../bytes/bytes.ts";
import { errorMessage, SallyportError } from "../../errors.ts";

/** Bytes of an X25519 key, secret or public, and of an AEAD key. */
export const KEY_BYTES = 32;
/** Bytes that the AEAD adds. */
export const TAG_BYTES = 16;
/** Bytes of an AEAD nonce. */
export const NONCE_BYTES = 12;

/** An X25519 key pair. */
export interface CurveKeyPair {
  readonly publicKey: Bytes;
  readonly secretKey: Bytes;
}

/** What the curve transport needs of libsodium. Calls are synchronous; buffers must have the exact sizes. */
export interface CurveCrypto {
  /** `native`: sodium-native; `wasm`: libsodium-wrappers. */
  readonly name: "native" | "wasm";
  /** The public key of a secret one. */
  publicKey(secretKey: Bytes): Bytes;
  /** X25519; undefined when the result is all zeros (a public key of low order). */
  shared(secretKey: Bytes, publicKey: Bytes): Bytes | undefined;
  /** Encrypts `plain` into `sealed`, which is {@link TAG_BYTES} longer and lies elsewhere in memory. */
  seal(sealed: Bytes, plain: Bytes, ad: Bytes, nonce: Bytes, key: Bytes): void;
  /** Undoes {@link seal} into `plain`; false when anything was altered, and `plain` means nothing then. */
  open(plain: Bytes, sealed: Bytes, ad: Bytes, nonce: Bytes, key: Bytes): boolean;
}

/** A key pair from 32 random bytes, which it keeps. */
export function keyPair(crypto: CurveCrypto, secretKey: Bytes): CurveKeyPair {
  return { secretKey, publicKey: crypto.publicKey(secretKey) };
}

/**
 * Loads the native implementation, or the WASM one where that fails; `kind` asks for one of them. Rejects with
 * `not_supported`.
 */
export async function loadCurveCrypto(kind?: "native" | "wasm"): Promise<CurveCrypto> {
  let reason = "";
  if (kind !== "wasm") {
    try {
      return await (await import("./crypto_native.ts")).loadNativeCrypto();
    } catch (error) {
      reason = `sodium-native: ${errorMessage(error)}`;
    }
  }
  if (kind !== "native") {
    try {
      return await (await import("./crypto_wasm.ts")).loadWasmCrypto();
    } catch (error) {
      reason += `${reason === "" ? "" : "; "}libsodium-wrappers: ${errorMessage(error)}`;
    }
  }
  throw new SallyportError("not_supported", `Cannot load libsodium: ${reason}`, { side: "local" });
}

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
