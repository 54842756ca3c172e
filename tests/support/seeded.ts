/**
 * The tests' pseudo-random numbers and test patterns: one generator, the memory network's (mulberry32), so that a seed
 * in a report means the same everywhere.
 *
 * @module
 */
import { randomInt } from "node:crypto";
import process from "node:process";
import type { Bytes } from "../../src/bytes/bytes.ts";
import type { RandomSource } from "../../src/crypto/random.ts";
import { seededRandom } from "../../src/runtime/memory/memory_time.ts";

/** Numbers in [0, 1), the same for the same seed. */
export const seeded: (seed: number) => () => number = seededRandom;

/** Random bytes in pieces of any length, the same for the same seed. */
export function seededBytes(seed: number): (length: number) => Bytes {
  const next = seeded(seed);
  return (length) => Uint8Array.from({ length }, () => next() * 256);
}

/** The same as a source of randomness for the product. */
export function seededSource(seed: number): RandomSource {
  const next = seeded(seed);
  return {
    fill(target) {
      for (let i = 0; i < target.length; i++) target[i] = next() * 256;
    },
  };
}

/** Bytes that tell their place: a gap, a repetition and a change of order show. */
export function pattern(size: number, seed = 1): Bytes {
  const bytes = new Uint8Array(size);
  let state = Math.imul(seed, 2654435761) >>> 0;
  for (let i = 0; i < size; i++) {
    // A linear congruential step: quick enough for megabytes.
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/**
 * The seed of a property or a simulation: `fixed`, so that every run of the checks is the same; a fresh one under
 * `deno task test --explore`, which is printed. `SALLYPORT_TEST_SEED` repeats a run that failed.
 */
export function seedOf(fixed: number): number {
  const asked = process.env.SALLYPORT_TEST_SEED;
  if (asked !== undefined) return Number(asked);
  if (process.env.SALLYPORT_TEST_EXPLORE === undefined) return fixed;
  const seed = randomInt(2 ** 31);
  console.log(`SALLYPORT_TEST_SEED=${seed}`);
  return seed;
}
