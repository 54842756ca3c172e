/**
 * Authenticated encryption of large boxes, where it is fastest: libsodium's ChaCha20-Poly1305 (RFC 8439) everywhere,
 * the runtime's own where libsodium is WebAssembly, AES-256-GCM (NIST SP 800-38D) where the processor's instructions
 * are used for it, and the system's library for both where the runtime can open one. Keys have 32 bytes, nonces 12, tags
 * 16 behind the ciphertext.
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

/** Source of further implementations: the system's libraries, as a runtime opens them. */
interface AeadSource {
  systemAeads(): readonly Aead[];
}

/** The algorithms that one end has, and those that it prefers. */
export interface AeadChoice {
  /** ChaCha20-Poly1305 for boxes of some bytes, where a call's own cost is what counts. */
  readonly small: Aead;
  /** ChaCha20-Poly1305 for large ones. */
  readonly chacha: Aead;
  /** There where it is so much faster than the other that it is preferred. */
  readonly aes: Aead | undefined;
}

/** Results come in new buffers: small ones are reused by the allocator, large ones are new pages each time. */
const PIECE_BYTES = 16 * 1024;
const PROBE_BYTES = 64 * 1024;
const SMALL_PROBE_BYTES = 16;
const PROBES = 24;
/**
 * AES-GCM may take so many times as long in the first calls, in which it is four times as slow as in later ones.
 * Where the processor's instructions aren't used, it takes ten times as long as the other.
 */
const FIRST_CALLS = 2.5;

/**
 * Finds out what is fastest here, by sealing a few boxes of 64 KiB: some milliseconds. `source` isn't asked where
 * libsodium is WebAssembly: native code can't be loaded, or isn't wanted, there.
 */
export function chooseAeads(sodium: Sodium, source?: AeadSource): AeadChoice {
  const ciphers = getCiphers();
  const own = (name: AeadName): Aead[] => ciphers.includes(name) ? [new NodeAead(name)] : [];
  const system = sodium.name === "native" && source !== undefined ? source.systemAeads() : [];
  const reference = new SodiumAead(sodium);
  const others = [...sodium.name === "wasm" ? own(reference.name) : [], ...system];
  const chachas = [
    reference,
    ...others.filter(({ name }) => name === reference.name).filter((aead) => agree(aead, reference)),
  ];
  const [chacha] = fastest(chachas, PROBE_BYTES);
  const [small] = fastest(chachas, SMALL_PROBE_BYTES);
  const [node] = own("aes-256-gcm");
  if (node === undefined) return { small, chacha, aes: undefined };
  const [aes] = fastest([
    node,
    ...system.filter(({ name }) => name === node.name).filter((aead) => agree(aead, node)),
  ], PROBE_BYTES);
  const [first, ratio] = fastest([chacha, aes], PROBE_BYTES);
  return { small, chacha, aes: first === aes || ratio <= FIRST_CALLS ? aes : undefined };
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
    for (let at = 0; at < plain.length; at += PIECE_BYTES) {
      into.set(cipher.update(plain.subarray(at, at + PIECE_BYTES)), at);
    }
    cipher.final();
    into.set(cipher.getAuthTag(), plain.length);
  }

  open(sealed: Bytes, into: Bytes, nonce: Bytes, key: Bytes): boolean {
    const end = sealed.length - TAG_BYTES;
    const options = { authTagLength: TAG_BYTES };
    const decipher = createDecipheriv(this.name as "aes-256-gcm", key, nonce, options);
    decipher.setAuthTag(sealed.subarray(end));
    for (let at = 0; at < end; at += PIECE_BYTES) {
      into.set(decipher.update(sealed.subarray(at, Math.min(at + PIECE_BYTES, end))), at);
    }
    try {
      decipher.final();
      return true;
    } catch {
      // Forged plaintext must not be used by mistake.
      into.fill(0);
      return false;
    }
  }
}

/** Whether two implementations make the same of some boxes: what others bring is tried before use. */
function agree(one: Aead, other: Aead): boolean {
  const [nonce, key] = [new Uint8Array(NONCE_BYTES).fill(1), new Uint8Array(KEY_BYTES).fill(2)];
  return [0, 6, 1000, PIECE_BYTES + 7].every((size) => {
    const plain = new Uint8Array(size).map((_, i) => i);
    const [sealed, same, opened] = [size + TAG_BYTES, size + TAG_BYTES, size].map((n) => new Uint8Array(n));
    try {
      one.seal(plain, sealed!, nonce, key);
      other.seal(plain, same!, nonce, key);
      if (sealed!.some((byte, i) => byte !== same![i])) return false;
      if (!one.open(same!, opened!, nonce, key) || opened!.some((byte, i) => byte !== plain[i])) return false;
      same![size]! ^= 1;
      return !one.open(same!, opened!, nonce, key);
    } catch {
      return false;
    }
  });
}

/** The fastest, and how many times as long the second takes. */
function fastest(aeads: readonly Aead[], size: number): [first: Aead, ratio: number] {
  const plain = new Uint8Array(size);
  const into = new Uint8Array(size + TAG_BYTES);
  const runs = aeads.map((aead) => ({ aead, leastMs: Infinity }));
  // In turns, so that what else the machine does hits all of them; the first calls are slow, the least time counts.
  for (let i = 0; i < PROBES; i++) {
    for (const run of runs) {
      const startMs = performance.now();
      run.aead.seal(plain, into, new Uint8Array(NONCE_BYTES), new Uint8Array(KEY_BYTES));
      run.leastMs = Math.min(run.leastMs, performance.now() - startMs);
    }
  }
  const [first, second] = runs.sort((a, b) => a.leastMs - b.leastMs);
  return [first!.aead, second === undefined ? 1 : second.leastMs / Math.max(first!.leastMs, 1e-6)];
}
