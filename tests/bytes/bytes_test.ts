import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { sameBytes } from "../../src/bytes/bytes.ts";

describe("sameBytes", () => {
  it("compares lengths and every byte", () => {
    const one = Uint8Array.of(1, 2, 3);
    assert.ok(sameBytes(one, Uint8Array.of(1, 2, 3)));
    assert.ok(sameBytes(one.subarray(0, 0), new Uint8Array(0)));
    const others = [[1, 2], [1, 2, 3, 4], [0, 2, 3], [1, 0, 3], [1, 2, 0], []];
    for (const other of others) assert.ok(!sameBytes(one, Uint8Array.from(other)), `${other}`);
  });
});
