import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RangeSet } from "../../../src/protocol/curve/range_set.ts";
import { seedOf } from "../../support/seeded.ts";

const SIZE = 60;

test("a range set is the same as a set of numbers, in as few ranges as there are", () => {
  const range = fc.tuple(fc.integer({ min: 0, max: SIZE }), fc.integer({ min: 0, max: 12 }));
  const step = fc.oneof(
    fc.record({ do: fc.constant("add" as const), range }),
    fc.record({ do: fc.constant("remove" as const), range }),
    fc.record({ do: fc.constant("dropBelow" as const), range }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const set = new RangeSet();
      const model = new Set<number>();
      for (const { do: what, range: [start, length] } of steps) {
        const end = start + length;
        if (what === "dropBelow") {
          set.dropBelow(start);
          for (const value of [...model]) if (value < start) model.delete(value);
        } else {
          set[what](start, end);
          for (let value = start; value < end; value++) {
            what === "add" ? model.add(value) : model.delete(value);
          }
        }
        const listed: number[] = [];
        for (let i = 0; i < set.size; i++) {
          assert.ok(set.start(i) < set.end(i));
          assert.ok(i === 0 || set.start(i) > set.end(i - 1), "ranges touch");
          for (let value = set.start(i); value < set.end(i); value++) listed.push(value);
        }
        assert.deepEqual(listed, [...model].sort((a, b) => a - b));
        for (let value = 0; value < SIZE; value += 7) {
          assert.equal(set.has(value), model.has(value));
          const covered = [0, 1, 2].every((i) => model.has(value + i));
          assert.equal(set.covers(value, value + 3), covered);
        }
      }
    }),
    { seed: seedOf(7), numRuns: 400 },
  );
});

test("RangeSet: clear() leaves nothing, dropLowest() all but the lowest", () => {
  const set = new RangeSet();
  set.dropLowest();
  for (const [start, end] of [[0, 2], [5, 7], [9, 10]] as const) set.add(start, end);
  set.dropLowest();
  assert.deepEqual([set.size, set.has(1), set.has(5), set.has(9)], [2, false, true, true]);
  set.clear();
  assert.deepEqual([set.size, set.has(5), set.covers(5, 6)], [0, false, false]);
  set.add(3, 4);
  assert.deepEqual([set.size, set.start(0), set.end(0)], [1, 3, 4]);
});
