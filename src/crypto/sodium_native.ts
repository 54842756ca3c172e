/**
 * libsodium as native code, using `sodium-native`. The package contains prebuilt libraries: no install script.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import {
  KEY_BYTES,
  type KeyPair,
  SEAL_BYTES,
  type SessionKeys,
  type Sodium,
  STREAM_STATE_BYTES,
} from "./sodium.ts";

/** The parts of sodium-native that are used; the package has no types. */
export interface Native {
  randombytes_buf(into: Bytes): void;
  sodium_memcmp(a: Bytes, b: Bytes): boolean;
  crypto_scalarmult_base(publicKey: Bytes, secretKey: Bytes): void;
  crypto_box_seal(sealed: Bytes, plain: Bytes, publicKey: Bytes): void;
  crypto_box_seal_open(plain: Bytes, sealed: Bytes, publicKey: Bytes, secretKey: Bytes): boolean;
  crypto_kx_client_session_keys(rx: Bytes, tx: Bytes, pk: Bytes, sk: Bytes, serverPk: Bytes): void;
  crypto_kx_server_session_keys(rx: Bytes, tx: Bytes, pk: Bytes, sk: Bytes, clientPk: Bytes): void;
  crypto_generichash(output: Bytes, input: Bytes, key?: Bytes): void;
  crypto_scalarmult(output: Bytes, secretKey: Bytes, publicKey: Bytes): void;
  crypto_aead_chacha20poly1305_ietf_encrypt(
    sealed: Bytes,
    plain: Bytes,
    ad: Bytes | null,
    unused: null,
    nonce: Bytes,
    key: Bytes,
  ): number;
  crypto_aead_chacha20poly1305_ietf_decrypt(
    plain: Bytes,
    unused: null,
    sealed: Bytes,
    ad: Bytes | null,
    nonce: Bytes,
    key: Bytes,
  ): number;
  crypto_secretstream_xchacha20poly1305_init_pull(state: Bytes, header: Bytes, key: Bytes): void;
  // The tag is a number: given a buffer, Bun silently produces an undecryptable ciphertext.
  crypto_secretstream_xchacha20poly1305_push(
    state: Bytes,
    sealed: Bytes,
    plain: Bytes,
    ad: null,
    tag: number,
  ): number;
  crypto_secretstream_xchacha20poly1305_pull(
    state: Bytes,
    plain: Bytes,
    tag: Bytes,
    sealed: Bytes,
    ad: null,
  ): number;
}

/** Loads `sodium-native`; rejects with the runtime's error if that fails. */
export async function loadNativeSodium(): Promise<Sodium> {
  // @ts-ignore: the package brings no types; Native above is what is used of it
  const loaded = await import("sodium-native") as unknown as { default: Native };
  return new NativeSodium(loaded.default);
}

/** Implements the port with a loaded `sodium-native`. */
export class NativeSodium implements Sodium {
  readonly name = "native";
  readonly #native: Native;
  readonly #tag = new Uint8Array(1);

  constructor(native: Native) {
    this.#native = native;
  }

  randomBytes = (into: Bytes): void => this.#native.randombytes_buf(into);

  publicKey(secretKey: Bytes): Bytes {
    const publicKey = new Uint8Array(KEY_BYTES);
    this.#native.crypto_scalarmult_base(publicKey, secretKey);
    return publicKey;
  }

  sealBox(plain: Bytes, publicKey: Bytes): Bytes {
    const sealed = new Uint8Array(plain.length + SEAL_BYTES);
    this.#native.crypto_box_seal(sealed, plain, publicKey);
    return sealed;
  }

  openBox(sealed: Bytes, keys: { publicKey: Bytes; secretKey: Bytes }): Bytes | undefined {
    if (sealed.length < SEAL_BYTES) return undefined;
    const plain = new Uint8Array(sealed.length - SEAL_BYTES);
    const opened = this.#native.crypto_box_seal_open(plain, sealed, keys.publicKey, keys.secretKey);
    return opened ? plain : undefined;
  }

  clientKeys(own: KeyPair, serverPublicKey: Bytes): SessionKeys | undefined {
    return this.#agree("crypto_kx_client_session_keys", own, serverPublicKey);
  }

  serverKeys(own: KeyPair, clientPublicKey: Bytes): SessionKeys | undefined {
    return this.#agree("crypto_kx_server_session_keys", own, clientPublicKey);
  }

  #agree(
    role: "crypto_kx_client_session_keys" | "crypto_kx_server_session_keys",
    own: KeyPair,
    publicKey: Bytes,
  ): SessionKeys | undefined {
    const rx = new Uint8Array(KEY_BYTES);
    const tx = new Uint8Array(KEY_BYTES);
    if (publicKey.length !== KEY_BYTES) throw new TypeError("a public key has 32 bytes");
    try {
      this.#native[role](rx, tx, own.publicKey, own.secretKey, publicKey);
    } catch {
      return undefined;
    }
    return { rx, tx };
  }

  hash(size: number, input: Bytes, key?: Bytes): Bytes {
    const output = new Uint8Array(size);
    if (key === undefined) this.#native.crypto_generichash(output, input);
    else this.#native.crypto_generichash(output, input, key);
    return output;
  }

  sharedSecret(secretKey: Bytes, publicKey: Bytes): Bytes | undefined {
    if (publicKey.length !== KEY_BYTES) throw new TypeError("a public key has 32 bytes");
    const secret = new Uint8Array(KEY_BYTES);
    try {
      this.#native.crypto_scalarmult(secret, secretKey, publicKey);
    } catch {
      return undefined;
    }
    // libsodium itself refuses keys of low order; this check costs nothing and doesn't rely on that.
    return secret.some((byte) => byte !== 0) ? secret : undefined;
  }

  seal(plain: Bytes, into: Bytes, nonce: Bytes, key: Bytes, associated: Bytes | null = null): void {
    this.#native.crypto_aead_chacha20poly1305_ietf_encrypt(into, plain, associated, null, nonce, key);
  }

  open(sealed: Bytes, into: Bytes, nonce: Bytes, key: Bytes, associated: Bytes | null = null): boolean {
    try {
      this.#native.crypto_aead_chacha20poly1305_ietf_decrypt(into, null, sealed, associated, nonce, key);
      return true;
    } catch {
      return false;
    }
  }

  equal(a: Bytes, b: Bytes): boolean {
    return a.length === b.length && this.#native.sodium_memcmp(a, b);
  }

  streamState(key: Bytes, header: Bytes): Bytes {
    const state = new Uint8Array(STREAM_STATE_BYTES);
    this.#native.crypto_secretstream_xchacha20poly1305_init_pull(state, header, key);
    return state;
  }

  push(state: Bytes, plain: Bytes, into: Bytes, tag: number): void {
    this.#native.crypto_secretstream_xchacha20poly1305_push(state, into, plain, null, tag);
  }

  pull(state: Bytes, sealed: Bytes, into: Bytes): number {
    try {
      this.#native.crypto_secretstream_xchacha20poly1305_pull(state, into, this.#tag, sealed, null);
    } catch {
      return -1;
    }
    return this.#tag[0] as number;
  }
}
