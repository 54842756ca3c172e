/**
 * Runs one test file in a process of its own, with or without a fault in the source. Bun starts in 30 ms and can replace
 * a file as it is loaded.
 *
 * @module
 */
import { spawn } from "node:child_process";
import process from "node:process";
import type { Mutant } from "./preload.ts";

/** Below what people wait for. */
const NICENESS = 5;

/** How to run it. */
export interface RunOptions {
  readonly mutant?: Mutant;
  /** Where to write a coverage report. */
  readonly coverage?: string;
  /** What the test takes of the processor without a fault: one that takes many times as long has noticed the fault. */
  readonly usualMs?: number;
}

/** What came of it. */
export interface RunOutcome {
  readonly failed: boolean;
  /** What it took of the processor, whatever else the machine had to do. Zero where the process was killed. */
  readonly cpuMs: number;
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
  const script =
    `ulimit -t ${limit}; nice -n ${NICENESS} bun "$@" >/dev/null 2>&1; code=$?; times; exit $code`;
  const child = spawn("sh", ["-c", script, "sh", ...argv, `./${path}`], {
    cwd: root,
    env: { ...process.env, ...(mutant === undefined ? {} : { MUTANT: JSON.stringify(mutant) }) },
    stdio: ["ignore", "pipe", "ignore"],
    // A group of its own, to be killed as one.
    detached: true,
  });
  let text = "";
  child.stdout!.on("data", (part) => text += String(part));
  const timer = setTimeout(() => process.kill(-child.pid!, "SIGKILL"), 4 * timeoutMs);
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  clearTimeout(timer);
  return { failed: code !== 0, cpuMs: childrenMs(text) };
}

/** Reads the second line of the shell's `times`: user and system time of its children. */
function childrenMs(text: string): number {
  const times = [...(text.trim().split("\n")[1] ?? "").matchAll(/(\d+)m([\d.]+)s/g)];
  return times.reduce(
    (sum, [, minutes, seconds]) => sum + 60_000 * Number(minutes) + 1000 * Number(seconds),
    0,
  );
}
