/**
 * The counted benchmark, `deno task bench:counted` or `bun run bench:counted`: what a visitor and an echo ask of the runtime
 * and, on Deno, allocate. Counts don't depend on what else the machine does, so they are compared with those that are
 * kept in `baseline.json`; `--write` keeps the new ones.
 *
 * @module
 */
import { readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type Counts, countTunnel, dearer } from "./count.ts";

const BASELINE = join(dirname(fileURLToPath(import.meta.url)), "baseline.json");

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
