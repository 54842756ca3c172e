/**
 * Fuzzes what reads bytes of strangers: `deno task fuzz`, or `bun tests/fuzz/main.ts`.
 *
 * ```
 * --seconds N      for all targets together (60)
 * --executions N   at most so many of each target
 * --target NAME    this one alone; may be repeated
 * --seed N         the same inputs again
 * --grow           store what was found in tests/fuzz/corpus
 * ```
 *
 * @module
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { fuzz, writeCorpus } from "./fuzzer.ts";
import { makeTargets } from "./targets.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    executions: { type: "string", default: "Infinity" },
    target: { type: "string", multiple: true },
    seed: { type: "string", default: String(Date.now() % 2 ** 31) },
    grow: { type: "boolean", default: false },
  },
});
const targets = (await makeTargets()).filter(({ name }) => values.target?.includes(name) ?? true);
const seed = Number(values.seed);
const each = { seconds: Number(values.seconds) / targets.length, executions: Number(values.executions) };
console.log(`seed ${seed}`);
console.log(`${"target".padEnd(22)} ${"executions".padStart(11)} ${"ways".padStart(6)} ${"MiB".padStart(5)}`);
let total = 0;
let faults = 0;
for (const target of targets) {
  try {
    const report = await fuzz(target, seed, each);
    total += report.executions;
    if (values.grow) writeCorpus(target.name, report.corpus);
    const mebibytes = Math.round(report.grownBytes / 1024 / 1024);
    console.log(
      `${target.name.padEnd(22)} ${String(report.executions).padStart(11)} ${
        String(report.ways).padStart(6)
      } ` +
        String(mebibytes).padStart(5),
    );
  } catch (error) {
    faults++;
    console.log(`${target.name.padEnd(22)} FAULT: ${(error as Error).message}`);
  }
}
console.log(`${"all".padEnd(22)} ${String(total).padStart(11)}`);
process.exit(faults > 0 ? 1 : 0);
