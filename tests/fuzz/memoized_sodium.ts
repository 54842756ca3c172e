/**
 * A libsodium that remembers X25519's results: a fuzzer's games use the same few keys each time, and the multiplication
 * is most of what a handshake costs. The functions are pure, so that nothing but time is saved.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { loadSodium, type Sodium } from "../../src/crypto/sodium.ts";

/** Results that are remembered; changed keys make new ones without end. */
const RESULTS_MAX = 4_096;

/** Loads a libsodium whose `publicKey` and `sharedSecret` remember their results. */
export async function loadMemoizedSodium(): Promise<Sodium> {
  const sodium = await loadSodium();
  const publicKey = sodium.publicKey.bind(sodium);
  const sharedSecret = sodium.sharedSecret.bind(sodium);
  sodium.publicKey = remembering((secretKey) => publicKey(secretKey));
  sodium.sharedSecret = remembering((secretKey, key) => sharedSecret(secretKey, key!));
  return sodium;
}

/** Callers may wipe what they get, so each gets a copy. */
function remembering<Result extends Bytes | undefined>(
  compute: (first: Bytes, second?: Bytes) => Result,
): (first: Bytes, second?: Bytes) => Result {
  const results = new Map<string, Result>();
  return (first, second) => {
    const key = Buffer.concat(second === undefined ? [first] : [first, second]).toString("latin1");
    if (!results.has(key)) {
      if (results.size >= RESULTS_MAX) results.clear();
      results.set(key, compute(first, second));
    }
    return results.get(key)?.slice() as Result;
  };
}
