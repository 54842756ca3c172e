/**
 * Fuzzes what reads bytes of strangers: `deno task fuzz`, or `bun tests/fuzz/main.ts`. SIGINT and SIGTERM end it with the
 * counts so far.
 *
 * @module
 */
import process from "node:process";
import { checkKnown, checkNumber, readCommandLine } from "../support/command_line.ts";
import { fuzz, type FuzzReport, writeCorpus } from "./fuzzer.ts";
import { makeTargets } from "./targets.ts";

const USAGE = `Fuzzes what reads bytes of strangers.

  deno task fuzz [options]     bun tests/fuzz/main.ts [options]

  --seconds N      for all targets together (60)
  --executions N   at most so many of each target
  --target NAME    this one alone; may be repeated
  --seed N         the same inputs again
  --grow           store what was found in tests/fuzz/corpus

It ends with 1 where it found a fault.`;
/** How often a target that is running reports its count. */
const PROGRESS_MS = 10_000;

const all = await makeTargets();
const { values } = readCommandLine(USAGE, {
  seconds: { type: "string", default: "60" },
  executions: { type: "string", default: "Infinity" },
  target: { type: "string", multiple: true },
  seed: { type: "string", default: String(Date.now() % 2 ** 31) },
  grow: { type: "boolean", default: false },
}, ({ values: { seconds, executions, seed, target = [] }, positionals }) => {
  if (positionals.length > 0) throw new Error(`Cannot parse "${positionals[0]}": it is no option`);
  checkNumber("seconds", seconds, 0);
  checkNumber("executions", executions, 1);
  checkNumber("seed", seed, 0);
  for (const name of target) checkKnown("--target", name, all.map((one) => one.name));
});
let stopped = false;
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => stopped = true);
const targets = all.filter(({ name }) => values.target?.includes(name) ?? true);
const seed = Number(values.seed);
const each = { seconds: Number(values.seconds) / targets.length, executions: Number(values.executions) };
console.log(`seed ${seed}`);
console.log(`${"target".padEnd(22)} ${"executions".padStart(11)} ${"ways".padStart(6)} ${"MiB".padStart(5)}`);
let total = 0;
let faults = 0;
for (const target of targets) {
  let saidMs = performance.now();
  const goOn = (report: () => FuzzReport) => {
    if (performance.now() >= saidMs + PROGRESS_MS) {
      saidMs = performance.now();
      say(report(), "so far");
    }
    return !stopped;
  };
  try {
    const report = await fuzz(target, seed, each, goOn);
    total += report.executions;
    if (values.grow) writeCorpus(target.name, report.corpus);
    say(report, stopped ? "stopped" : "");
  } catch (error) {
    faults++;
    console.log(`${target.name.padEnd(22)} FAULT: ${(error as Error).message}`);
  }
  if (stopped) break;
}
console.log(`${"all".padEnd(22)} ${String(total).padStart(11)}`);
process.exit(faults > 0 ? 1 : 0);

function say({ name, executions, ways, grownBytes }: FuzzReport, state: string): void {
  const mebibytes = String(Math.round(grownBytes / 1024 / 1024)).padStart(5);
  const line = `${name.padEnd(22)} ${String(executions).padStart(11)} ${
    String(ways).padStart(6)
  } ${mebibytes}`;
  console.log(`${line} ${state}`.trimEnd());
}
