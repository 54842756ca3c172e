/**
 * Which test file runs which lines of the source, and how long each test file takes: a mutant is shown only to the tests
 * that run its line.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { runTest } from "./run_test_file.ts";

/** What one test file does. */
export interface TestFile {
  readonly path: string;
  /** What it takes of the processor. */
  readonly cpuMs: number;
  /** Source file → line → how often it ran. Lines without code of their own have no entry. */
  readonly lines: Readonly<Record<string, Readonly<Record<number, number>>>>;
}

/** Files below a path, or the file. */
export async function filesOf(root: string, path: string, end: string): Promise<string[]> {
  if (!(await stat(join(root, path))).isDirectory()) return [path];
  const all = await readdir(join(root, path), { recursive: true });
  return all.filter((name) => name.endsWith(end)).map((name) => `${path}/${name.replaceAll("\\", "/")}`)
    .sort();
}

/**
 * Runs each test file once with coverage. What came out is kept in `.cache/mutation` for as long as neither the test nor
 * the `sources` change. Throws where a test fails.
 */
export async function measure(
  root: string,
  tests: readonly string[],
  sources: readonly string[],
): Promise<TestFile[]> {
  const cache = join(root, ".cache/mutation");
  await mkdir(cache, { recursive: true });
  const texts = await Promise.all(sources.map((path) => readFile(join(root, path), "utf8")));
  const measured: TestFile[] = [];
  for (const path of tests) {
    const hash = createHash("sha256").update(path).update(await readFile(join(root, path)));
    for (const text of texts) hash.update(text);
    const kept = join(cache, `${hash.digest("hex").slice(0, 32)}.json`);
    const known = await readFile(kept, "utf8").catch(() => undefined);
    if (known !== undefined) {
      measured.push(JSON.parse(known) as TestFile);
      continue;
    }
    const directory = join(cache, `lcov-${process.pid}`);
    const { failed, cpuMs } = await runTest(root, path, { coverage: directory });
    if (failed) throw new Error(`${path} fails without a fault`);
    const report = await readFile(join(directory, "lcov.info"), "utf8");
    await rm(directory, { recursive: true, force: true });
    const test = { path, cpuMs, lines: linesOf(report, sources) };
    await writeFile(kept, JSON.stringify(test));
    measured.push(test);
  }
  return measured;
}

/** The lines of the sources that an LCOV report knows. */
function linesOf(report: string, sources: readonly string[]): TestFile["lines"] {
  const wanted = new Set(sources);
  const all: Record<string, Record<number, number>> = {};
  let lines: Record<number, number> = {};
  for (const line of report.split("\n")) {
    if (line.startsWith("SF:")) {
      lines = {};
      const path = line.slice(3).replaceAll("\\", "/");
      if (wanted.has(path)) all[path] = lines;
    }
    const match = /^DA:(\d+),(\d+)/.exec(line);
    if (match !== null) lines[Number(match[1])] = Number(match[2]);
  }
  return all;
}

/** Whether the test runs the line. Where the report doesn't know the line: whether it loads the file. */
export function covers(test: TestFile, path: string, line: number): boolean {
  const lines = test.lines[path];
  return lines !== undefined && lines[line] !== 0;
}
