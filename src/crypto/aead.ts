/**
 * Authenticated encryption of large boxes, where it is fastest: libsodium's ChaCha20-Poly1305 (RFC 8439) everywhere,
 * the runtime's own where libsodium is WebAssembly, AES-256-GCM (NIST SP 800-38D) where the runtime uses the
 * processor's instructions for it. Keys have 32 bytes, nonces 12, tags 16 behind the ciphertext.
 *
 * @module
 */
import { createCipheriv, createDecipheriv, getCiphers } from "node:crypto";
import type { Bytes } from "../bytes/bytes.ts";
import { KEY_BYTES, NONCE_BYTES, type Sodium, TAG_BYTES } from "./sodium.ts";

/** Names of the algorithms; the first is there always. */
export type AeadName = "chacha20-poly1305" | "aes-256-gcm";

/** Seals and opens without additional data. A nonce must not come twice under one key. */
export interface Aead {
  readonly name: AeadName;
  /** Seals `plain` into `into`, which is {@link TAG_BYTES} longer and elsewhere in memory. */
  seal(plain: Bytes, into: Bytes, nonce: Bytes, key: Bytes): void;
  /** Undoes {@link seal}; false when it was altered, or sealed under another key or nonce. */
  open(sealed: Bytes, into: Bytes, nonce: Bytes, key: Bytes): boolean;
}

/** What one end can do, and what of it is worth asking for. */
export interface AeadChoice {
  readonly chacha: Aead;
  /** There where it is so much faster than the other that it is preferred. */
  readonly aes: Aead | undefined;
}

const PROBE_BYTES = 64 * 1024;
const PROBES = 4;
/** AES-GCM must be so many times as fast to be worth another algorithm. */
const WORTH = 1.5;

/** Finds out what is fastest here, by sealing a few boxes of 64 KiB: a millisecond. */
export function chooseAeads(sodium: Sodium): AeadChoice {
  const ciphers = getCiphers();
  const own = (name: AeadName): Aead[] => ciphers.includes(name) ? [new NodeAead(name)] : [];
  const chachas = [new SodiumAead(sodium), ...sodium.name === "wasm" ? own("chacha20-poly1305") : []];
  const [chacha] = fastest(chachas);
  const [aes] = own("aes-256-gcm");
  if (aes === undefined) return { chacha, aes };
  const [first, speedup] = fastest([chacha, aes]);
  return { chacha, aes: first === aes && speedup >= WORTH ? aes : undefined };
}

/** libsodium's ChaCha20-Poly1305. */
export class SodiumAead implements Aead {
  readonly name = "chacha20-poly1305";
  readonly #sodium: Sodium;

  constructor(sodium: Sodium) {
    this.#sodium = sodium;
  }

  seal(plain: Bytes, into: Bytes, nonce: Bytes, key: Bytes): void {
    this.#sodium.seal(plain, into, nonce, key);
  }

  open(sealed: Bytes, into: Bytes, nonce: Bytes, key: Bytes): boolean {
    return this.#sodium.open(sealed, into, nonce, key);
  }
}

/** The runtime's own. */
export class NodeAead implements Aead {
  readonly name: AeadName;

  constructor(name: AeadName) {
    this.name = name;
  }

  seal(plain: Bytes, into: Bytes, nonce: Bytes, key: Bytes): void {
    // One cast for both algorithms: their types differ, what is used of them doesn't.
    const cipher = createCipheriv(this.name as "aes-256-gcm", key, nonce, { authTagLength: TAG_BYTES });
    into.set(cipher.update(plain));
    cipher.final();
    into.set(cipher.getAuthTag(), plain.length);
  }

  open(sealed: Bytes, into: Bytes, nonce: Bytes, key: Bytes): boolean {
    const end = sealed.length - TAG_BYTES;
    const options = { authTagLength: TAG_BYTES };
    const decipher = createDecipheriv(this.name as "aes-256-gcm", key, nonce, options);
    decipher.setAuthTag(sealed.subarray(end));
    const plain = decipher.update(sealed.subarray(0, end));
    try {
      decipher.final();
    } catch {
      return false;
    }
    into.set(plain);
    return true;
  }
}

/** The fastest, and how many times as fast as the second it is. */
function fastest(aeads: readonly Aead[]): [first: Aead, speedup: number] {
  const times = aeads.map((aead) => ({ aead, ms: timeOf(aead) })).sort((a, b) => a.ms - b.ms);
  return [times[0]!.aead, times.length < 2 ? 1 : times[1]!.ms / Math.max(times[0]!.ms, 1e-6)];
}

/** The least time that sealing a box took, in milliseconds. */
function timeOf(aead: Aead): number {
  const plain = new Uint8Array(PROBE_BYTES);
  const into = new Uint8Array(PROBE_BYTES + TAG_BYTES);
  let leastMs = Infinity;
  for (let i = 0; i < PROBES; i++) {
    const startMs = performance.now();
    aead.seal(plain, into, new Uint8Array(NONCE_BYTES), new Uint8Array(KEY_BYTES));
    leastMs = Math.min(leastMs, performance.now() - startMs);
  }
  return leastMs;
}
