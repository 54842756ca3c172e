/**
 * The system's OpenSSL on Deno, whose own AES-GCM and ChaCha20-Poly1305 are slow: AES-256-GCM at 0.2 GB/s versus 4.9,
 * and libsodium's ChaCha20-Poly1305 at 1.5 GB/s versus 4.5 (with AVX-512). Bun includes BoringSSL and doesn't need
 * this.
 *
 * @module
 */
import type { Aead, AeadName } from "../../crypto/aead.ts";
import { KEY_BYTES, NONCE_BYTES, TAG_BYTES } from "../../crypto/sodium.ts";
import type { Bytes } from "../port.ts";

/** OpenSSL 3, whose functions used below are stable; located by the system's loader. */
const LIBRARY = "libcrypto.so.3";

const FUNCTIONS = {
  EVP_CIPHER_CTX_new: { parameters: [], result: "pointer" },
  EVP_aes_256_gcm: { parameters: [], result: "pointer" },
  EVP_chacha20_poly1305: { parameters: [], result: "pointer" },
  EVP_CipherInit_ex: {
    parameters: ["pointer", "pointer", "pointer", "buffer", "buffer", "i32"],
    result: "i32",
  },
  EVP_CipherUpdate: { parameters: ["pointer", "buffer", "buffer", "buffer", "i32"], result: "i32" },
  EVP_CipherFinal_ex: { parameters: ["pointer", "buffer", "buffer"], result: "i32" },
  EVP_CIPHER_CTX_ctrl: { parameters: ["pointer", "i32", "i32", "buffer"], result: "i32" },
} as const;

type Library = Deno.DynamicLibrary<typeof FUNCTIONS>["symbols"];

/** From openssl/evp.h. */
const GET_TAG = 0x10;
const SET_TAG = 0x11;
const ENCRYPT = 1;
const DECRYPT = 0;

/** Opens OpenSSL if it is installed and native code is permitted without a prompt; else returns none. */
export function openOpensslAeads(): readonly Aead[] {
  if (Deno.build.os !== "linux") return [];
  try {
    if (Deno.permissions.querySync({ name: "ffi", path: LIBRARY }).state !== "granted") return [];
    const library = Deno.dlopen(LIBRARY, FUNCTIONS).symbols;
    return [
      ...make("chacha20-poly1305", library, library.EVP_chacha20_poly1305()),
      ...make("aes-256-gcm", library, library.EVP_aes_256_gcm()),
    ];
  } catch {
    return [];
  }
}

/** Empty if the library lacks the cipher: FIPS providers lack ChaCha20-Poly1305. */
function make(name: AeadName, library: Library, cipher: Deno.PointerValue): OpensslAead[] {
  try {
    return [new OpensslAead(name, library, cipher)];
  } catch {
    return [];
  }
}

/** One cipher. Lengths are checked here, since the library doesn't check them. */
class OpensslAead implements Aead {
  readonly name: AeadName;
  readonly #library: Library;
  readonly #context: Deno.PointerValue;
  /** Where OpenSSL writes its output length, and the final output, which is empty. */
  readonly #written = new Uint8Array(4);
  readonly #rest = new Uint8Array(TAG_BYTES);

  constructor(name: AeadName, library: Library, cipher: Deno.PointerValue) {
    this.name = name;
    this.#library = library;
    this.#context = library.EVP_CIPHER_CTX_new();
    if (cipher === null || this.#context === null) throw failed(name);
    if (library.EVP_CipherInit_ex(this.#context, cipher, null, null, null, ENCRYPT) !== 1) throw failed(name);
  }

  seal(plain: Bytes, into: Bytes, nonce: Bytes, key: Bytes): void {
    checkSizes(plain, into, nonce, key);
    const size = plain.length;
    const library = this.#library;
    const done = library.EVP_CipherInit_ex(this.#context, null, null, key, nonce, ENCRYPT) === 1 &&
      (size === 0 || library.EVP_CipherUpdate(this.#context, into, this.#written, plain, size) === 1) &&
      library.EVP_CipherFinal_ex(this.#context, this.#rest, this.#written) === 1 &&
      library.EVP_CIPHER_CTX_ctrl(this.#context, GET_TAG, TAG_BYTES, into.subarray(size)) === 1;
    if (!done) throw failed(this.name);
  }

  open(sealed: Bytes, into: Bytes, nonce: Bytes, key: Bytes): boolean {
    checkSizes(into, sealed, nonce, key);
    const size = into.length;
    const library = this.#library;
    const ready = library.EVP_CipherInit_ex(this.#context, null, null, key, nonce, DECRYPT) === 1 &&
      library.EVP_CIPHER_CTX_ctrl(this.#context, SET_TAG, TAG_BYTES, sealed.subarray(size)) === 1;
    if (!ready) throw failed(this.name);
    const genuine =
      (size === 0 || library.EVP_CipherUpdate(this.#context, into, this.#written, sealed, size) === 1) &&
      library.EVP_CipherFinal_ex(this.#context, this.#rest, this.#written) === 1;
    // Unauthenticated plaintext must not be used.
    if (!genuine) into.fill(0);
    return genuine;
  }
}

function checkSizes(plain: Bytes, sealed: Bytes, nonce: Bytes, key: Bytes): void {
  if (sealed.length !== plain.length + TAG_BYTES) throw new TypeError("the output has the wrong size");
  if (nonce.length !== NONCE_BYTES || key.length !== KEY_BYTES) {
    throw new TypeError("a nonce has 12 bytes and a key 32");
  }
}

function failed(name: AeadName): Error {
  return new Error(`Cannot use ${name} of ${LIBRARY}: it failed`);
}
