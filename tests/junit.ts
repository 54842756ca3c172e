/**
 * Reads the JUnit reports of `deno test` and `bun test`.
 *
 * @module
 */

/** Test cases by outcome. */
export interface CaseCounts {
  passed: number;
  failed: number;
  skipped: number;
}

/**
 * Counts the test cases of a report. Deno also lists every `describe` as a case of its own; those (their name opens
 * another case's, as in "outer > inner") are left out unless they failed by themselves, so that both runtimes count
 * the same.
 */
export function countCases(xml: string): CaseCounts {
  const cases = [...xml.matchAll(/<testcase\s([^>]*?)(\/>|>([\s\S]*?)<\/testcase>)/g)].map((match) => ({
    name: /\bname="([^"]*)"/.exec(match[1] ?? "")?.[1] ?? "",
    failed: /<(failure|error)\b/.test(match[3] ?? ""),
    skipped: /<skipped\b/.test(match[3] ?? ""),
  }));
  const parents = new Set<string>();
  for (const { name } of cases) {
    for (let at = name.indexOf(" &gt; "); at >= 0; at = name.indexOf(" &gt; ", at + 1)) {
      parents.add(name.slice(0, at));
    }
  }
  const counts: CaseCounts = { passed: 0, failed: 0, skipped: 0 };
  const leaves = cases.filter(({ name }) => !parents.has(name));
  for (const { failed, skipped } of leaves) counts[failed ? "failed" : skipped ? "skipped" : "passed"]++;
  if (counts.failed === 0 && cases.some(({ failed }) => failed)) counts.failed = 1;
  return counts;
}

/**
 * The files of a report that have a failed case. Deno names the file that declares a suite, which may be one that
 * several test files import.
 */
export function failedFiles(xml: string): string[] {
  const files = new Set<string>();
  for (const [, attributes = ""] of xml.matchAll(/<testsuite\s([^>]*)>/g)) {
    const failures = Number(/\bfailures="(\d+)"/.exec(attributes)?.[1] ?? 0);
    // Bun names the file of every suite; with Deno a file's own suite is named after it.
    const file = /\b(?:file|name)="(?:\.\/)?([^"\s]+\.ts)"/.exec(attributes)?.[1];
    if (failures > 0 && file !== undefined && !file.startsWith("ext:")) files.add(file);
  }
  return [...files];
}

/**
 * How long each test file of a report took. Deno counts the cases of a suite that several files share to the file that
 * declares it.
 */
export function secondsOfFiles(xml: string): Map<string, number> {
  const seconds = new Map<string, number>();
  for (
    const [, suite = "", body = ""] of xml.matchAll(
      /<testsuite\s([^>]*?)(?:\/>|>([\s\S]*?)(?=<testsuite\s|$))/g,
    )
  ) {
    const name = /\bname="(?:\.\/)?([^"\s]+\.ts)"/.exec(suite)?.[1];
    if (name === undefined || name.startsWith("ext:")) continue;
    // Bun gives each file's time, Deno each case's.
    const own = /\btime="([\d.]+)"/.exec(suite)?.[1];
    const cases = [...body.matchAll(/<testcase\s[^>]*?\btime="([\d.]+)"/g)].map(([, time]) => Number(time));
    seconds.set(name, own === undefined ? cases.reduce((sum, time) => sum + time, 0) : Number(own));
  }
  return seconds;
}
