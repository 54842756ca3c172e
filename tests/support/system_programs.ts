/**
 * Programs of the system that tests need: nginx, haproxy, squid, a SOCKS server, a browser, curl. Where CI is set and they are
 * missing, apt-get installs them; elsewhere the tests are skipped, with what to do.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { delimiter, join } from "node:path";
import process from "node:process";
import { accepts } from "./plain_peer.ts";
import { until } from "./until.ts";
import { exists, isCi, madeOnce, output } from "./made_once.ts";

const INSTALL_TIMEOUT_MS = 300_000;

/** Debian's package of each program. */
const PACKAGES = {
  nginx: "nginx-light",
  haproxy: "haproxy",
  squid: "squid",
  microsocks: "microsocks",
  chromium: "chromium",
  curl: "curl",
} as const;

/** A program that tests may ask for. */
export type SystemProgram = keyof typeof PACKAGES;

/** Where a program is; undefined where it is nowhere. */
export async function findProgram(name: SystemProgram): Promise<string | undefined> {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];
  for (const folder of folders) {
    const path = join(folder, name);
    if (folder !== "" && await exists(path)) return path;
  }
  return undefined;
}

/** Resolves when a program listens at a port of this machine; rejects, with what it wrote, if it ends before. */
export async function untilListening(child: ChildProcess, port: number, wrote: () => string): Promise<void> {
  await until(async () => {
    assert.equal(child.exitCode, null, `the program doesn't listen: ${wrote()}`);
    return await accepts(port);
  });
}

/** A reason to skip tests that need a program, or false: with CI set it is installed, and the tests fail without it. */
export async function skipWithout(name: SystemProgram): Promise<string | false> {
  if (await findProgram(name) !== undefined) return false;
  const how = `install the package ${PACKAGES[name]}`;
  if (!isCi()) return `${name} isn't installed: ${how}`;
  try {
    // One name for all programs: apt-get takes no second process beside it.
    await madeOnce("apt", INSTALL_TIMEOUT_MS, async () => {
      const env = { DEBIAN_FRONTEND: "noninteractive" };
      await output("apt-get", ["update"], INSTALL_TIMEOUT_MS, env);
      await output(
        "apt-get",
        ["install", "-y", "--no-install-recommends", PACKAGES[name]],
        INSTALL_TIMEOUT_MS,
        env,
      );
    });
  } catch (error) {
    // Nothing is kept under .cache: the package is the system's, and madeOnce has no folder to move.
    if (await findProgram(name) === undefined) {
      return `Cannot install ${name}, ${how}: ${error instanceof Error ? error.message : String(error)}`;
    }
  }
  return await findProgram(name) === undefined ? `${name} isn't there: ${how}` : false;
}
