/**
 * The mutation run: puts small faults into the source, one at a time, and lists those that no test notices:
 * `deno task mutate`. The sample of a file is the same for the same seed whatever changes elsewhere in it. A mutant is
 * shown only to the tests that run its line, one file after the other until one fails, the file's own test first, for at
 * most {@link BUDGET_MS} of tests. The named faults of rooms.ts always run.
 *
 * Ends with 1 where a room is below 85 %, a named fault survives, or a survivor of the sample isn't listed in
 * survivors.json with its reason.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { checkNumber, readCommandLine } from "../support/command_line.ts";
import { covers, filesOf, measure, type TestFile } from "./coverage.ts";
import { type Fault, faultsOf } from "./mutants.ts";
import { NAMED_FAULTS, type Room, ROOMS } from "./rooms.ts";
import { runTest } from "./run_test_file.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
/** Share of a room's mutants that tests must notice. */
const KILLED_MIN = 0.85;
/** Of the processor. Tests that take longer together aren't asked: what only they would notice survives. */
const BUDGET_MS = 5_000;

interface Survivor {
  readonly where: string;
  readonly what: string;
  readonly reason: string;
}

interface Mutant extends Fault {
  readonly path: string;
  readonly named: boolean;
}

interface Row {
  readonly name: string;
  readonly killed: number;
  readonly total: number;
}

const USAGE = `Puts small faults into the source, one at a time, and lists those that no test notices.

  deno task mutate [FILE or FOLDER]... [options]     without a path all rooms of tests/mutation/rooms.ts

  --per-file N   a sample of so many faults of each file (8)
  --all          every fault, which takes a night
  --seed S       another sample (1)
  --jobs N       so many at the same time (1)

It ends with 1 where tests miss too many.`;

const { values, positionals } = readCommandLine(USAGE, {
  "per-file": { type: "string", default: "8" },
  all: { type: "boolean", default: false },
  seed: { type: "string", default: "1" },
  jobs: { type: "string", default: "1" },
}, ({ values }) => {
  checkNumber("per-file", values["per-file"], 1);
  checkNumber("jobs", values.jobs, 1);
});

/** The file's mutants, or a sample: those that a hash of seed, place and text brings first. */
function sample(path: string, faults: readonly Fault[]): Mutant[] {
  const seen = new Map<string, number>();
  const ranked = faults.map((fault) => {
    const count = seen.get(fault.what) ?? 0;
    seen.set(fault.what, count + 1);
    const key = `${values.seed}|${path}|${fault.what}|${count}`;
    return { rank: createHash("sha256").update(key).digest("hex"), mutant: { ...fault, path, named: false } };
  });
  if (!values.all) {
    ranked.sort((a, b) => a.rank < b.rank ? -1 : 1);
    ranked.length = Math.min(ranked.length, Number(values["per-file"]));
  }
  return ranked.map(({ mutant }) => mutant).sort((a, b) => a.from - b.from);
}

function namedFault(path: string, source: string): Mutant[] {
  return NAMED_FAULTS.filter((fault) => fault.path === path).map(({ find, replace }) => {
    const from = source.indexOf(find);
    if (from < 0 || source.indexOf(find, from + 1) >= 0) {
      throw new Error(`rooms.ts: "${find}" must occur once in ${path}`);
    }
    const line = source.slice(0, from).split("\n").length;
    const what = `${find} → ${replace === "" ? "nothing" : replace}`;
    return { path, named: true, from, to: from + find.length, text: replace, line, what };
  });
}

/**
 * The tests that run a mutant's line: the file's own, its folder's, the quickest first. All of them for a named fault,
 * else as far as the budget goes, which a busy machine uses up sooner.
 */
function witnesses({ path, line, named }: Mutant, tests: readonly TestFile[]): TestFile[] {
  // splice.ts has splice_test.ts and splice_unit_test.ts.
  const own = path.replace(/^src\//, "tests/").replace(/\.ts$/, "_");
  const folder = dirname(own);
  const distance = (test: TestFile) => test.path.startsWith(own) ? 0 : dirname(test.path) === folder ? 1 : 2;
  const rank = (test: TestFile) => 1_000_000 * distance(test) + test.cpuMs;
  const all = tests.filter((test) => covers(test, path, line)).sort((a, b) => rank(a) - rank(b));
  if (named) return all;
  let sumMs = 0;
  return all.filter((test, i) => (sumMs += test.cpuMs) <= BUDGET_MS || i === 0);
}

async function noticed(mutant: Mutant, tests: readonly TestFile[]): Promise<boolean> {
  const { path, from, to, text } = mutant;
  const fault = { file: join(ROOT, path), from, to, text };
  for (const test of witnesses(mutant, tests)) {
    const { failed } = await runTest(ROOT, test.path, { mutant: fault, usualMs: test.cpuMs });
    if (failed) return true;
  }
  return false;
}

const survivors: Mutant[] = [];

async function runRoom(room: Room): Promise<Row | undefined> {
  const sources = (await Promise.all(room.sources.map((path) => filesOf(ROOT, path, ".ts")))).flat();
  const wanted = positionals.length === 0
    ? sources
    : sources.filter((file) => positionals.some((path) => file === path || file.startsWith(`${path}/`)));
  if (wanted.length === 0) return undefined;
  const startMs = performance.now();
  const files = (await Promise.all(room.tests.map((path) => filesOf(ROOT, path, "_test.ts")))).flat();
  const tests = await measure(ROOT, [...new Set(files)], sources);
  let killed = 0;
  let total = 0;
  for (const path of wanted) {
    const source = await readFile(join(ROOT, path), "utf8");
    const faults = faultsOf(source);
    const mutants = [...namedFault(path, source), ...sample(path, faults)];
    let next = 0;
    let alive = 0;
    const work = async (): Promise<void> => {
      for (let mutant = mutants[next++]; mutant !== undefined; mutant = mutants[next++]) {
        if (await noticed(mutant, tests)) continue;
        alive++;
        survivors.push(mutant);
        console.log(`  survives: ${path}:${mutant.line}: ${mutant.what}`);
      }
    };
    await Promise.all(Array.from({ length: Number(values.jobs) }, work));
    total += mutants.length;
    killed += mutants.length - alive;
    if (mutants.length > 0) {
      console.log(
        `${path}: ${mutants.length - alive} of ${mutants.length} killed, of ${faults.length} there are`,
      );
    }
  }
  const minutes = ((performance.now() - startMs) / 60_000).toFixed(1);
  console.log(`${room.name}: ${killed} of ${total} killed, ${minutes} min\n`);
  return { name: room.name, killed, total };
}

const rows: Row[] = [];
for (const room of ROOMS) {
  const row = await runRoom(room);
  if (row !== undefined) rows.push(row);
}

const listed = JSON.parse(
  await readFile(join(ROOT, "tests/mutation/survivors.json"), "utf8"),
) as Survivor[];
const isListed = ({ path, what }: Mutant): boolean =>
  listed.some((entry) => entry.where === path && entry.what === what && entry.reason !== "");
const unlisted = survivors.filter((mutant) => !isListed(mutant));
const entries = unlisted.map(({ path, what }) => ({ where: path, what, reason: "" }));
await mkdir(join(ROOT, ".cache/mutation"), { recursive: true });
await writeFile(join(ROOT, ".cache/mutation/unlisted.json"), JSON.stringify(entries, undefined, 2) + "\n");

let isGood = true;
console.log("| Room | Mutants | Killed | % |\n| --- | ---: | ---: | ---: |");
for (const { name, killed, total } of rows) {
  const share = killed / Math.max(1, total);
  if (share < KILLED_MIN) isGood = false;
  console.log(`| ${name} | ${total} | ${killed} | ${(100 * share).toFixed(1)} |`);
}
const named = survivors.filter((mutant) => mutant.named);
for (const { path, what } of named) console.log(`A named fault survives: ${path}: ${what}`);
console.log(`${unlisted.length} survivors are not listed (.cache/mutation/unlisted.json).`);
// With --all, survivors outside the sample have no reason each: the share decides.
if (named.length > 0 || (unlisted.length > 0 && !values.all)) isGood = false;
process.exit(isGood ? 0 : 1);
