/**
 * Whether this program is compiled into one file with its runtime.
 *
 * @module
 */
import process from "node:process";

/** Whether this program is a single file: `bun build --compile` and `deno compile` embed the script in the executable. */
export function isSingleFile(): boolean {
  const script = process.argv[1];
  return script === undefined || script.startsWith("/$bunfs/") ||
    !/(^|[/\\])(deno|bun)(\.exe)?$/.test(process.execPath);
}
