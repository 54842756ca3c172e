/**
 * What tests need that takes long to make: made once under `.cache/`, by one process at a time.
 *
 * @module
 */
import { execFile } from "node:child_process";
import { mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** Whether the environment says that this is continuous integration. */
export function isCi(): boolean {
  return process.env.CI !== undefined && process.env.CI !== "" && process.env.CI !== "false";
}

/**
 * The folder `.cache/NAME`, made by `make` where it isn't there. `make` gets a folder beside it, which is moved to its
 * place whole, so that a broken run leaves nothing that looks finished. Runs that come at the same time (Deno's and
 * Bun's) wait for one another.
 */
export async function madeOnce(
  name: string,
  timeoutMs: number,
  make: (folder: string) => Promise<void>,
): Promise<string> {
  const folder = join(ROOT, ".cache", name);
  if (await exists(folder)) return folder;
  await mkdir(dirname(folder), { recursive: true });
  const held = `${folder}.lock`;
  await lock(held, timeoutMs);
  try {
    if (!await exists(folder)) {
      const building = `${folder}.${process.pid}`;
      await rm(building, { recursive: true, force: true });
      try {
        await make(building);
        await rename(building, folder);
      } finally {
        await rm(building, { recursive: true, force: true });
      }
    }
  } finally {
    await rm(held, { recursive: true, force: true });
  }
  return folder;
}

/** What a program writes to its standard output. Rejects with the end of its standard error when it fails. */
export function output(
  program: string,
  args: readonly string[],
  timeoutMs: number,
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { timeout: timeoutMs, env: { ...process.env, ...env }, maxBuffer: 64 * 1024 * 1024 };
    execFile(program, [...args], options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout.trim());
      else reject(new Error(stderr.trim().split("\n").slice(-3).join(" ") || error.message));
    });
  });
}

/** Whether there is such a file or folder. */
export function exists(path: string): Promise<boolean> {
  return stat(path).then(() => true, () => false);
}

/** A folder is made by one process alone; one whose maker is gone is taken over. */
async function lock(path: string, timeoutMs: number): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  const note = join(path, "pid");
  while (true) {
    try {
      await mkdir(path);
      await writeFile(note, String(process.pid));
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const pid = Number(await readFile(note, "utf8").catch(() => "0"));
    const age = Date.now() - await stat(path).then((info) => info.mtimeMs, () => Date.now());
    if (pid > 0 ? !alive(pid) : age > 5_000) await rm(path, { recursive: true, force: true });
    else if (Date.now() > deadline) throw new Error(`Cannot go on: ${path} is held by process ${pid}`);
    else await delay(200);
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
