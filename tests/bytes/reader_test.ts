import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ByteReader } from "../../src/bytes/reader.ts";

describe("ByteReader.is", () => {
  it("compares the bytes left, all of them, and reads none", () => {
    const reader = new ByteReader(Uint8Array.of(1, 2, 3, 4), 1, 4);
    assert.equal(reader.is(Uint8Array.of(2, 3, 4)), true);
    for (const other of [[], [2, 3], [2, 3, 5], [1, 2, 3], [2, 3, 4, 5]]) {
      assert.equal(reader.is(Uint8Array.from(other)), false, other.join());
    }
    assert.equal(reader.u8(), 2);
    assert.equal(reader.is(Uint8Array.of(3, 4)), true);
    assert.equal(reader.sub(2).is(Uint8Array.of(3, 4)), true);
    assert.equal(reader.is(new Uint8Array(0)), true);
  });
});
