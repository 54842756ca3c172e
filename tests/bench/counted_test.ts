/** Whether a visitor or a frame has become dearer. See bench/counted. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { type Counts, countTunnel, dearer } from "../../bench/counted/count.ts";

describe("the counted benchmark", () => {
  it("finds no figure above the recorded ones", { timeout: 60_000 }, async () => {
    const folder = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "bench", "counted");
    const kept = JSON.parse(await readFile(join(folder, "baseline.json"), "utf8")) as Counts;
    assert.deepEqual(dearer(await countTunnel(), kept), []);
  });

  it("names what costs more than its margin allows, and accepts what is new", () => {
    assert.deepEqual(dearer({ a: 10.9, b: 11.2, c: 5, d: 0 }, { a: 10, b: 10, d: 0 }), [
      "b: 11.20, was 10.00. Make it cheaper, or keep it with bench:counted --write and say why",
    ]);
    assert.equal(dearer({ a: 1 }, { a: 0 }).length, 1);
  });
});
