/**
 * The project's checks; runs under Deno and under Bun. The static ones come first. Then processes of both runtimes run
 * the test files side by side, a few files each: most tests wait for another process rather than for the processor.
 *
 * ```sh
 * deno task test                          # everything
 * deno task test -- --only static         # formatting, lint, types, lock files, without the suite
 * deno task test -- --only bun tests/mux  # the suite under one runtime, for some folders or files
 * deno task test -- --explore             # properties and simulations with fresh seeds, which they print
 * deno task test -- --program FILE        # the tests of the whole program against a single file, on Bun
 * deno task test -- --jobs 1              # one test process at a time; by default one more than processors
 * ```
 *
 * Test files that fail are run a second time by themselves, if they are few. Those that then pass are listed as unstable,
 * with their first output: a defect to mend, but not one of the change under test.
 *
 * Ends with the line `N passed, N failed` and exit code 1 if anything failed. A static check counts as one.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { access, mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { countCases, failedFiles, secondsOfFiles } from "./junit.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const CACHE = join(ROOT, ".cache");
const NPX = "npx -y -p deno@2.9.6 -p bun@1.4.5 deno task test";
/** Few enough that the processes end at about the same time, and enough that starting one doesn't matter. */
const FILES_PER_PROCESS = 8;
/**
 * If more files of a runtime fail, none is run again: the change is at fault, not the moment. A process that crashes
 * takes its files along.
 */
const SECOND_RUN_MAX_FILES = FILES_PER_PROCESS;
const SLOWEST_FILES_SHOWN = 12;
/** For tests and hooks without a time of their own. Bun's 5 s would judge the machine; Deno has none. */
const BUN_TIMEOUT_MS = 60_000;
/** What test files that start the whole program import. */
const STARTS_PROGRAM = /(cli|\.)\/(program|terminal)\.ts"|snocat_programs\.ts"/;
const USAGE =
  "Usage: deno task test [-- [--explore] [--jobs N] [--program FILE] [--only static|deno|bun]... " +
  "[FILE or FOLDER]...]";

type Runtime = "deno" | "bun";
type Group = "static" | Runtime;
interface Outcome {
  passed: number;
  failed: number;
  skipped: number;
  output: string;
}
interface TestOutcome extends Outcome {
  readonly failedFiles: Set<string>;
  readonly fileSeconds: Map<string, number>;
}

const { only, paths, jobs } = readArguments(process.argv.slice(2));
const direct = withoutProxy();
const children = new Set<ChildProcess>();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    for (const child of children) child.kill(signal);
    process.exit(1);
  });
}

const deno = await findRuntime("deno");
const bun = await findRuntime("bun");
process.exit(await main());

async function main(): Promise<number> {
  process.chdir(ROOT);
  await mkdir(CACHE, { recursive: true });
  const versions = [await run([deno, "--version"]), await run([bun, "--version"])];
  const [denoVersion, bunVersion] = versions.map((answer) => answer.output.trim().split("\n")[0] ?? "");
  console.log(`${denoVersion}, bun ${bunVersion}`);

  const everything = only.size === 0;
  const total: Outcome = { passed: 0, failed: 0, skipped: 0, output: "" };
  if (only.has("static") || everything && paths.length === 0) {
    for (const [name, run] of staticChecks()) add(total, await report(name, run));
  }
  const runtimes = (["deno", "bun"] as const).filter((runtime) => everything || only.has(runtime));
  if (runtimes.length > 0) add(total, await testOn(runtimes));
  // The line that `.ci/run` and readers of its log look for.
  console.log(`${total.passed} passed, ${total.failed} failed`);
  return total.failed > 0 || total.passed === 0 ? 1 : 0;
}

function staticChecks(): readonly (readonly [name: string, run: () => Promise<Outcome>])[] {
  return [
    ["lock files", checkLocks],
    ["format", () => check([deno, "fmt", "--check"])],
    ["lint", () => check([deno, "lint"])],
    ["types for Deno", checkTypesForDeno],
    ["types for Bun", checkTypesForBun],
  ];
}

/** Runs a check and prints how it went, with its output if it failed. */
async function report(name: string, run: () => Promise<Outcome>): Promise<Outcome> {
  const started = performance.now();
  console.log(`${name} …`);
  const outcome = await run();
  if (outcome.failed > 0) console.log(outcome.output.trimEnd());
  console.log(`      ${summary(outcome)} (${secondsSince(started)} s)`);
  return outcome;
}

function summary({ passed, failed, skipped }: Outcome): string {
  const left = skipped > 0 ? `, ${skipped} skipped` : "";
  return `${failed > 0 ? "FAILED" : "ok"}: ${passed} passed, ${failed} failed${left}`;
}

function secondsSince(started: number): string {
  return ((performance.now() - started) / 1000).toFixed(1);
}

function add(total: Outcome, { passed, failed, skipped }: Outcome): void {
  total.passed += passed;
  total.failed += failed;
  total.skipped += skipped;
}

/** Both lock files fit package.json; node_modules comes out of it too, for tsc and for Bun. */
async function checkLocks(): Promise<Outcome> {
  const installed = await run([bun, "install", "--frozen-lockfile"]);
  if (installed.code !== 0) return verdict(installed);
  return await check([deno, "cache", "--frozen", "mod.ts", "tests/run.ts"]);
}

async function checkTypesForDeno(): Promise<Outcome> {
  return await check([
    deno,
    "check",
    "--frozen",
    ...await existing(["mod.ts", "main.ts", "src", "tests", "bench", "examples"]),
  ]);
}

async function checkTypesForBun(): Promise<Outcome> {
  await needNodeModules();
  const types = await run([deno, "types"]);
  if (types.code !== 0) return verdict(types);
  await writeFile(join(CACHE, "deno.d.ts"), types.output);
  return await check([bun, "node_modules/typescript/bin/tsc", "--project", "tsconfig.json"]);
}

/** Runs the test files on the runtimes, several processes at a time, and then a few that failed by themselves. */
async function testOn(runtimes: readonly Runtime[]): Promise<Outcome> {
  if (runtimes.includes("bun")) await needNodeModules();
  const files = await testFiles();
  const waiting: { readonly runtime: Runtime; readonly files: readonly string[] }[] = [];
  for (let at = 0; at < files.length; at += FILES_PER_PROCESS) {
    for (const runtime of runtimes) waiting.push({ runtime, files: files.slice(at, at + FILES_PER_PROCESS) });
  }
  console.log(`tests, in ${jobs} processes at a time …`);
  const started = performance.now();
  const outcomes: Record<Runtime, TestOutcome> = { deno: noTests(), bun: noTests() };
  const work = async (number: number): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      addTests(outcomes[next.runtime], await runTests(next.runtime, next.files, number));
    }
  };
  await Promise.all(Array.from({ length: jobs }, (_, number) => work(number)));
  console.log(`      ended (${secondsSince(started)} s)`);
  const total: Outcome = { passed: 0, failed: 0, skipped: 0, output: "" };
  for (const runtime of runtimes) add(total, await settle(runtime, outcomes[runtime]));
  return total;
}

/** Runs a few failed files once more, and prints what became of a runtime's tests. */
async function settle(runtime: Runtime, outcome: TestOutcome): Promise<Outcome> {
  const failing = [...outcome.failedFiles];
  let unstable: readonly string[] = [];
  if (outcome.failed > 0) console.log(outcome.output.trimEnd());
  if (failing.length > 0 && failing.length <= SECOND_RUN_MAX_FILES) {
    const second = await runTests(runtime, failing, 0);
    console.log(`The second run of ${failing.join(", ")}:\n${second.output.trimEnd()}`);
    if (second.failed === 0) unstable = failing;
    outcome.passed += outcome.failed - second.failed;
    outcome.failed = second.failed;
  }
  console.log(`tests on ${runtime === "deno" ? "Deno" : "Bun"}\n      ${summary(outcome)}`);
  for (const file of unstable) console.log(`      UNSTABLE: ${file} failed, and passed alone: mend it`);
  const slowest = [...outcome.fileSeconds].sort(([, a], [, b]) => b - a).slice(0, SLOWEST_FILES_SHOWN);
  console.log(
    `      slowest: ${slowest.map(([file, seconds]) => `${file} ${seconds.toFixed(0)} s`).join(", ")}`,
  );
  return outcome;
}

function noTests(): TestOutcome {
  return { passed: 0, failed: 0, skipped: 0, output: "", failedFiles: new Set(), fileSeconds: new Map() };
}

function addTests(total: TestOutcome, part: TestOutcome): void {
  add(total, part);
  total.output += part.output;
  for (const file of part.failedFiles) total.failedFiles.add(file);
  for (const [file, seconds] of part.fileSeconds) total.fileSeconds.set(file, seconds);
}

/** Runs test files in one process; `number` keeps the reports of processes side by side apart. */
async function runTests(runtime: Runtime, files: readonly string[], number: number): Promise<TestOutcome> {
  const reportPath = join(CACHE, `tests-${number}.xml`);
  // Types have their own check.
  const command = runtime === "deno"
    ? [deno, "test", "-A", "--no-check", "--frozen", `--junit-path=${reportPath}`]
    : [
      bun,
      "test",
      `--timeout=${BUN_TIMEOUT_MS}`,
      "--only-failures",
      "--reporter=junit",
      `--reporter-outfile=${reportPath}`,
    ];
  await rm(reportPath, { force: true });
  const { code, output } = await run([...command, ...files.map((file) => `./${file}`)]);
  const xml = await readFile(reportPath, "utf8").catch(() => "");
  const counts = countCases(xml);
  const named = failedFiles(xml);
  // A file that doesn't load, or an error between tests, fails the process without failing a case.
  if (code !== 0 && counts.failed === 0) counts.failed = 1;
  const areKnown = named.length > 0 && named.every((file) => files.includes(file));
  return {
    ...counts,
    // Deno lists every test, then what failed, after this heading.
    output: counts.failed === 0 ? "" : output.slice(Math.max(0, output.search(/^ ?ERRORS ?$/m))),
    failedFiles: new Set(counts.failed === 0 ? [] : areKnown ? named : files),
    fileSeconds: secondsOfFiles(xml),
  };
}

async function check(command: string[]): Promise<Outcome> {
  return verdict(await run(command));
}

function verdict({ code, output }: { code: number; output: string }): Outcome {
  return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0, output };
}

/** A machine's proxy is for what tests install; what they start on this machine is reached without it. */
function withoutProxy(): { readonly NO_PROXY: string; readonly no_proxy: string } {
  const others = process.env.NO_PROXY ?? process.env.no_proxy;
  const NO_PROXY = [...others ? [others] : [], "localhost", "127.0.0.1", "::1", "invalid"].join(",");
  return { NO_PROXY, no_proxy: NO_PROXY };
}

/** Runs a program without stdin; both its outputs come back as one text. */
function run(command: string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const env: NodeJS.ProcessEnv = { ...process.env, ...direct, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" };
    const child = spawn(command[0] as string, command.slice(1), {
      cwd: ROOT,
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    children.add(child);
    const parts: Uint8Array[] = [];
    child.stdout?.on("data", (part: Uint8Array) => parts.push(part));
    child.stderr?.on("data", (part: Uint8Array) => parts.push(part));
    const done = (code: number, note = "") => {
      children.delete(child);
      resolve({ code, output: new TextDecoder().decode(Buffer.concat(parts)) + note });
    };
    child.on("error", (error) => done(127, `Cannot run ${command[0]}: ${error.message}\n`));
    child.on("close", (code, signal) => done(code ?? 1, signal === null ? "" : `Ended by ${signal}\n`));
  });
}

async function needNodeModules(): Promise<void> {
  const { code, output } = await run([bun, "install", "--frozen-lockfile"]);
  if (code !== 0) throw new Error(`Cannot install the dependencies: ${output}`);
}

/** The runtime itself when it runs this file, else the program on PATH, where npx puts it too. */
async function findRuntime(name: "deno" | "bun"): Promise<string> {
  const versions: Record<string, string | undefined> = process.versions;
  if (versions[name] !== undefined) return process.execPath;
  for (const command of [name, join(ROOT, "node_modules", ".bin", name)]) {
    if ((await run([command, "--version"])).code === 0) return command;
  }
  console.error(`Cannot run the checks: ${name} isn't on PATH. Install it, or run: ${NPX}`);
  process.exit(1);
}

/** All test files under the chosen paths, relative to the project, the same list for both runtimes. */
async function testFiles(): Promise<string[]> {
  const found = new Set<string>();
  const visit = async (path: string): Promise<void> => {
    if ((await stat(path)).isFile()) {
      found.add(relative(ROOT, path));
      return;
    }
    for (const entry of await readdir(path, { withFileTypes: true })) {
      if (entry.isDirectory() && entry.name !== "vectors") await visit(join(path, entry.name));
      else if (entry.name.endsWith("_test.ts")) found.add(relative(ROOT, join(path, entry.name)));
    }
  };
  for (const path of paths.length > 0 ? paths : ["tests"]) {
    await visit(join(ROOT, path)).catch((error: Error) => {
      console.error(`Cannot run the checks: ${error.message}\n${USAGE}`);
      process.exit(1);
    });
  }
  const files = [...found].sort();
  if (!process.env.SALLYPORT_PROGRAM) return files;
  const texts = await Promise.all(files.map((file) => readFile(join(ROOT, file), "utf8")));
  return files.filter((_, index) => STARTS_PROGRAM.test(texts[index]!));
}

async function existing(names: string[]): Promise<string[]> {
  const found: string[] = [];
  for (const name of names) {
    await access(join(ROOT, name)).then(() => found.push(name), () => {});
  }
  return found;
}

function readArguments(given: string[]): { only: Set<Group>; paths: string[]; jobs: number } {
  const groups = new Set<Group>();
  let jobs = availableParallelism() + 1;
  const rest: string[] = [];
  const words = given.flatMap((word) => word.startsWith("--only=") ? ["--only", word.slice(7)] : [word]);
  for (let index = 0; index < words.length; index++) {
    const word = words[index] as string;
    if (word === "--") continue;
    if (word === "--explore") {
      process.env.SALLYPORT_TEST_EXPLORE = "1";
      continue;
    }
    if (word === "--program") {
      const file = words[++index];
      if (file === undefined) {
        console.error(
          `Cannot run the checks: --program takes a single file, as \`deno task build\` makes\n${USAGE}`,
        );
        process.exit(1);
      }
      process.env.SALLYPORT_PROGRAM = resolve(file);
      continue;
    }
    if (word === "--jobs") {
      jobs = Number(words[++index]);
      if (!Number.isInteger(jobs) || jobs < 1) {
        console.error(`Cannot run the checks: --jobs takes a number from 1\n${USAGE}`);
        process.exit(1);
      }
      continue;
    }
    if (word === "--only") {
      const group = words[++index];
      if (group !== "static" && group !== "deno" && group !== "bun") {
        console.error(`Cannot run the checks: --only takes static, deno or bun\n${USAGE}`);
        process.exit(1);
      }
      groups.add(group);
    } else if (word.startsWith("-")) {
      const help = word === "--help" || word === "-h";
      (help ? console.log : console.error)(
        help ? USAGE : `Cannot run the checks: ${word} is unknown\n${USAGE}`,
      );
      process.exit(help ? 0 : 1);
    } else rest.push(word);
  }
  // A single file has its runtime inside: one round shows all.
  if (process.env.SALLYPORT_PROGRAM && groups.size === 0) groups.add("bun");
  return { only: groups, paths: rest, jobs };
}
