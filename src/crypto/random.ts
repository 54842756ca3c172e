/**
 * Random bytes for nonces, ids and padding. What draws them takes a {@link RandomSource}, so that a test can put
 * known bytes in its place.
 *
 * @module
 */

import { randomFillSync } from "node:crypto";
import type { Bytes } from "../bytes/bytes.ts";

/** Where random bytes come from. */
export interface RandomSource {
  /** Overwrites all of `target` with random bytes. */
  fill(target: Bytes): void;
}

/** The system's generator, one native call each time. */
export const systemRandom: RandomSource = {
  fill(target: Bytes): void {
    randomFillSync(target);
  },
};

/**
 * The system's generator in batches: a native call costs a microsecond on Deno, whatever it asks for. The pool is
 * made at the first use; bytes that were handed out are wiped from it.
 */
export class RandomPool implements RandomSource {
  readonly #sizeBytes: number;
  #pool: Bytes | undefined;
  #used = 0;

  /** @param sizeBytes what one native call draws; larger requests go past the pool. */
  constructor(sizeBytes = 384) {
    this.#sizeBytes = sizeBytes;
  }

  fill(target: Bytes): void {
    const length = target.length;
    if (length > this.#sizeBytes) {
      randomFillSync(target);
      return;
    }
    let pool = this.#pool;
    if (pool === undefined || this.#used + length > pool.length) {
      pool ??= new Uint8Array(this.#sizeBytes);
      randomFillSync(pool);
      this.#pool = pool;
      this.#used = 0;
    }
    const from = this.#used;
    for (let i = 0; i < length; i++) {
      target[i] = pool[from + i]!;
      pool[from + i] = 0;
    }
    this.#used = from + length;
  }

  /** Lets go of the pool; the next `fill` makes a new one. */
  park(): void {
    this.#pool = undefined;
    this.#used = 0;
  }
}
