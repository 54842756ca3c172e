/**
 * The counted benchmark, `deno task bench:counted` or `bun run bench:counted`: what a visitor and an echo ask of the runtime
 * and allocate: bytes on Deno, functions and promises on Bun. Counts don't depend on what else the machine does, so they
 * are compared with those that are kept in `baseline.json`; `--write` keeps the new ones. `--allocations` samples instead
 * which functions allocate a visitor's bytes, on Deno.
 *
 * @module
 */
import { readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { sampleAllocations } from "./allocations.ts";
import { type Counts, countTunnel, dearer } from "./count.ts";

const BASELINE = join(dirname(fileURLToPath(import.meta.url)), "baseline.json");

/** Sites that are shown. */
const SITES = 30;

if (process.argv.includes("--allocations")) {
  const sites = await sampleAllocations().catch((error: Error) => {
    console.error(error.message);
    process.exit(1);
  });
  console.log("| bytes a visitor | allocated in |\n| ---: | --- |");
  for (const { name, bytes } of sites.slice(0, SITES)) console.log(`| ${bytes.toFixed(0)} | ${name} |`);
  console.log(`| ${sites.reduce((sum, { bytes }) => sum + bytes, 0).toFixed(0)} | in all |`);
  process.exit(0);
}
const counts = await countTunnel();
const baseline = JSON.parse(await readFile(BASELINE, "utf8")) as Counts;
console.log("| | now | kept |\n| --- | ---: | ---: |");
for (const [name, value] of Object.entries(counts)) {
  console.log(`| ${name} | ${value.toFixed(2)} | ${baseline[name]?.toFixed(2) ?? "—"} |`);
}
if (process.argv.includes("--write")) {
  const kept = Object.fromEntries(
    Object.entries({ ...baseline, ...counts }).map(([name, value]) => [name, Number(value.toPrecision(4))]),
  );
  await writeFile(BASELINE, JSON.stringify(kept, null, 2) + "\n");
}
const worse = dearer(counts, baseline);
for (const line of worse) console.error(line);
process.exit(worse.length === 0 || process.argv.includes("--write") ? 0 : 1);
