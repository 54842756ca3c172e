/**
 * How Deno runs a program of this project in the tests: with the permission set that its users have, never with all
 * permissions, and with the system's temporary folder, where tests keep their files.
 *
 * @module
 */
import { realpathSync } from "node:fs";
import { tmpdir } from "node:os";
import { commandOf, permissionFlag } from "../../src/runtime/deno/permissions.ts";

/** The words between `deno` and the file, where `args` follow it and decide on the set; `-q` for no word about sets. */
export function denoFlags(args: readonly string[] = []): string[] {
  const folders = [...new Set([tmpdir(), realpathSync(tmpdir())])].join(",");
  // Native libsodium, where it is asked for, looks at the system for its build; no set allows that.
  const native = args.includes("--libsodium") && args[args.indexOf("--libsodium") + 1] === "native";
  const reading = native ? ["--allow-ffi", "--allow-read"] : [`--allow-read=${folders}`];
  const files = [...reading, `--allow-write=${folders}`];
  const hook = args.indexOf("--acme-dns-hook");
  const running = hook < 0 ? [] : [`--allow-run=${args[hook + 1]}`];
  const set = args.includes("--workers") ? "-P=workers" : permissionFlag(commandOf(args));
  return ["run", "-q", set, ...files, ...running, "--no-prompt", "--no-check"];
}
