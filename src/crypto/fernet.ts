/**
 * Fernet (github.com/fernet/spec): the envelope of SniTun's tokens. `version 0x80 ‖ time u64 ‖ IV 16 ‖
 * AES-128-CBC ciphertext ‖ HMAC-SHA256`, in URL-safe base64 with padding.
 *
 * Tokens are created and opened with node:crypto, strictly. The npm package `fernet` is the tests' independent check:
 * it opens tokens created here. It isn't used in production, since it depends on the discontinued crypto-js, is ten
 * times slower, accepts unpadded text and returns an empty string for broken padding.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  hash,
  randomBytes,
  timingSafeEqual,
} from "node:crypto";
import type { Bytes } from "../bytes/bytes.ts";
import { SallyportError } from "../errors.ts";
import { decodeBase64Url, decodedLength } from "./base64url.ts";

const VERSION = 0x80;
const HALF_KEY_BYTES = 16;
const KEY_BYTES = 32;
/** A key's 32 bytes in base64: 43 characters and one `=`. */
const KEY_CHARS = 44;
const IV_BYTES = 16;
const IV_AT = 9;
const CIPHERTEXT_AT = IV_AT + IV_BYTES;
const HMAC_BYTES = 32;
const BLOCK_BYTES = 16;
const SHORTEST_BYTES = CIPHERTEXT_AT + BLOCK_BYTES + HMAC_BYTES;
/** Space required in front of a message for its MAC: a block of the hash. */
const ROOM_BYTES = 64;

/** Why a token doesn't open: it is not a Fernet token, no key of the ring made it, or its padding is wrong. */
export type FernetFault = "shape" | "key" | "padding";

const FAULTS: Readonly<Record<FernetFault, string>> = {
  shape: "it isn't a Fernet token",
  key: "no key decrypts it",
  padding: "its padding is invalid",
};

/** A token that {@link FernetRing.open} refuses; code `token_invalid`. */
export class FernetError extends SallyportError {
  /** The reason for the refusal. */
  readonly fault: FernetFault;

  /** Creates the error for a fault. */
  constructor(fault: FernetFault) {
    super("token_invalid", `Cannot open token: ${FAULTS[fault]}`, { side: "peer" });
    this.name = "FernetError";
    this.fault = fault;
  }
}

/** Options of {@link FernetRing.seal}. */
export interface FernetSealOptions {
  /** The token's time stamp in milliseconds since 1970, at least 1000. Defaults to the system's clock. */
  readonly nowMs?: number;
  /** IV of 16 bytes, never reused with the same key; for tests. Defaults to random bytes. */
  readonly iv?: Bytes;
}

interface RingKey {
  readonly signing: MacKey;
  readonly encryption: Bytes;
}

/**
 * The Fernet keys of an edge or a session master, newest first: the first creates tokens, any opens them, so that keys
 * can be rotated.
 */
export class FernetRing {
  #keys: readonly RingKey[] = [];
  /** Buffer for decoding tokens, with room for the MAC in front; on Deno a buffer costs as much as a hash. */
  #work: Bytes = new Uint8Array(1024);

  /**
   * Creates a ring.
   *
   * @param keys newest first, at least one, each 32 bytes in URL-safe base64 with padding, as
   * {@link generateFernetKey} makes them.
   * @throws {SallyportError} `config_invalid`: identifies the key by its position, never by its text.
   */
  constructor(keys: readonly string[]) {
    this.replace(keys);
  }

  /**
   * Replaces all keys: from now on the first one creates tokens, and only these open them.
   *
   * @throws {SallyportError} as the constructor; the ring then keeps its old keys.
   */
  replace(keys: readonly string[]): void {
    if (keys.length === 0) throw keyError("Cannot use Fernet keys: there are none, at least one is needed");
    this.#keys = keys.map((text, index) => {
      const key = decodeKey(text);
      if (key === undefined || key.length !== KEY_BYTES) {
        const why = key === undefined
          ? "isn't URL-safe base64 with padding"
          : `has ${key.length} bytes, needs 32`;
        throw keyError(`Cannot use Fernet key ${index + 1} of ${keys.length}: it ${why}`);
      }
      return { signing: new MacKey(key.slice(0, HALF_KEY_BYTES)), encryption: key.slice(HALF_KEY_BYTES) };
    });
  }

  /** Number of keys in the ring. */
  get size(): number {
    return this.#keys.length;
  }

  /** Creates a token for `payload` with the newest key. */
  seal(payload: Bytes, options: FernetSealOptions = {}): string {
    const { iv = new Uint8Array(randomBytes(IV_BYTES)), nowMs = Date.now() } = options;
    if (iv.length !== IV_BYTES || !(nowMs >= 1000 && nowMs <= Number.MAX_SAFE_INTEGER)) {
      throw new SallyportError("token_invalid", "Cannot make token: needs an IV of 16 bytes and the time", {
        side: "local",
      });
    }
    const { signing, encryption } = this.#keys[0]!;
    const cipher = createCipheriv("aes-128-cbc", encryption, iv);
    const head = Buffer.alloc(IV_AT);
    head[0] = VERSION;
    head.writeBigUInt64BE(BigInt(Math.floor(nowMs / 1000)), 1);
    const signed = Buffer.concat([head, iv, cipher.update(payload), cipher.final()]);
    const mac = createHmac("sha256", signing.key).update(signed).digest();
    return Buffer.concat([signed, mac]).toString("base64").replaceAll("+", "-").replaceAll("/", "_");
  }

  /**
   * Opens a token made with any key of the ring. Strict: URL-safe alphabet, canonical padding, known version, possible
   * length, MAC (compared in constant time), PKCS #7. The time stamp isn't checked (docs/protocols/snitun.md, Token).
   *
   * @throws {FernetError} `token_invalid`, with the fault.
   */
  open(token: Bytes | string): Bytes {
    const opened = this.tryOpen(token);
    if (typeof opened === "string") throw new FernetError(opened);
    return opened;
  }

  /** Like {@link open}, but returns the fault: on Deno an exception costs as much as the rest of a refusal. */
  tryOpen(token: Bytes | string): Bytes | FernetFault {
    const text = typeof token === "string" ? new TextEncoder().encode(token) : token;
    if (!couldBeComplete(text)) return "shape";
    if (this.#work.length < ROOM_BYTES + text.length) {
      this.#work = new Uint8Array(ROOM_BYTES + 2 * text.length);
    }
    const length = decodeBase64Url(text, this.#work, ROOM_BYTES);
    if (length < 0) return "shape";
    const bytes = this.#work.subarray(ROOM_BYTES, ROOM_BYTES + length);
    if (bytes[0] !== VERSION) return "shape";
    const macAt = bytes.length - HMAC_BYTES;
    const mac = bytes.subarray(macAt);
    const signed = this.#work.subarray(0, ROOM_BYTES + macAt);
    for (const { signing, encryption } of this.#keys) {
      if (!timingSafeEqual(signing.macBehindRoom(signed), mac)) continue;
      return decrypt(
        encryption,
        bytes.subarray(IV_AT, CIPHERTEXT_AT),
        bytes.subarray(CIPHERTEXT_AT, macAt),
      ) ??
        "padding";
    }
    return "key";
  }
}

/**
 * An HMAC-SHA256 key (RFC 2104) implemented with two one-shot hashes: on Deno they cost a third of `createHmac`, and a
 * forged token costs the edge one MAC.
 */
class MacKey {
  readonly key: Bytes;
  readonly #inner: Bytes;
  readonly #outer: Bytes;
  /** The last 32 bytes of `#outer`: input of the outer hash, then its result. */
  readonly #result: Bytes;

  /** @param key 1 to 64 bytes. */
  constructor(key: Bytes) {
    this.key = key;
    this.#inner = new Uint8Array(ROOM_BYTES).fill(0x36);
    this.#outer = new Uint8Array(ROOM_BYTES + HMAC_BYTES).fill(0x5c);
    this.#result = this.#outer.subarray(ROOM_BYTES);
    for (let i = 0; i < key.length; i++) {
      this.#inner[i]! ^= key[i]!;
      this.#outer[i]! ^= key[i]!;
    }
  }

  /** The MAC of the bytes after the reserved space in `work`, which is overwritten; valid until the next call. */
  macBehindRoom(work: Bytes): Bytes {
    work.set(this.#inner);
    this.#result.setFromHex(hash("sha256", work, "hex"));
    this.#result.setFromHex(hash("sha256", this.#outer, "hex"));
    return this.#result;
  }
}

/** A new Fernet key: 32 random bytes in URL-safe base64 with padding. */
export function generateFernetKey(): string {
  return `${randomBytes(KEY_BYTES).toString("base64url")}=`;
}

/** Whether `text` is a valid Fernet key for {@link FernetRing}. */
export function isFernetKey(text: string): boolean {
  return text.length === KEY_CHARS && decodeKey(text)?.length === KEY_BYTES;
}

/**
 * Whether the first `length` bytes of `text`, judged by their number and padding only, can be a complete token: base64
 * of 73 + 16 k bytes.
 */
export function couldBeComplete(text: Bytes, length: number = text.length): boolean {
  const bytes = decodedLength(text, length);
  return bytes >= SHORTEST_BYTES && (bytes - SHORTEST_BYTES) % BLOCK_BYTES === 0;
}

/** The bytes of a key's text, of any length; undefined if it isn't URL-safe base64 with padding. */
function decodeKey(text: string): Bytes | undefined {
  const target = new Uint8Array(text.length + 2);
  const length = decodeBase64Url(new TextEncoder().encode(text), target, 0);
  return length < 0 ? undefined : target.subarray(0, length);
}

/** Undefined if the padding isn't valid PKCS #7. */
function decrypt(key: Bytes, iv: Bytes, ciphertext: Bytes): Bytes | undefined {
  const decipher = createDecipheriv("aes-128-cbc", key, iv).setAutoPadding(false);
  const plain = decipher.update(ciphertext);
  // Deno frees the native context here.
  decipher.final();
  const padding = plain[plain.length - 1]!;
  if (padding < 1 || padding > BLOCK_BYTES) return undefined;
  for (let i = 2; i <= padding; i++) {
    if (plain[plain.length - i] !== padding) return undefined;
  }
  return new Uint8Array(plain.subarray(0, plain.length - padding));
}

function keyError(message: string): SallyportError {
  return new SallyportError("config_invalid", message, { side: "config" });
}
