import assert from "node:assert/strict";
import { it } from "node:test";
import { SourceCounts } from "../../../src/wire/ip/source_counts.ts";

it("counts each source by itself, up to a limit if one is given", () => {
  const counts = new SourceCounts();
  assert.equal(counts.of("192.0.2.1"), 0);
  assert.deepEqual([1, 2, 3].map(() => counts.add("192.0.2.1", 2)), [true, true, false]);
  assert.deepEqual([counts.of("192.0.2.1"), counts.of("192.0.2.2")], [2, 0]);
  assert.equal(counts.add("192.0.2.1"), true);
  assert.equal(counts.of("192.0.2.1"), 3);
  counts.remove("192.0.2.1");
  assert.equal(counts.of("192.0.2.1"), 2);
});

it("forgets a source of which none is left", () => {
  const counts = new SourceCounts();
  counts.add("192.0.2.1");
  counts.remove("192.0.2.1");
  assert.equal(counts.of("192.0.2.1"), 0);
  counts.remove("192.0.2.1");
  assert.equal(counts.of("192.0.2.1"), 0, "one that has none stays at none");
  assert.equal(counts.add("192.0.2.1", 1), true);
});

it("counts right whichever source is the last to have none", () => {
  const counts = new SourceCounts();
  for (const source of ["a", "b", "a", "c"]) counts.add(source);
  for (const source of ["a", "b", "a", "c", "b"]) counts.remove(source);
  assert.deepEqual(["a", "b", "c"].map((source) => counts.of(source)), [0, 0, 0]);
  for (const source of ["c", "a"]) assert.equal(counts.add(source, 1), true);
  counts.remove("c");
  assert.deepEqual(["a", "b", "c"].map((source) => counts.of(source)), [1, 0, 0]);
});
