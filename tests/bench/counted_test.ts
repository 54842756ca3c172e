/** Whether a visitor or a frame has become dearer. See bench/counted. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { countPromoted, type Counts, countTunnel, dearer } from "../../bench/counted/count.ts";

describe("the counted benchmark", () => {
  it("finds no figure above the recorded ones", { timeout: 120_000 }, async () => {
    const folder = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "bench", "counted");
    const kept = JSON.parse(await readFile(join(folder, "baseline.json"), "utf8")) as Counts;
    let found = dearer(await countTunnel(), kept);
    // A busy machine compiles late, and code that isn't compiled allocates more: the second time it is.
    if (found.length > 0) found = dearer(await countTunnel(), kept);
    assert.deepEqual(found, []);
  });

  it("finds that nothing old refers to visitors who have left", { timeout: 60_000 }, async () => {
    const bytes = await countPromoted() ?? 0;
    assert.ok(bytes < 150, `a visitor leaves ${bytes.toFixed(0)} bytes to the old generation`);
  });

  it("names what costs more than its margin allows, and accepts what is new", () => {
    const kept = {
      "a: bytes allocated": 10,
      "b: bytes allocated": 10,
      "a: writes": 10,
      "b: writes": 10,
      d: 0,
    };
    const counts = {
      "a: bytes allocated": 10.9,
      "b: bytes allocated": 11.2,
      "a: writes": 10.01,
      "b: writes": 11,
    };
    assert.deepEqual(dearer({ ...counts, c: 5, d: 0 }, kept), [
      "b: bytes allocated: 11.20, was 10.00. Make it cheaper, or keep it with bench:counted --write and say why",
      "b: writes: 11.00, was 10.00. Make it cheaper, or keep it with bench:counted --write and say why",
    ]);
    assert.equal(dearer({ a: 1 }, { a: 0 }).length, 1);
  });
});
