/**
 * The project's checks, one after the other; runs under Deno and under Bun.
 *
 * ```sh
 * deno task test                          # everything
 * deno task test -- --only static         # formatting, lint, types, lock files, without the suite
 * deno task test -- --only bun tests/mux  # the suite under one runtime, for some folders or files
 * deno task test -- --explore             # properties and simulations with fresh seeds, which they print
 * deno task test -- --program FILE        # the tests of the whole program against a single file, on Bun
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
import { dirname, join, relative, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { countCases, failedFiles } from "./junit.ts";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const CACHE = join(ROOT, ".cache");
const NPX = "npx -y -p deno@2.9.6 -p bun@1.4.5 deno task test";
/** If more files fail, none is run again: the change is at fault, not the moment. */
const SECOND_RUN_MAX_FILES = 3;
/** What test files that start the whole program import. */
const STARTS_PROGRAM = /(cli|\.)\/(program|terminal)\.ts"|snocat_programs\.ts"/;
const USAGE =
  `Usage: deno task test [-- [--explore] [--program FILE] [--only static|deno|bun]... [FILE or FOLDER]...]`;

type Group = "static" | "deno" | "bun";
interface Outcome {
  passed: number;
  failed: number;
  skipped: number;
  output: string;
  /** Test files that failed, and passed when they ran a second time by themselves. */
  unstable?: readonly string[];
}
interface Step {
  readonly name: string;
  readonly group: Group;
  run(): Promise<Outcome>;
}

const { only, paths } = readArguments(process.argv.slice(2));
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

  const chosen = steps().filter((step) =>
    only.size === 0 ? paths.length === 0 || step.group !== "static" : only.has(step.group)
  );
  let passed = 0;
  let failed = 0;
  for (const [index, step] of chosen.entries()) {
    const started = performance.now();
    console.log(`[${index + 1}/${chosen.length}] ${step.name} …`);
    const outcome = await step.run();
    passed += outcome.passed;
    failed += outcome.failed;
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    const skipped = outcome.skipped > 0 ? `, ${outcome.skipped} skipped` : "";
    const verdict = outcome.failed > 0 ? "FAILED" : "ok";
    const { unstable = [] } = outcome;
    if (outcome.failed > 0 || unstable.length > 0) console.log(outcome.output.trimEnd());
    console.log(
      `      ${verdict}: ${outcome.passed} passed, ${outcome.failed} failed${skipped} (${seconds} s)`,
    );
    for (const file of unstable) console.log(`      UNSTABLE: ${file} failed, and passed alone: mend it`);
  }
  // The line that `.ci/run` and readers of its log look for.
  console.log(`${passed} passed, ${failed} failed`);
  return failed > 0 || passed === 0 ? 1 : 0;
}

function steps(): Step[] {
  return [
    { name: "lock files", group: "static", run: checkLocks },
    { name: "format", group: "static", run: () => check([deno, "fmt", "--check"]) },
    { name: "lint", group: "static", run: () => check([deno, "lint"]) },
    { name: "types for Deno", group: "static", run: checkTypesForDeno },
    { name: "types for Bun", group: "static", run: checkTypesForBun },
    { name: "tests on Deno", group: "deno", run: testOnDeno },
    { name: "tests on Bun", group: "bun", run: testOnBun },
  ];
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

async function testOnDeno(): Promise<Outcome> {
  const report = join(CACHE, "deno-tests.xml");
  // Types have their own step.
  const command = [deno, "test", "-A", "--no-check", "--frozen", `--junit-path=${report}`];
  return await suite(command, await testFiles(), report);
}

async function testOnBun(): Promise<Outcome> {
  await needNodeModules();
  const report = join(CACHE, "bun-tests.xml");
  const command = [bun, "test", "--only-failures", "--reporter=junit", `--reporter-outfile=${report}`];
  return await suite(command, await testFiles(), report);
}

/** Runs test files, and a few that fail once more. */
async function suite(command: string[], files: readonly string[], report: string): Promise<Outcome> {
  const first = await suiteOnce(command, files, report);
  const failing = failedFiles(first.report);
  if (failing.length === 0 || failing.length > SECOND_RUN_MAX_FILES) return first;
  const second = await suiteOnce(command, failing, report);
  return {
    passed: first.passed + first.failed - second.failed,
    failed: second.failed,
    skipped: first.skipped,
    output: `${first.output.trimEnd()}\n\nThe second run of ${failing.join(", ")}:\n${second.output}`,
    unstable: second.failed > 0 ? [] : failing,
  };
}

async function suiteOnce(
  command: string[],
  files: readonly string[],
  reportPath: string,
): Promise<Outcome & { readonly report: string }> {
  await rm(reportPath, { force: true });
  const { code, output } = await run([...command, ...files.map((file) => `./${file}`)]);
  const report = await readFile(reportPath, "utf8").catch(() => "");
  const { passed, failed, skipped } = countCases(report);
  // A file that doesn't load, or an error between tests, fails the run without failing a case.
  // Deno lists every test, then what failed, behind this heading.
  const failures = output.slice(Math.max(0, output.search(/^ ?ERRORS ?$/m)));
  return { passed, failed: code !== 0 && failed === 0 ? 1 : failed, skipped, output: failures, report };
}

async function check(command: string[]): Promise<Outcome> {
  return verdict(await run(command));
}

function verdict({ code, output }: { code: number; output: string }): Outcome {
  return { passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0, output };
}

/** Runs a program without stdin; both its outputs come back as one text. */
function run(command: string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const env: NodeJS.ProcessEnv = { ...process.env, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" };
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

function readArguments(given: string[]): { only: Set<Group>; paths: string[] } {
  const groups = new Set<Group>();
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
  return { only: groups, paths: rest };
}
