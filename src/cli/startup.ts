/**
 * A command's start message: a heading, facts, and next steps.
 *
 * @module
 */
import process from "node:process";
import { VERSION } from "../version.ts";
import type { Runtime } from "../runtime/port.ts";
import type { CliIo } from "./io.ts";

/** A start message. */
interface Startup {
  /** The runtime's name and version. */
  readonly runtime: Pick<Runtime, "name" | "version"> & Partial<Pick<Runtime, "descriptors" | "memory">>;
  /** Facts: pairs of a label and its value. */
  readonly facts: readonly (readonly [string, string])[];
  /** Next steps, in order of need. */
  readonly next?: Step | readonly Step[];
}

/** A step of a start message: what it does, and the command line for it, which may have several lines. */
export interface Step {
  readonly what: string;
  readonly lines: readonly string[];
}

/** Prints a start message to standard output. */
export function printStartup(io: CliIo, { runtime, facts: given, next }: Startup): void {
  const { limit, connectionsMax } = runtime.descriptors ?? {};
  const { limitBytes = Infinity } = runtime.memory ?? {};
  const files = `${limit} files and sockets, so about ${connectionsMax} connections`;
  const facts: (readonly [string, string])[] = [...given];
  if (limit !== undefined) facts.push(["file limit", files]);
  if (limitBytes < Infinity) {
    facts.push([
      "memory limit",
      `${Math.floor(limitBytes / 1024 / 1024)} MiB of bytes queued for slow readers`,
    ]);
  }
  const name = { deno: "Deno", bun: "Bun", memory: "memory" }[runtime.name] ?? runtime.name;
  io.out(`Sallyport ${VERSION} on ${name} ${runtime.version}`);
  const width = Math.max(...facts.map(([word]) => word.length));
  for (const [word, value] of facts) io.out(`  ${word.padEnd(width)}  ${value}`);
  for (const { what, lines } of next === undefined ? [] : [next].flat()) {
    io.out(`\n${what}`);
    for (const line of typeable(lines)) io.out(`  ${line}`);
  }
}

/** Command lines for this system's shell: Windows' shells don't continue a line at a backslash. */
export function typeable(lines: readonly string[], platform: string = process.platform): readonly string[] {
  return platform === "win32" ? lines.join("\n").replace(/ \\\n +/g, " ").split("\n") : lines;
}

/** Quotes a word for this system's shell; cmd.exe knows double quotes only, and PowerShell takes them too. */
export function shellWord(word: string, platform: string = process.platform): string {
  if (platform === "win32") return /^[\w@%+=:,./\\-]+$/.test(word) ? word : `"${word}"`;
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
