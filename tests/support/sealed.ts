/**
 * Both ends of the sealed handshake, and randomness that is known.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { type RandomSource, systemRandom } from "../../src/crypto/random.ts";
import { type KeyPair, makeKeyPair, type Sodium } from "../../src/crypto/sodium.ts";
import { SealedAgentHandshake } from "../../src/protocol/handshake/sealed_agent.ts";
import { AnsweredFlights, SealedEdgeHandshake } from "../../src/protocol/handshake/sealed_edge.ts";
import type { SealedKeys } from "../../src/protocol/handshake/sealed_keys.ts";

/** Unix seconds by which all of it happens. */
export const NOW_S = 1_800_000_000;

/** SHA-256 of a label and a counter: the same bytes in every run and every language. */
export function knownRandom(label: string): RandomSource {
  let count = 0;
  return {
    fill(target) {
      for (let at = 0; at < target.length; at += 32) {
        const block = createHash("sha256").update(`${label} ${count++}`).digest();
        target.set(block.subarray(0, Math.min(32, target.length - at)), at);
      }
    },
  };
}

/** The edge's key in tests. */
export function edgeKeys(sodium: Sodium): KeyPair {
  return makeKeyPair(sodium, (into) => knownRandom("edge key").fill(into));
}

/** An edge that remembers what it has answered. */
export class TestEdgeSide {
  readonly sodium: Sodium;
  readonly keys: KeyPair;
  readonly answered = new AnsweredFlights();
  nowS = NOW_S;

  constructor(sodium: Sodium) {
    this.sodium = sodium;
    this.keys = edgeKeys(sodium);
  }

  /** One connection. */
  accept(random: RandomSource = systemRandom): SealedEdgeHandshake {
    const { sodium, keys, answered } = this;
    return new SealedEdgeHandshake({ sodium, keys, answered, unixSeconds: () => this.nowS, random });
  }

  /** An agent that knows the key. */
  dial(random: RandomSource = systemRandom): SealedAgentHandshake {
    const { sodium, keys } = this;
    return new SealedAgentHandshake({ sodium, edgePublicKey: keys.publicKey, unixSeconds: NOW_S, random });
  }

  /** Both ends' keys. */
  connect(): { agent: SealedKeys; edge: SealedKeys } {
    const agent = this.dial();
    const answered = this.accept().push(agent.first)!;
    return { agent: agent.push(answered.answer)!.keys, edge: answered.keys };
  }
}

/** `bytes` with one bit the other way round. */
export function flipped(bytes: Bytes, at: number, bit = 0): Bytes {
  const copy = new Uint8Array(bytes);
  copy[at]! ^= 1 << bit;
  return copy;
}

/**
 * Fails unless `samples`, one of the same length from each of many connections, look random: every position takes many
 * values, and bits, runs and bytes come as often as they should. The bounds are ones that random bytes break once in
 * about a billion runs.
 */
export function assertLooksRandom(samples: readonly Bytes[]): void {
  const length = samples[0]!.length;
  const n = samples.length;
  for (let at = 0; at < length; at++) {
    const values = new Set(samples.map((sample) => sample[at]));
    const expected = 256 * (1 - (255 / 256) ** n);
    if (values.size < expected - 40) throw new Error(`byte ${at} has ${values.size} values in ${n} samples`);
    for (let bit = 0; bit < 8; bit++) {
      const ones = samples.filter((sample) => (sample[at]! >> bit) & 1).length;
      // Binomial: 7 standard deviations.
      if (Math.abs(ones - n / 2) > 3.5 * Math.sqrt(n)) {
        throw new Error(`bit ${bit} of byte ${at} is 1 in ${ones} of ${n} samples`);
      }
    }
  }
  const all = n * length;
  const counts = new Array<number>(256).fill(0);
  let repeats = 0;
  for (const sample of samples) {
    for (let at = 0; at < length; at++) {
      counts[sample[at]!]!++;
      if (at > 0 && sample[at] === sample[at - 1]) repeats++;
    }
  }
  const chiSquare = counts.reduce((sum, count) => sum + (count - all / 256) ** 2 / (all / 256), 0);
  // 255 degrees of freedom: mean 255, standard deviation 22.6.
  if (chiSquare > 255 + 7 * 22.6) throw new Error(`bytes are distributed unevenly: chi-square ${chiSquare}`);
  const pairs = n * (length - 1);
  if (Math.abs(repeats - pairs / 256) > 7 * Math.sqrt(pairs / 256)) {
    throw new Error(`${repeats} of ${pairs} bytes repeat the one before`);
  }
}
