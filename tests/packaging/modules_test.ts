/** The program as `deno task build modules` writes it, on the runtime of the test. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { after, describe, it } from "node:test";
import { buildModules } from "../../packaging/build.ts";
import { fernetKey } from "../support/tokens.ts";
import { until } from "../support/until.ts";

const isBun = process.versions.bun !== undefined;
/**
 * What an edge may take after the start beyond a program that only waits. Measured on two machines: 44 and 50 MB on Deno,
 * 48 and 53 on Bun.
 */
const EDGE_MAX_MB = 56;
const WAITING = `setInterval(() => {}, 60_000); console.log("waits")`;
const STARTS_MAX = 4;
const SETTLE_MS = 5_000;
const timeout = 120_000;

describe("the program as built modules", { skip: process.platform === "win32" }, () => {
  let folder: string | undefined;
  let edge: ChildProcess | undefined;
  after(async () => {
    if (edge?.exitCode === null && edge.kill("SIGKILL")) await once(edge, "exit");
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  });

  it("starts an edge that takes little memory", { timeout }, async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-modules-"));
    await chmod(folder, 0o700);
    const main = buildModules(join(folder, "modules"));
    const flags = isBun ? [] : ["run", "-A", "--no-config", "--unstable-net"];
    const words = [...flags, main, "edge", "--listen", "127.0.0.1:0", "--data-dir", folder];
    const most = EDGE_MAX_MB + await waitingMb(folder, flags);
    let isSmall = false;
    // The first time Deno analyses and compiles the modules for its cache, and takes 190 MB.
    for (let start = 0; !isSmall && start < STARTS_MAX; start++) {
      const child = edge = spawn(process.execPath, words, {
        env: { ...process.env, SALLYPORT_FERNET_KEYS: fernetKey() },
        stdio: ["ignore", "pipe", "ignore"],
      });
      const lines: string[] = [];
      createInterface(child.stdout!).on("line", (line) => void lines.push(line));
      await until(() => lines.some((line) => line.includes("Fernet keys")), timeout);
      const small = async () => process.platform !== "linux" || await residentMb(child.pid!) < most;
      isSmall = await until(small, SETTLE_MS).then(() => true, () => false);
      // Not by `kill` of the child: Deno then reports this signal as its end, whatever it ended with.
      process.kill(child.pid!, "SIGTERM");
      assert.deepEqual(await once(child, "exit"), [0, null]);
    }
    assert.ok(isSmall, `it takes more than ${most} MB`);
  });
});

/** What a program takes that does nothing. */
async function waitingMb(folder: string, flags: readonly string[]): Promise<number> {
  if (process.platform !== "linux") return 0;
  const script = join(folder, "waiting.js");
  await writeFile(script, WAITING);
  const child = spawn(process.execPath, [...flags, script], { stdio: ["ignore", "pipe", "ignore"] });
  await once(child.stdout!, "data");
  const mb = await residentMb(child.pid!);
  child.kill("SIGKILL");
  await once(child, "exit");
  return mb;
}

async function residentMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024 / 1e6;
}
