/**
 * Whether this program is compiled into one file with its runtime.
 *
 * @module
 */
import process from "node:process";
import { isDenoStandalone } from "../runtime/deno/standalone.ts";

/** Whether `bun build --compile` or `deno compile` put this program into its executable. */
export function isSingleFile(): boolean {
  // Not by the executable's name: a system may install Bun under one of its own.
  return isDenoStandalone() || /^(\/\$bunfs\/|[A-Z]:[/\\]~BUN[/\\])/.test(process.argv[1] ?? "");
}
