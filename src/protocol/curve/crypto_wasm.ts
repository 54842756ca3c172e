/**
 * The curve transport's cryptography by `libsodium-wrappers`, for machines that load no native code. The AEAD is called
 * on the raw module, with buffers that are allocated once: the wrappers allocate for every call.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { type CurveCrypto, KEY_BYTES, NONCE_BYTES, TAG_BYTES } from "./crypto.ts";

/** The raw module below the wrappers: addresses are numbers, 64-bit lengths two of them (low, high). */
interface Raw {
  /** The module's memory; another object after it grew, so never kept. */
  readonly HEAPU8: Bytes;
  _malloc(size: number): number;
  _crypto_aead_chacha20poly1305_ietf_encrypt(...args: number[]): number;
  _crypto_aead_chacha20poly1305_ietf_decrypt(...args: number[]): number;
}

type Wrappers = (typeof import("libsodium-wrappers"))["default"];

/** UDP's largest payload. */
const ROOM_BYTES = 65_536;
const AD_ROOM_BYTES = 256;

/** Loads and compiles `libsodium-wrappers`. */
export async function loadWasmCrypto(): Promise<CurveCrypto> {
  const loaded = await import("libsodium-wrappers");
  await loaded.ready;
  return new WasmCrypto(loaded.default, (loaded as unknown as { libsodium: Raw }).libsodium);
}

class WasmCrypto implements CurveCrypto {
  readonly name = "wasm";
  readonly #wrappers: Wrappers;
  readonly #raw: Raw;
  readonly #input: number;
  readonly #output: number;
  readonly #ad: number;
  readonly #nonce: number;
  readonly #key: number;

  constructor(wrappers: Wrappers, raw: Raw) {
    this.#wrappers = wrappers;
    this.#raw = raw;
    this.#input = raw._malloc(ROOM_BYTES);
    this.#output = raw._malloc(ROOM_BYTES);
    this.#ad = raw._malloc(AD_ROOM_BYTES);
    this.#nonce = raw._malloc(NONCE_BYTES);
    this.#key = raw._malloc(KEY_BYTES);
  }

  publicKey(secretKey: Bytes): Bytes {
    return this.#wrappers.crypto_scalarmult_base(secretKey) as Bytes;
  }

  shared(secretKey: Bytes, publicKey: Bytes): Bytes | undefined {
    try {
      const shared = this.#wrappers.crypto_scalarmult(secretKey, publicKey) as Bytes;
      return shared.every((byte) => byte === 0) ? undefined : shared;
    } catch {
      return undefined;
    }
  }

  seal(sealed: Bytes, plain: Bytes, ad: Bytes, nonce: Bytes, key: Bytes): void {
    this.#enter(plain, sealed.length, ad, nonce, key);
    this.#raw._crypto_aead_chacha20poly1305_ietf_encrypt(
      this.#output,
      0,
      this.#input,
      plain.length,
      0,
      this.#ad,
      ad.length,
      0,
      0,
      this.#nonce,
      this.#key,
    );
    this.#leave(sealed);
  }

  open(plain: Bytes, sealed: Bytes, ad: Bytes, nonce: Bytes, key: Bytes): boolean {
    if (sealed.length < TAG_BYTES) return false;
    this.#enter(sealed, plain.length, ad, nonce, key);
    const failed = this.#raw._crypto_aead_chacha20poly1305_ietf_decrypt(
      this.#output,
      0,
      0,
      this.#input,
      sealed.length,
      0,
      this.#ad,
      ad.length,
      0,
      this.#nonce,
      this.#key,
    );
    if (failed !== 0) return false;
    this.#leave(plain);
    return true;
  }

  #enter(input: Bytes, outputBytes: number, ad: Bytes, nonce: Bytes, key: Bytes): void {
    if (Math.max(input.length, outputBytes) > ROOM_BYTES || ad.length > AD_ROOM_BYTES) {
      throw new RangeError("longer than any packet");
    }
    const memory = this.#raw.HEAPU8;
    memory.set(input, this.#input);
    memory.set(ad, this.#ad);
    memory.set(nonce, this.#nonce);
    memory.set(key, this.#key);
  }

  #leave(output: Bytes): void {
    const from = this.#output;
    output.set(this.#raw.HEAPU8.subarray(from, from + output.length));
    this.#raw.HEAPU8.fill(0, this.#key, this.#key + KEY_BYTES);
  }
}
