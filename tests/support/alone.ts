/**
 * Things that are made once under `.cache/`, by whichever process comes first.
 *
 * @module
 */
import { mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";

const TIMEOUT_MS = 300_000;

/** Runs `make` while no other process (Deno's and Bun's runs come at the same time) does so for the same folder. */
export async function alone(folder: string, make: () => Promise<void>): Promise<void> {
  await mkdir(dirname(folder), { recursive: true });
  const held = `${folder}.lock`;
  await lock(held);
  try {
    await make();
  } finally {
    await rm(held, { recursive: true, force: true });
  }
}

/** A folder is made by one process alone; one whose maker is gone is taken over. */
async function lock(held: string): Promise<void> {
  const deadline = Date.now() + TIMEOUT_MS;
  const note = `${held}/pid`;
  while (true) {
    try {
      await mkdir(held);
      await writeFile(note, String(process.pid));
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const pid = Number(await readFile(note, "utf8").catch(() => "0"));
    const age = Date.now() - await stat(held).then((info) => info.mtimeMs, () => Date.now());
    if (pid > 0 ? !alive(pid) : age > 5_000) await rm(held, { recursive: true, force: true });
    else if (Date.now() > deadline) {
      throw new Error(`Cannot make what the tests need: ${held} is held by process ${pid}`);
    } else await delay(200);
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
