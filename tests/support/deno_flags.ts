/**
 * How Deno runs a program of this project in the tests: with the permission set that its users have, never with all
 * permissions, and with the system's temporary folder, where tests keep their files.
 *
 * @module
 */
import { realpathSync } from "node:fs";
import { tmpdir } from "node:os";
import { commandOf, permissionFlag } from "../../src/runtime/deno/permissions.ts";

/** The words between `deno` and the file, where `args` are behind it and decide on the set; `-q` for no word about sets. */
export function denoFlags(args: readonly string[] = []): string[] {
  const folders = [...new Set([tmpdir(), realpathSync(tmpdir())])].join(",");
  const files = [`--allow-read=${folders}`, `--allow-write=${folders}`];
  return ["run", "-q", permissionFlag(commandOf(args)), ...files, "--no-prompt", "--no-check"];
}
