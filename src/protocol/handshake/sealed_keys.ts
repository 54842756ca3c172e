/**
 * Keys of the sealed transport (docs/protocols/sealed.md, Keys): X25519 and BLAKE2b, both libsodium's.
 *
 * @module
 */
import { type Bytes, concat } from "../../bytes/bytes.ts";
import { KEY_BYTES, NONCE_BYTES, type Sodium, TAG_BYTES } from "../../crypto/sodium.ts";

/** Random bytes at the start of each flight. */
export const SALT_BYTES = 32;

const PREFIX = "sallyport sealed 2 ";

/** Keys of a session, one per direction. */
export interface SealedKeys {
  readonly agent: Bytes;
  readonly edge: Bytes;
  /** Channel binding for the login's proof; only the two ends of this session know it. */
  readonly channel: Bytes;
  /** Large boxes use AES-256-GCM. */
  readonly aes: boolean;
}

/** Masks a public key from anyone who doesn't know the edge's; applying it twice undoes it. */
export function maskKey(sodium: Sodium, edgePublicKey: Bytes, salt: Bytes, publicKey: Bytes): Bytes {
  const mask = derive(sodium, 32, edgePublicKey, "mask", salt);
  return publicKey.map((byte, i) => byte ^ mask[i]!);
}

/** The key of the first flight's boxes. */
export function helloKey(
  sodium: Sodium,
  es: Bytes,
  edgePublicKey: Bytes,
  salt: Bytes,
  agentKey: Bytes,
): Bytes {
  return derive(sodium, 32, es, "hello", edgePublicKey, salt, agentKey);
}

/**
 * The key of the answer's boxes. `firstFlight` is the flight as sent on the wire. The answer's own `salt` separates two
 * answers to one flight (a replay to an edge that has forgotten it, or to another edge with the same key).
 */
export function answerKey(sodium: Sodium, es: Bytes, firstFlight: Bytes, salt: Bytes): Bytes {
  return derive(sodium, 32, es, "answer", sodium.hash(64, firstFlight), salt);
}

/** The session's keys, derived from both shared secrets and every byte of both flights. */
export function sessionKeys(
  sodium: Sodium,
  secrets: { readonly es: Bytes; readonly ee: Bytes },
  edgePublicKey: Bytes,
  firstFlight: Bytes,
  answer: Bytes,
  aes: boolean,
): SealedKeys {
  const transcript = sodium.hash(64, concat([edgePublicKey, sodium.hash(64, firstFlight), answer]));
  const root = derive(sodium, 64, secrets.ee, "session", secrets.es, transcript);
  return {
    agent: derive(sodium, 32, root, "agent to edge"),
    edge: derive(sodium, 32, root, "edge to agent"),
    channel: derive(sodium, 32, root, "login"),
    aes,
  };
}

/** The key that follows `key`. */
export function nextKey(sodium: Sodium, key: Bytes): Bytes {
  return derive(sodium, 32, key, "rekey");
}

/** The key of large boxes, derived from `key`. */
export function bulkKey(sodium: Sodium, key: Bytes): Bytes {
  return derive(sodium, 32, key, "bulk");
}

/** BLAKE2b under `key` of a label and parts of fixed length. */
function derive(sodium: Sodium, size: number, key: Bytes, label: string, ...parts: Bytes[]): Bytes {
  return sodium.hash(size, concat([new TextEncoder().encode(PREFIX + label), ...parts]), key);
}

/** Writes the nonce of a key's n-th box: four zero bytes, then n as u64, little-endian (as in WireGuard). */
export function writeNonce(nonce: Bytes, count: number): void {
  const view = new DataView(nonce.buffer, nonce.byteOffset);
  view.setUint32(4, count, true);
  view.setUint32(8, Math.floor(count / 2 ** 32), true);
}

/** A flight of two boxes under its own key: a head of fixed length, then zeros as padding. */
export function sealFlight(sodium: Sodium, key: Bytes, head: Bytes, paddingBytes: number): Bytes {
  const headBytes = head.length + TAG_BYTES;
  const sealed = new Uint8Array(headBytes + paddingBytes + TAG_BYTES);
  const nonce = new Uint8Array(NONCE_BYTES);
  sodium.seal(head, sealed.subarray(0, headBytes), nonce, key);
  writeNonce(nonce, 1);
  sodium.seal(new Uint8Array(paddingBytes), sealed.subarray(headBytes), nonce, key);
  return sealed;
}

/** Opens one of a flight's two boxes; undefined if it was altered, or sealed with another key. */
export function openBox(sodium: Sodium, key: Bytes, sealed: Bytes, count: 0 | 1): Bytes | undefined {
  const nonce = new Uint8Array(NONCE_BYTES);
  writeNonce(nonce, count);
  const plain = new Uint8Array(sealed.length - TAG_BYTES);
  return key.length === KEY_BYTES && sodium.open(sealed, plain, nonce, key) ? plain : undefined;
}
