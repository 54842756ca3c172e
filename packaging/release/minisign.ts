/**
 * Signatures that minisign verifies (https://jedisct1.github.io/minisign/, section "Signature format"): Ed25519 over the
 * file's BLAKE2b-512. No package of the npm registry makes them; libsodium has both pieces.
 *
 * @module
 */
import sodium from "libsodium-wrappers";

await sodium.ready;

const ALGORITHM = "Ed";
const HASHED = "ED";
const KEY_NUMBER_BYTES = 8;
const SECRET_BYTES = 64;
const CHECKSUM_BYTES = 32;
/** Ahead of a secret key's number: three algorithms of two bytes, 32 bytes of salt, and two limits of eight. */
const SECRET_HEAD_BYTES = 2 + 2 + 2 + 32 + 8 + 8;

/** A pair of keys as minisign keeps them in files. */
export interface MinisignKeys {
  /** The secret key's file; not encrypted, as `minisign -G -W` makes it. */
  readonly secret: string;
  /** The public key's file, minisign.pub. */
  readonly public: string;
}

const latin1 = (text: string): Uint8Array => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");

/** Makes a pair of keys. */
export function makeKeys(): MinisignKeys {
  const { publicKey, privateKey } = sodium.crypto_sign_keypair();
  const number = sodium.randombytes_buf(KEY_NUMBER_BYTES);
  const checksum = sodium.crypto_generichash(
    CHECKSUM_BYTES,
    joined(latin1(ALGORITHM), number, privateKey),
    null,
  );
  const head = joined(latin1(ALGORITHM), Uint8Array.of(0, 0), latin1("B2"), new Uint8Array(32 + 8 + 8));
  const name = keyName(number);
  return {
    secret: `untrusted comment: minisign secret key ${name}\n${
      base64(joined(head, number, privateKey, checksum))
    }\n`,
    public: `untrusted comment: minisign public key ${name}\n${
      base64(joined(latin1(ALGORITHM), number, publicKey))
    }\n`,
  };
}

/**
 * Signs a file's bytes; the result is the content of FILE.minisig.
 *
 * @param secret a secret key's file
 * @param comment what the signature vouches for besides the bytes: one line
 */
export function sign(bytes: Uint8Array, secret: string, comment: string): string {
  const { number, key } = readSecret(secret);
  const signature = sodium.crypto_sign_detached(sodium.crypto_generichash(64, bytes, null), key);
  const global = sodium.crypto_sign_detached(joined(signature, new TextEncoder().encode(comment)), key);
  return [
    `untrusted comment: signature from minisign secret key ${keyName(number)}`,
    base64(joined(latin1(HASHED), number, signature)),
    `trusted comment: ${comment}`,
    base64(global),
    "",
  ].join("\n");
}

/** Whether a signature is that of these bytes and of a public key's file. */
export function verify(bytes: Uint8Array, signature: string, publicKey: string): boolean {
  const [, encoded = "", commentLine = "", global = ""] = signature.split("\n");
  const known = decode(publicKey, 2 + KEY_NUMBER_BYTES + 32, "public key");
  const given = new Uint8Array(Buffer.from(encoded, "base64"));
  if (given.length !== 2 + KEY_NUMBER_BYTES + 64 || !commentLine.startsWith("trusted comment: ")) {
    return false;
  }
  const numberOf = (of: Uint8Array) => keyName(of.subarray(2, 2 + KEY_NUMBER_BYTES));
  if (String.fromCharCode(given[0]!, given[1]!) !== HASHED || numberOf(given) !== numberOf(known)) {
    return false;
  }
  const [key, made] = [known.subarray(2 + KEY_NUMBER_BYTES), given.subarray(2 + KEY_NUMBER_BYTES)];
  const comment = new TextEncoder().encode(commentLine.slice("trusted comment: ".length));
  const whole = new Uint8Array(Buffer.from(global, "base64"));
  return whole.length === 64 &&
    sodium.crypto_sign_verify_detached(made, sodium.crypto_generichash(64, bytes, null), key) &&
    sodium.crypto_sign_verify_detached(whole, joined(made, comment), key);
}

function readSecret(text: string): { number: Uint8Array; key: Uint8Array } {
  const bytes = decode(
    text,
    SECRET_HEAD_BYTES + KEY_NUMBER_BYTES + SECRET_BYTES + CHECKSUM_BYTES,
    "secret key",
  );
  if (bytes[2] !== 0 || bytes[3] !== 0) {
    throw new Error(
      "Cannot sign: the secret key is encrypted by a password; make one without by `minisign -G -W`",
    );
  }
  const at = SECRET_HEAD_BYTES + KEY_NUMBER_BYTES;
  return {
    number: bytes.subarray(SECRET_HEAD_BYTES, at),
    key: bytes.subarray(at, at + SECRET_BYTES),
  };
}

/** The bytes of a key's file, whose first line may be missing: a secret of a build service often is one line. */
function decode(text: string, byteLength: number, what: string): Uint8Array {
  const line = text.trim().split("\n").at(-1) ?? "";
  const bytes = new Uint8Array(Buffer.from(line, "base64"));
  if (bytes.length !== byteLength || String.fromCharCode(bytes[0]!, bytes[1]!) !== ALGORITHM) {
    throw new Error(
      `Cannot read ${what}: it is not one of minisign's, which has ${byteLength} bytes in base64`,
    );
  }
  return bytes;
}

/** A key's number as minisign prints it. */
function keyName(number: Uint8Array): string {
  return Buffer.from(number).reverse().toString("hex").toUpperCase();
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
