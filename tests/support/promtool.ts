/**
 * Prometheus' own checker of rules for tests: the one in `PROMTOOL` or on the PATH, or that of Debian's package, fetched
 * once into `.cache/` without installing it.
 *
 * @module
 */
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { exists, isCi, madeOnce, output } from "./made_once.ts";

const TIMEOUT_MS = 180_000;

async function find(): Promise<string> {
  const { PROMTOOL, PATH = "" } = process.env;
  if (PROMTOOL !== undefined) return PROMTOOL;
  for (const folder of PATH.split(delimiter)) {
    if (folder !== "" && await exists(join(folder, "promtool"))) return join(folder, "promtool");
  }
  const made = await madeOnce("promtool", TIMEOUT_MS, async (folder) => {
    const download = await mkdtemp(join(tmpdir(), "promtool-"));
    try {
      // `apt-get download` puts the package where it is called.
      const fetch =
        'cd "$1" && (apt-get download prometheus || (apt-get update && apt-get download prometheus))';
      await output("sh", ["-c", fetch, "sh", download], TIMEOUT_MS);
      const archive = (await readdir(download)).find((name) => name.endsWith(".deb"));
      await output("dpkg-deb", ["-x", join(download, archive!), join(download, "x")], TIMEOUT_MS);
      await mkdir(folder, { recursive: true });
      await output("cp", [join(download, "x", "usr", "bin", "promtool"), folder], TIMEOUT_MS);
    } finally {
      await rm(download, { recursive: true, force: true });
    }
  });
  return join(made, "promtool");
}

let found: Promise<string> | undefined;

/** Runs it; gives what it wrote. Rejects with its own words where it fails. */
export async function promtool(...args: string[]): Promise<string> {
  return await output(await (found ??= find()), args, TIMEOUT_MS);
}

/** A reason to skip, or false: with CI set the tests run, and fail where there is no promtool to be had. */
export async function skipPromtool(): Promise<string | false> {
  if (isCi()) return false;
  return await (found ??= find()).then(
    () => false as const,
    (error) => `there is no promtool: ${String(error)}`,
  );
}
