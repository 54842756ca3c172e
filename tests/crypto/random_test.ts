import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { RandomPool, systemRandom } from "../../src/crypto/random.ts";
import { toHex } from "./vectors.ts";

describe("RandomPool", () => {
  it("never gives the same bytes twice, across refills and parking", () => {
    const pool = new RandomPool(40);
    const seen = new Set<string>();
    for (let i = 0; i < 200; i++) {
      const target = new Uint8Array(12);
      pool.fill(target);
      seen.add(toHex(target));
      if (i % 50 === 49) pool.park();
    }
    assert.equal(seen.size, 200);
    assert.ok(!seen.has("0".repeat(24)));
  });

  it("fills all of the target and nothing beside it, also past the pool's size", () => {
    for (const length of [1, 12, 40, 41, 1000]) {
      const pool = new RandomPool(40);
      const around = new Uint8Array(length + 2);
      const hits = new Uint8Array(length);
      for (let round = 0; round < 12; round++) {
        pool.fill(around.subarray(1, length + 1));
        for (let i = 0; i < length; i++) hits[i]! |= around[i + 1]!;
      }
      assert.equal(around[0], 0);
      assert.equal(around[length + 1], 0);
      assert.ok(!hits.includes(0), "each place got something other than 0 in twelve rounds");
    }
  });

  it("nothing to fill is nothing to do", () => {
    for (const random of [new RandomPool(), systemRandom]) {
      assert.doesNotThrow(() => random.fill(new Uint8Array(0)));
    }
  });
});
