/**
 * The runtime that the tests don't run on, to show that both understand each other.
 *
 * @module
 */
import { execFile } from "node:child_process";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { denoFlags } from "./deno_flags.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** How a file of this project is run on the other runtime. */
export interface OtherRuntime {
  readonly name: "deno" | "bun";
  readonly command: string;
  readonly args: readonly string[];
}

/** The other runtime, from PATH or from the project's own packages; undefined where it isn't installed. */
export async function otherRuntime(): Promise<OtherRuntime | undefined> {
  const name = process.versions.deno === undefined ? "deno" : "bun";
  const args = name === "deno" ? denoFlags() : [];
  const own = join(ROOT, "node_modules", ".bin", name);
  for (const command of [name, own]) {
    try {
      await promisify(execFile)(command, ["--version"]);
      return { name, command, args };
    } catch {
      // The next place.
    }
  }
  return undefined;
}
