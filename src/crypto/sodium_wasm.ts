/**
 * libsodium as WebAssembly, using `libsodium-wrappers`: for machines that can't load native code.
 *
 * The wrappers keep the state of a secretstream in the WASM memory and never free it, and they allocate for each
 * message. So its three functions are called on the raw module: states live in JavaScript and are copied in and out (52
 * bytes), and messages go through two buffers that are allocated once.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";
import {
  KEY_BYTES,
  type KeyPair,
  NONCE_BYTES,
  SEAL_BYTES,
  type SessionKeys,
  type Sodium,
  STREAM_EXTRA_BYTES,
  STREAM_HEADER_BYTES,
  STREAM_STATE_BYTES,
  TAG_BYTES,
} from "./sodium.ts";
import { nodeHasX25519, nodePublicKey, nodeSharedSecret } from "./x25519_node.ts";

/** The raw module below the wrappers: addresses are numbers, 64-bit lengths two of them (low, high). */
interface Raw {
  /** The module's memory; replaced when it grows, so never cached. */
  readonly HEAPU8: Bytes;
  _malloc(size: number): number;
  _free(address: number): void;
  _crypto_secretstream_xchacha20poly1305_init_pull(state: number, header: number, key: number): number;
  _crypto_aead_chacha20poly1305_ietf_encrypt(
    sealed: number,
    sealedLength: number,
    plain: number,
    plainLow: number,
    plainHigh: number,
    ad: number,
    adLow: number,
    adHigh: number,
    unused: number,
    nonce: number,
    key: number,
  ): number;
  _crypto_aead_chacha20poly1305_ietf_decrypt(
    plain: number,
    plainLength: number,
    unused: number,
    sealed: number,
    sealedLow: number,
    sealedHigh: number,
    ad: number,
    adLow: number,
    adHigh: number,
    nonce: number,
    key: number,
  ): number;
  _crypto_secretstream_xchacha20poly1305_push(
    state: number,
    sealed: number,
    sealedLength: number,
    plain: number,
    plainLow: number,
    plainHigh: number,
    ad: number,
    adLow: number,
    adHigh: number,
    tag: number,
  ): number;
  _crypto_secretstream_xchacha20poly1305_pull(
    state: number,
    plain: number,
    plainLength: number,
    tag: number,
    sealed: number,
    sealedLow: number,
    sealedHigh: number,
    ad: number,
    adLow: number,
    adHigh: number,
  ): number;
}

type Wrappers = (typeof import("libsodium-wrappers"))["default"];

/** Loads and compiles `libsodium-wrappers`; `runtimeX25519` says whether to use the runtime's X25519 instead. */
export async function loadWasmSodium(runtimeX25519: boolean = nodeHasX25519()): Promise<Sodium> {
  const loaded = await import("libsodium-wrappers");
  await loaded.ready;
  const raw = (loaded as unknown as { libsodium: Raw }).libsodium;
  return new WasmSodium(loaded.default, raw, runtimeX25519);
}

/** Addresses of the arguments of an AEAD call. */
interface Places {
  readonly nonceAt: number;
  readonly keyAt: number;
  adAt: number;
}

const NOTHING: Bytes = new Uint8Array(0);

class WasmSodium implements Sodium {
  readonly name = "wasm";
  readonly #wrappers: Wrappers;
  readonly #raw: Raw;
  readonly #runtimeX25519: boolean;
  /** State, header, key and tag, in sequence. */
  readonly #small: number;
  readonly #places: Places;
  /** Two buffers of #room bytes: input and output. */
  #input = 0;
  #output = 0;
  #room = 0;

  constructor(wrappers: Wrappers, raw: Raw, runtimeX25519: boolean) {
    this.#runtimeX25519 = runtimeX25519;
    this.#wrappers = wrappers;
    this.#raw = raw;
    this.#small = raw._malloc(STREAM_STATE_BYTES + STREAM_HEADER_BYTES + KEY_BYTES + 4);
    const nonceAt = this.#small + STREAM_STATE_BYTES;
    this.#places = { nonceAt, keyAt: nonceAt + STREAM_HEADER_BYTES, adAt: 0 };
  }

  randomBytes = (into: Bytes): void => into.set(this.#wrappers.randombytes_buf(into.length));

  publicKey(secretKey: Bytes): Bytes {
    if (secretKey.length !== KEY_BYTES) throw new TypeError("a secret key has 32 bytes");
    if (this.#runtimeX25519) return nodePublicKey(secretKey);
    return this.#wrappers.crypto_scalarmult_base(secretKey) as Bytes;
  }

  sealBox(plain: Bytes, publicKey: Bytes): Bytes {
    return this.#wrappers.crypto_box_seal(plain, publicKey) as Bytes;
  }

  openBox(sealed: Bytes, keys: KeyPair): Bytes | undefined {
    if (sealed.length < SEAL_BYTES) return undefined;
    try {
      return this.#wrappers.crypto_box_seal_open(sealed, keys.publicKey, keys.secretKey) as Bytes;
    } catch {
      return undefined;
    }
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
    if (publicKey.length !== KEY_BYTES) throw new TypeError("a public key has 32 bytes");
    try {
      const keys = this.#wrappers[role](own.publicKey, own.secretKey, publicKey);
      return { rx: keys.sharedRx as Bytes, tx: keys.sharedTx as Bytes };
    } catch {
      return undefined;
    }
  }

  hash(size: number, input: Bytes, key?: Bytes): Bytes {
    return this.#wrappers.crypto_generichash(size, input, key ?? null) as Bytes;
  }

  sharedSecret(secretKey: Bytes, publicKey: Bytes): Bytes | undefined {
    if (secretKey.length !== KEY_BYTES || publicKey.length !== KEY_BYTES) {
      throw new TypeError("a key has 32 bytes");
    }
    if (this.#runtimeX25519) return nodeSharedSecret(secretKey, publicKey);
    try {
      const secret = this.#wrappers.crypto_scalarmult(secretKey, publicKey) as Bytes;
      return secret.some((byte) => byte !== 0) ? secret : undefined;
    } catch {
      return undefined;
    }
  }

  seal(plain: Bytes, into: Bytes, nonce: Bytes, key: Bytes, associated: Bytes = NOTHING): void {
    if (into.length !== plain.length + TAG_BYTES) throw new TypeError("the output has the wrong size");
    const { nonceAt, keyAt, adAt } = this.#enter(plain, nonce, key, associated);
    this.#raw._crypto_aead_chacha20poly1305_ietf_encrypt(
      this.#output,
      0,
      this.#input,
      plain.length,
      0,
      adAt,
      associated.length,
      0,
      0,
      nonceAt,
      keyAt,
    );
    this.#leave(into);
    this.#wipeKey();
  }

  open(sealed: Bytes, into: Bytes, nonce: Bytes, key: Bytes, associated: Bytes = NOTHING): boolean {
    if (sealed.length !== into.length + TAG_BYTES) throw new TypeError("the output has the wrong size");
    const { nonceAt, keyAt, adAt } = this.#enter(sealed, nonce, key, associated);
    const failed = this.#raw._crypto_aead_chacha20poly1305_ietf_decrypt(
      this.#output,
      0,
      0,
      this.#input,
      sealed.length,
      0,
      adAt,
      associated.length,
      0,
      nonceAt,
      keyAt,
    );
    if (failed === 0) this.#leave(into);
    this.#wipeKey();
    return failed === 0;
  }

  /**
   * Copies the AEAD's input into the module's memory: nonce and key use the space of a secretstream's header and key.
   */
  #enter(input: Bytes, nonce: Bytes, key: Bytes, associated: Bytes): Places {
    if (nonce.length !== NONCE_BYTES || key.length !== KEY_BYTES) {
      throw new TypeError("a nonce has 12 bytes and a key 32");
    }
    this.#reserve(input.length + TAG_BYTES + associated.length);
    const places = this.#places;
    places.adAt = this.#input + input.length;
    const memory = this.#raw.HEAPU8;
    memory.set(input, this.#input);
    memory.set(associated, places.adAt);
    memory.set(nonce, places.nonceAt);
    memory.set(key, places.keyAt);
    return places;
  }

  #leave(into: Bytes): void {
    into.set(this.#raw.HEAPU8.subarray(this.#output, this.#output + into.length));
  }

  #wipeKey(): void {
    const { keyAt } = this.#places;
    this.#raw.HEAPU8.fill(0, keyAt, keyAt + KEY_BYTES);
  }

  equal(a: Bytes, b: Bytes): boolean {
    return a.length === b.length && this.#wrappers.memcmp(a, b);
  }

  streamState(key: Bytes, header: Bytes): Bytes {
    if (key.length !== KEY_BYTES) throw new TypeError("a stream's key has 32 bytes");
    if (header.length !== STREAM_HEADER_BYTES) throw new TypeError("a stream's header has 24 bytes");
    const raw = this.#raw;
    const headerAt = this.#small + STREAM_STATE_BYTES;
    const keyAt = headerAt + STREAM_HEADER_BYTES;
    raw.HEAPU8.set(header, headerAt);
    raw.HEAPU8.set(key, keyAt);
    raw._crypto_secretstream_xchacha20poly1305_init_pull(this.#small, headerAt, keyAt);
    raw.HEAPU8.fill(0, keyAt, keyAt + KEY_BYTES);
    return this.#takeState();
  }

  push(state: Bytes, plain: Bytes, into: Bytes, tag: number): void {
    if (into.length !== plain.length + STREAM_EXTRA_BYTES) {
      throw new TypeError("the output has the wrong size");
    }
    const raw = this.#raw;
    this.#reserve(into.length);
    raw.HEAPU8.set(state, this.#small);
    raw.HEAPU8.set(plain, this.#input);
    raw._crypto_secretstream_xchacha20poly1305_push(
      this.#small,
      this.#output,
      0,
      this.#input,
      plain.length,
      0,
      0,
      0,
      0,
      tag,
    );
    into.set(raw.HEAPU8.subarray(this.#output, this.#output + into.length));
    this.#putState(state);
  }

  pull(state: Bytes, sealed: Bytes, into: Bytes): number {
    if (sealed.length !== into.length + STREAM_EXTRA_BYTES) {
      throw new TypeError("the output has the wrong size");
    }
    const raw = this.#raw;
    const tagAt = this.#small + STREAM_STATE_BYTES + STREAM_HEADER_BYTES + KEY_BYTES;
    this.#reserve(sealed.length);
    raw.HEAPU8.set(state, this.#small);
    raw.HEAPU8.set(sealed, this.#input);
    const failed = raw._crypto_secretstream_xchacha20poly1305_pull(
      this.#small,
      this.#output,
      0,
      tagAt,
      this.#input,
      sealed.length,
      0,
      0,
      0,
      0,
    );
    if (failed !== 0) return -1;
    into.set(raw.HEAPU8.subarray(this.#output, this.#output + into.length));
    this.#putState(state);
    return raw.HEAPU8[tagAt] as number;
  }

  #takeState(): Bytes {
    return this.#raw.HEAPU8.slice(this.#small, this.#small + STREAM_STATE_BYTES);
  }

  #putState(state: Bytes): void {
    state.set(this.#raw.HEAPU8.subarray(this.#small, this.#small + STREAM_STATE_BYTES));
  }

  /** Grows both buffers to at least `size` bytes. */
  #reserve(size: number): void {
    if (size <= this.#room) return;
    const room = Math.max(4096, 2 ** Math.ceil(Math.log2(size)));
    if (this.#room > 0) {
      this.#raw._free(this.#input);
      this.#raw._free(this.#output);
    }
    this.#input = this.#raw._malloc(room);
    this.#output = this.#raw._malloc(room);
    this.#room = room;
  }
}
