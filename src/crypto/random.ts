/**
 * Random bytes for nonces, ids and padding. Their users accept a {@link RandomSource}, so that a test can supply known
 * bytes.
 *
 * @module
 */

import { randomFillSync } from "node:crypto";
import type { Bytes } from "../bytes/bytes.ts";

/** A source of random bytes. */
export interface RandomSource {
  /** Overwrites all of `target` with random bytes. */
  fill(target: Bytes): void;
}

/** The system's generator, one native call per request. */
export const systemRandom: RandomSource = {
  fill(target: Bytes): void {
    randomFillSync(target);
  },
};

/**
 * The system's generator in batches: a native call costs a microsecond on Deno, whatever its size. The pool is
 * allocated on first use; bytes are wiped from it once handed out.
 */
export class RandomPool implements RandomSource {
  readonly #sizeBytes: number;
  #pool: Bytes | undefined;
  #used = 0;

  /** @param sizeBytes bytes drawn by one native call; larger requests bypass the pool. */
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

  /** Releases the pool; the next `fill` allocates a new one. */
  park(): void {
    this.#pool = undefined;
    this.#used = 0;
  }
}
