/** Whether a visitor or a frame has become dearer. See bench/counted. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { sampleAllocations } from "../../bench/counted/allocations.ts";
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
    let bytes = await countPromoted() ?? 0;
    // What the compilers keep meanwhile counts as well.
    if (bytes >= 150) bytes = await countPromoted() ?? 0;
    assert.ok(bytes < 150, `a visitor leaves ${bytes.toFixed(0)} bytes to the old generation`);
  });

  it("samples where a visitor's bytes are allocated", { timeout: 60_000 }, async () => {
    if (process.versions.bun !== undefined) return assert.rejects(sampleAllocations(10), /only V8 can/);
    const sites = await sampleAllocations(200);
    const own = sites.filter(({ name }) => /\bsrc\/\S+\.ts:\d+$/.test(name));
    const sum = own.reduce((bytes, site) => bytes + site.bytes, 0);
    assert.ok(sum > 2_000 && sum < 48_000, `${sum}`);
    assert.ok(
      own.some(({ name }) => name.includes("src/transport/splice.ts")),
      JSON.stringify(own.slice(0, 20)),
    );
    assert.ok(sites.every((site, index) => index === 0 || site.bytes <= sites[index - 1]!.bytes));
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
