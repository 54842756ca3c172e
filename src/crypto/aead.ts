/**
 * Authenticated encryption of large boxes with the fastest implementation available: libsodium's ChaCha20-Poly1305 (RFC
 * 8439) everywhere, the runtime's own if libsodium is WebAssembly, AES-256-GCM (NIST SP 800-38D) if the processor has
 * instructions for it, and the system's library for both if the runtime can load one. Keys have 32 bytes, nonces 12;
 * the 16-byte tag follows the ciphertext.
 *
 * @module
 */
import { createCipheriv, createDecipheriv, getCiphers } from "node:crypto";
import type { Bytes } from "../bytes/bytes.ts";
import type { SystemCiphers } from "./system_ciphers.ts";
import { KEY_BYTES, NONCE_BYTES, type Sodium, TAG_BYTES } from "./sodium.ts";

/** Names of the algorithms; the first is always available. */
export type AeadName = "chacha20-poly1305" | "aes-256-gcm";

/** Seals and opens without additional data. A nonce must not be reused with the same key. */
export interface Aead {
  readonly name: AeadName;
  /** Seals `plain` into `into`, which is {@link TAG_BYTES} longer and must not overlap it. */
  seal(plain: Bytes, into: Bytes, nonce: Bytes, key: Bytes): void;
  /** Reverses {@link seal}; false if the box was altered, or sealed with another key or nonce. */
  open(sealed: Bytes, into: Bytes, nonce: Bytes, key: Bytes): boolean;
}

/** Source of further implementations: system libraries loaded by the runtime. */
interface AeadSource {
  systemCiphers(): Pick<SystemCiphers, "aeads">;
}

/** The algorithms available at one end, with its preferences. */
export interface AeadChoice {
  /** ChaCha20-Poly1305 for boxes of a few bytes, where the overhead per call dominates. */
  readonly small: Aead;
  /** ChaCha20-Poly1305 for large ones. */
  readonly chacha: Aead;
  /** Present if it is so much faster than ChaCha20-Poly1305 that it is preferred. */
  readonly aes: Aead | undefined;
}

/** Bytes per cipher call: its result is a new buffer; the allocator reuses small ones, large ones are new pages. */
const PIECE_BYTES = 16 * 1024;
const PROBE_BYTES = 64 * 1024;
const SMALL_PROBE_BYTES = 16;
const PROBES = 24;
/**
 * Factor by which AES-GCM may be slower in the first calls, which take four times as long as later ones. Without the
 * processor's instructions it takes ten times as long as the other.
 */
const FIRST_CALLS = 2.5;

/**
 * Finds the fastest implementation by sealing a few boxes of 64 KiB, which takes a few milliseconds. `source` isn't
 * used if libsodium is WebAssembly: native code is then unavailable or unwanted.
 */
export function chooseAeads(sodium: Sodium, source?: AeadSource): AeadChoice {
  const ciphers = getCiphers();
  const own = (name: AeadName): Aead[] => ciphers.includes(name) ? [new NodeAead(name)] : [];
  const system = sodium.name === "native" && source !== undefined ? source.systemCiphers().aeads : [];
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

/** The runtime's implementation. */
export class NodeAead implements Aead {
  readonly name: AeadName;

  constructor(name: AeadName) {
    this.name = name;
  }

  seal(plain: Bytes, into: Bytes, nonce: Bytes, key: Bytes): void {
    // One cast for both algorithms: their types differ, but not in the parts used here.
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

/** Whether two implementations produce the same output for some boxes: external ones are tested before use. */
export function agree(one: Aead, other: Aead): boolean {
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

/** The fastest implementation, and the ratio of the second's time to its time. */
function fastest(aeads: readonly Aead[], size: number): [first: Aead, ratio: number] {
  const plain = new Uint8Array(size);
  const into = new Uint8Array(size + TAG_BYTES);
  const runs = aeads.map((aead) => ({ aead, leastMs: Infinity }));
  // Interleaved, so that other load affects all of them equally; the first calls are slow, so the minimum counts.
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
