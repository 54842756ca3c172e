/**
 * The curve transport's cryptography by `sodium-native`.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { type CurveCrypto, KEY_BYTES } from "./crypto.ts";

/** The part of sodium-native that is used; the package brings no types. */
interface Native {
  crypto_scalarmult_base(publicKey: Bytes, secretKey: Bytes): void;
  crypto_scalarmult(shared: Bytes, secretKey: Bytes, publicKey: Bytes): void;
  crypto_aead_chacha20poly1305_ietf_encrypt(
    sealed: Bytes,
    plain: Bytes,
    ad: Bytes,
    secretNonce: null,
    nonce: Bytes,
    key: Bytes,
  ): number;
  crypto_aead_chacha20poly1305_ietf_decrypt(
    plain: Bytes,
    secretNonce: null,
    sealed: Bytes,
    ad: Bytes,
    nonce: Bytes,
    key: Bytes,
  ): number;
}

/** Loads `sodium-native`; rejects with whatever the runtime says when that doesn't work. */
export async function loadNativeCrypto(): Promise<CurveCrypto> {
  // @ts-ignore: the package brings no types; Native above is what is used of it
  const loaded = await import("sodium-native") as unknown as { default: Native };
  return new NativeCrypto(loaded.default);
}

class NativeCrypto implements CurveCrypto {
  readonly name = "native";
  readonly #native: Native;

  constructor(native: Native) {
    this.#native = native;
  }

  publicKey(secretKey: Bytes): Bytes {
    const publicKey = new Uint8Array(KEY_BYTES);
    this.#native.crypto_scalarmult_base(publicKey, secretKey);
    return publicKey;
  }

  shared(secretKey: Bytes, publicKey: Bytes): Bytes | undefined {
    const shared = new Uint8Array(KEY_BYTES);
    try {
      this.#native.crypto_scalarmult(shared, secretKey, publicKey);
    } catch {
      return undefined;
    }
    // libsodium refuses these by itself; this costs nothing and doesn't depend on it.
    return shared.every((byte) => byte === 0) ? undefined : shared;
  }

  seal(sealed: Bytes, plain: Bytes, ad: Bytes, nonce: Bytes, key: Bytes): void {
    this.#native.crypto_aead_chacha20poly1305_ietf_encrypt(sealed, plain, ad, null, nonce, key);
  }

  open(plain: Bytes, sealed: Bytes, ad: Bytes, nonce: Bytes, key: Bytes): boolean {
    try {
      this.#native.crypto_aead_chacha20poly1305_ietf_decrypt(plain, null, sealed, ad, nonce, key);
      return true;
    } catch {
      return false;
    }
  }
}
