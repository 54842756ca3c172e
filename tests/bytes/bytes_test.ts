import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { sameBytes, startsWith } from "../../src/bytes/bytes.ts";

describe("sameBytes", () => {
  it("compares lengths and every byte", () => {
    const one = Uint8Array.of(1, 2, 3);
    assert.ok(sameBytes(one, Uint8Array.of(1, 2, 3)));
    assert.ok(sameBytes(one.subarray(0, 0), new Uint8Array(0)));
    const others = [[1, 2], [1, 2, 3, 4], [0, 2, 3], [1, 0, 3], [1, 2, 0], []];
    for (const other of others) assert.ok(!sameBytes(one, Uint8Array.from(other)), `${other}`);
  });
});

describe("startsWith", () => {
  it("compares every byte of the prefix, from an index on", () => {
    const bytes = Uint8Array.of(1, 2, 3);
    for (const [prefix, at] of [[[], 0], [[1, 2], 0], [[1, 2, 3], 0], [[2, 3], 1], [[], 3]] as const) {
      assert.ok(startsWith(bytes, Uint8Array.from(prefix), at), `${prefix} at ${at}`);
    }
    for (const [prefix, at] of [[[2], 0], [[1, 3], 0], [[1, 2, 3, 4], 0], [[1], 1], [[3, 0], 2]] as const) {
      assert.ok(!startsWith(bytes, Uint8Array.from(prefix), at), `${prefix} at ${at}`);
    }
  });
});
