/**
 * The few functions of libsodium that Sallyport uses, as a port with two implementations: `sodium-native` (native
 * code, fast) and `libsodium-wrappers` (WebAssembly, runs everywhere). Neither is loaded before
 * {@link loadSodium} is called. The functions and their formats are libsodium's own (doc.libsodium.org); one
 * conformance suite holds both implementations to the same bytes.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import process from "node:process";
import type { Bytes } from "../bytes/bytes.ts";
import { errorMessage, SallyportError } from "../errors.ts";

/** Bytes of an X25519 key, secret or public. */
export const KEY_BYTES = 32;
/** Bytes a sealed box adds to its plaintext: the sender's one-time public key and the tag. */
export const SEAL_BYTES = 48;
/** Bytes a secretstream message adds to its plaintext: a sealed tag byte and the authenticator. */
export const STREAM_EXTRA_BYTES = 17;
/** Bytes of a secretstream header. */
export const STREAM_HEADER_BYTES = 24;
/** Bytes of the state of one secretstream direction. */
export const STREAM_STATE_BYTES = 52;
/** Bytes of a nonce of {@link Sodium.seal}. */
export const NONCE_BYTES = 12;
/** Bytes that {@link Sodium.seal} adds: the authenticator. */
export const TAG_BYTES = 16;
/** Tag of an ordinary secretstream message. */
export const TAG_MESSAGE = 0;
/** Tag of the last secretstream message. */
export const TAG_FINAL = 3;

/** An X25519 key pair, 32 bytes each. */
export interface KeyPair {
  /** The half that may be published. */
  readonly publicKey: Bytes;
  /** The half to keep secret. */
  readonly secretKey: Bytes;
}

/** The result of `crypto_kx`: a key to receive with and one to send with, 32 bytes each. */
export interface SessionKeys {
  /** To receive with. */
  readonly rx: Bytes;
  /** To send with. */
  readonly tx: Bytes;
}

/** The parts of libsodium used here. All calls are synchronous; wrong lengths throw `TypeError` or `Error`. */
export interface Sodium {
  /** `native`: sodium-native; `wasm`: libsodium-wrappers. */
  readonly name: "native" | "wasm";
  /** Fills `into` with random bytes. */
  randomBytes(into: Bytes): void;
  /** The public key of a secret one (`crypto_scalarmult_base`). */
  publicKey(secretKey: Bytes): Bytes;
  /** `crypto_box_seal`: encrypts for `publicKey` under a one-time key; {@link SEAL_BYTES} longer than `plain`. */
  sealBox(plain: Bytes, publicKey: Bytes): Bytes;
  /** Reverses {@link sealBox}; undefined if the box was sealed for another key or altered. */
  openBox(sealed: Bytes, keys: KeyPair): Bytes | undefined;
  /** `crypto_kx_client_session_keys`; undefined if the server's key is not acceptable (of low order). */
  clientKeys(own: KeyPair, serverPublicKey: Bytes): SessionKeys | undefined;
  /** `crypto_kx_server_session_keys`; undefined if the client's key is not acceptable (of low order). */
  serverKeys(own: KeyPair, clientPublicKey: Bytes): SessionKeys | undefined;
  /** BLAKE2b (`crypto_generichash`) of `input` in `size` bytes (16–64), keyed if `key` (16–64 bytes) is given. */
  hash(size: number, input: Bytes, key?: Bytes): Bytes;
  /** X25519 (`crypto_scalarmult`) of our secret key and another's public key; undefined if that is of low order. */
  sharedSecret(secretKey: Bytes, publicKey: Bytes): Bytes | undefined;
  /**
   * `crypto_aead_chacha20poly1305_ietf_encrypt`: `plain` into `into`, which is {@link TAG_BYTES} longer and must not
   * overlap it. `associated` is authenticated as well. A nonce must not be reused with the same key.
   */
  seal(plain: Bytes, into: Bytes, nonce: Bytes, key: Bytes, associated?: Bytes): void;
  /**
   * Reverses {@link seal} into `into`, {@link TAG_BYTES} shorter; false if the box or `associated` was altered, or it
   * was sealed with another key or nonce. The contents of `into` are then undefined.
   */
  open(sealed: Bytes, into: Bytes, nonce: Bytes, key: Bytes, associated?: Bytes): boolean;
  /** Compares in constant time; returns false immediately for unequal lengths. */
  equal(a: Bytes, b: Bytes): boolean;
  /**
   * The state ({@link STREAM_STATE_BYTES}) of one direction of `crypto_secretstream_xchacha20poly1305`. Sender and
   * receiver start from the same state: the sender chooses `header` ({@link STREAM_HEADER_BYTES}) at random.
   */
  streamState(key: Bytes, header: Bytes): Bytes;
  /** Encrypts `plain` into `into` ({@link STREAM_EXTRA_BYTES} longer, not overlapping) and advances the state. */
  push(state: Bytes, plain: Bytes, into: Bytes, tag: number): void;
  /**
   * Decrypts `sealed` into `into` ({@link STREAM_EXTRA_BYTES} shorter, not overlapping) and advances the state. Returns
   * the message's tag, or −1 if it was altered or isn't the next one; the state is then unchanged.
   */
  pull(state: Bytes, sealed: Bytes, into: Bytes): number;
}

/** A fresh key pair; `random` fills the secret key. */
export function makeKeyPair(sodium: Sodium, random: (into: Bytes) => void = sodium.randomBytes): KeyPair {
  const secretKey = new Uint8Array(KEY_BYTES);
  random(secretKey);
  return keyPair(sodium, secretKey);
}

/** The key pair of a secret key; keeps a reference to the key. */
export function keyPair(sodium: Sodium, secretKey: Bytes): KeyPair {
  return { secretKey, publicKey: sodium.publicKey(secretKey) };
}

/** Loaders of the builds and the callback for a fallback. Default to the packages and process warnings. */
interface SodiumSources {
  native?(): Promise<Sodium>;
  wasm?(): Promise<Sodium>;
  /** Native code was wanted but is unavailable: WebAssembly is used instead. */
  warn?(message: string): void;
}

/**
 * Loads libsodium: the native build, or the WASM one if native code can't be loaded or doesn't work. `kind` requests
 * one of them. Rejects with `not_supported` if it is unavailable.
 */
export async function loadSodium(kind?: "native" | "wasm", sources: SodiumSources = {}): Promise<Sodium> {
  const {
    native = async () => (await import("./sodium_native.ts")).loadNativeSodium(),
    wasm = async () => (await import("./sodium_wasm.ts")).loadWasmSodium(),
    warn = (message) => process.emitWarning(message),
  } = sources;
  let reason = "";
  if (kind !== "wasm") {
    try {
      return proven(await native());
    } catch (error) {
      reason = `sodium-native: ${errorMessage(error)}`;
    }
  }
  if (kind !== "native") {
    try {
      const sodium = proven(await wasm());
      if (kind === undefined) warn(`Using libsodium as WebAssembly, which is slower: ${reason}`);
      return sodium;
    } catch (error) {
      reason += `${reason === "" ? "" : "; "}libsodium-wrappers: ${errorMessage(error)}`;
    }
  }
  const next = kind === "native" ? "; without `--libsodium native` it runs as WebAssembly" : "";
  throw new SallyportError("not_supported", `Cannot load libsodium: ${reason}${next}`, { side: "local" });
}

/**
 * Tests with Bob's keys of RFC 7748, section 6.1. A loaded module may still be empty, as `sodium-native` is in a
 * program that Bun compiled into one file.
 */
function proven(sodium: Sodium): Sodium {
  const secret = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
  const expected = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
  const publicKey = sodium.publicKey(new Uint8Array(Buffer.from(secret, "hex")));
  if (Buffer.from(publicKey).toString("hex") !== expected) {
    throw new SallyportError("not_supported", "Cannot use libsodium: its X25519 gives a wrong key", {
      side: "local",
    });
  }
  return sodium;
}
