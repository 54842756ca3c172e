#!/usr/bin/env node
/**
 * The command `sallyport` of the npm package: runs the program on the Bun or the Deno that it finds, and brings Bun by
 * its npm package where there is neither. SALLYPORT_RUNTIME=deno or bun chooses.
 *
 * @module
 */
import { spawn, spawnSync } from "node:child_process";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const MAIN = join(dirname(dirname(fileURLToPath(import.meta.url))), "dist", "main.js");
/** The version of Bun's npm package that is brought; those on PATH must be as new as `engines` in package.json says. */
const BUN = "bun@1.4.5";
const OLDEST = { bun: [1, 4], deno: [2, 9] };
/**
 * As on Bun, which has no permissions: native libsodium alone needs one that is as good as all. Deno wouldn't look for a
 * package beside a file in node_modules by itself, and a deno.json of the user's is for another program.
 */
const DENO_FLAGS = [
  "run",
  "--quiet",
  "--no-config",
  "--node-modules-dir=manual",
  "--unstable-net",
  "--allow-all",
];

const args = process.argv.slice(2);
if (process.versions.bun !== undefined || process.versions.deno !== undefined) {
  // `bunx --bun sallyport`, or Deno's own runner: this is a runtime already.
  await import("../dist/main.js");
}
const [command, ...before] = findRuntime();
const child = spawn(command, [...before, ...args], { stdio: "inherit", windowsHide: true });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => {
  console.error(`error: Cannot start ${command}: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)));

/** The words of a command line that runs the program, up to its own arguments. */
function findRuntime() {
  const chosen = process.env.SALLYPORT_RUNTIME;
  const ways = { bun: ["bun", MAIN], deno: ["deno", ...DENO_FLAGS, MAIN] };
  if (chosen && !(chosen in ways)) {
    console.error(`error: Cannot use SALLYPORT_RUNTIME: ${JSON.stringify(chosen)} is neither bun nor deno`);
    process.exit(2);
  }
  for (const name of chosen ? [chosen] : ["bun", "deno"]) {
    if (isNewEnough(name)) return ways[name];
  }
  if (chosen) {
    const oldest = OLDEST[chosen].join(".");
    console.error(
      `error: Cannot start: there is no ${chosen} of version ${oldest} or newer on PATH. Install it, or ` +
        "unset SALLYPORT_RUNTIME",
    );
    process.exit(1);
  }
  console.error(`Neither Bun nor Deno is on PATH: fetching ${BUN} by npx, once`);
  const words = ["--yes", "--package", BUN, "bun", MAIN];
  if (process.platform !== "win32") return ["npx", ...words];
  // Node starts no .cmd file without a shell, whose quoting rules differ: npx's own script, which stands beside node.exe.
  const npx = join(dirname(process.execPath), "node_modules", "npm", "bin", "npx-cli.js");
  return [process.execPath, npx, ...words];
}

function isNewEnough(name) {
  const { status, stdout } = spawnSync(name, ["--version"], { encoding: "utf8", windowsHide: true });
  const found = status === 0 ? /(\d+)\.(\d+)\.\d+/.exec(stdout) : null;
  if (found === null) return false;
  const [major, minor] = OLDEST[name];
  return Number(found[1]) > major || (Number(found[1]) === major && Number(found[2]) >= minor);
}
