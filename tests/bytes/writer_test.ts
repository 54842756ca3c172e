import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ByteReader, OutOfBounds } from "../../src/bytes/reader.ts";
import { ByteWriter } from "../../src/bytes/writer.ts";
import { seedOf } from "../support/seeded.ts";

const widths = { u8: 1, u16: 2, u24: 3, u32: 4 } as const;
type Field = keyof typeof widths;
const fields = Object.keys(widths) as Field[];

describe("ByteWriter", () => {
  it("writes big-endian fields", () => {
    const writer = new ByteWriter(16).u8(1).u16(0x203).u24(0x40506).u32(0xfffefdfc).bytes([7, 8]);
    assert.equal(writer.length, 12);
    assert.deepEqual([...writer.finish()], [1, 2, 3, 4, 5, 6, 0xff, 0xfe, 0xfd, 0xfc, 7, 8]);
    assert.equal(new ByteWriter(0).finish().length, 0);
  });

  it("gives what the reader takes, however many there are", () => {
    const step = fc.constantFrom(...fields).chain((field) =>
      fc.record({
        field: fc.constant(field),
        value: fc.integer({ min: 0, max: 2 ** (8 * widths[field]) - 1 }),
      })
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const byteLength = steps.reduce((sum, { field }) => sum + widths[field], 0);
        const writer = new ByteWriter(byteLength);
        for (const { field, value } of steps) writer[field](value);
        const reader = new ByteReader(writer.finish());
        for (const { field, value } of steps) assert.equal(reader[field](), value);
        assert.equal(reader.left, 0);
        assert.throws(() => writer.u8(0), OutOfBounds);
      }),
      { seed: seedOf(13), numRuns: 200 },
    );
  });

  it("refuses values that don't fit, and keeps what it had when it is full", () => {
    const writer = new ByteWriter(5).u16(1);
    for (const field of fields) {
      for (const value of [-1, 0.5, NaN, 2 ** (8 * widths[field])]) {
        assert.throws(() => writer[field](value), RangeError, `${field}(${value})`);
      }
    }
    assert.throws(() => writer.u32(0), OutOfBounds);
    assert.throws(() => writer.bytes(new Uint8Array(4)), OutOfBounds);
    assert.deepEqual([...writer.u24(0x030405).finish()], [0, 1, 3, 4, 5]);
  });

  it("hands out a copy", () => {
    const writer = new ByteWriter(2).u8(1);
    const first = writer.finish();
    first[0] = 9;
    assert.deepEqual([...writer.u8(2).finish()], [1, 2]);
  });
});
