/**
 * Makes snocat's own program available to the interop tests: `snocat-cli` of {@link SNOCAT_VERSION}, built once under
 * `.cache/` with the machine's cargo.
 *
 * @module
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { exists, isCi, madeOnce, output } from "../support/made_once.ts";

/** The peer's version on crates.io, the last one. */
export const SNOCAT_VERSION = "0.8.0-alpha.5";

/** Building took two minutes on two busy cores; a slow machine may need much longer. */
const BUILD_TIMEOUT_MS = 900_000;

let made: Promise<string> | undefined;

/**
 * The path of a `snocat-cli`: SNOCAT_CLI where the environment names one, otherwise built on the first call.
 *
 * @throws with what is missing and what to do, when it can't be built.
 */
export function snocatCli(): Promise<string> {
  return made ??= prepare();
}

/**
 * A reason to skip the tests with snocat-cli, or false to run them. Only a machine without cargo has one where CI is
 * set; elsewhere a build that fails is one too.
 */
export async function skipSnocat(): Promise<string | false> {
  if (process.env.SNOCAT_CLI === undefined && await cargo() === undefined) {
    return "Cannot build snocat-cli: there is no cargo. Install Rust, or set SNOCAT_CLI to a snocat-cli";
  }
  try {
    await snocatCli();
    return false;
  } catch (error) {
    if (isCi()) throw error;
    return error instanceof Error ? error.message : String(error);
  }
}

async function prepare(): Promise<string> {
  const given = process.env.SNOCAT_CLI;
  if (given !== undefined) {
    if (!await exists(given)) throw new Error(`Cannot use SNOCAT_CLI: ${given} isn't there`);
    return given;
  }
  const folder = await madeOnce(`snocat-${SNOCAT_VERSION}`, BUILD_TIMEOUT_MS, build);
  return join(folder, "bin", process.platform === "win32" ? "snocat-cli.exe" : "snocat-cli");
}

async function build(folder: string): Promise<void> {
  const target = join(folder, "target");
  const what = ["snocat-cli", "--version", SNOCAT_VERSION, "--locked", "--debug"];
  const where = ["--root", folder, "--target-dir", target, "--quiet"];
  try {
    await output(await cargo() ?? "cargo", ["install", ...what, ...where], BUILD_TIMEOUT_MS, {
      // Both crates ask for a feature by name that has long been stable; a stable compiler needs to be told to bear it.
      RUSTC_BOOTSTRAP: "snocat,snocat_cli",
      CARGO_PROFILE_DEV_DEBUG: "0",
    });
    await rm(target, { recursive: true, force: true });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(`Cannot build snocat-cli ${SNOCAT_VERSION}: ${why}`);
  }
}

async function cargo(): Promise<string | undefined> {
  const home = process.env.CARGO_HOME ?? join(process.env.HOME ?? "", ".cargo");
  for (const candidate of ["cargo", join(home, "bin", "cargo")]) {
    const answer = await output(candidate, ["--version"], 30_000).catch(() => undefined);
    if (answer !== undefined) return candidate;
  }
  return undefined;
}
