/**
 * Runs one test file in a process of its own, with or without a fault in the source. Bun starts in 30 ms and can replace
 * a file as it is loaded.
 *
 * @module
 */
import { spawn } from "node:child_process";
import process from "node:process";
import type { Mutant } from "./preload.ts";

/** How to run it. */
export interface RunOptions {
  readonly mutant?: Mutant;
  /** Where to write a coverage report. */
  readonly coverage?: string;
  /** What the test takes without a fault: one that takes many times as long has noticed the fault. */
  readonly usualMs?: number;
}

/** What came of it. */
export interface RunOutcome {
  readonly failed: boolean;
  readonly elapsedMs: number;
}

/** Runs the test file at `path` under Bun, at low priority. */
export async function runTest(root: string, path: string, options: RunOptions): Promise<RunOutcome> {
  const { mutant, coverage, usualMs = 60_000 } = options;
  // For a test that waits for what never comes. A busy machine must not pass for a test that notices.
  const timeoutMs = Math.round(5_000 + 10 * usualMs);
  const argv = ["test", "--bail=1", `--timeout=${timeoutMs}`];
  if (coverage !== undefined) {
    argv.push("--coverage", "--coverage-reporter=lcov", `--coverage-dir=${coverage}`);
  }
  if (mutant !== undefined) argv.push("--preload", "./tests/mutation/preload.ts");
  // For a loop without an end: seconds of the processor, which other load doesn't use up.
  const limit = Math.ceil(timeoutMs / 1000);
  const startMs = performance.now();
  const child = spawn("sh", [
    "-c",
    `ulimit -t ${limit}; exec nice -n 10 bun "$@"`,
    "sh",
    ...argv,
    `./${path}`,
  ], {
    cwd: root,
    env: { ...process.env, ...(mutant === undefined ? {} : { MUTANT: JSON.stringify(mutant) }) },
    stdio: "ignore",
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), 4 * timeoutMs);
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  clearTimeout(timer);
  return { failed: code !== 0, elapsedMs: performance.now() - startMs };
}
