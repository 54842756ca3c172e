/**
 * What Bun reads from the environment before it runs a program. A process that was started without it executes itself
 * once more, so that it doesn't matter who starts the program and how.
 *
 * @module
 */
import process from "node:process";
import { isSingleFile } from "./single_file.ts";

/**
 * JavaScriptCore's third compiler stays off. It takes a second of processor time in the first 50,000 visitors, who wait
 * for the processor, and makes none of them cheaper: docs/benchmarks.md, "Pauses".
 */
const BUN_ENVIRONMENT: Readonly<Record<string, string>> = { BUN_JSC_useFTLJIT: "0" };

/** The commands that carry bytes, and none at all, which means `serve`. The others end before they are compiled. */
const CARRIERS: ReadonlySet<string | undefined> = new Set([
  undefined,
  "agent",
  "demo",
  "edge",
  "pipe",
  "serve",
  "snocat",
]);

/**
 * On Bun, replaces this process by itself in {@link BUN_ENVIRONMENT} if its command needs that: same process id, same
 * files, same arguments. Variables that are set already keep their values. Returns if there is nothing to do, or if the
 * system can't (Windows): then the program runs as it was started.
 *
 * @param args the arguments after the program's name
 */
export function restartInBunEnvironment(args: readonly string[]): void {
  if (process.versions.bun === undefined || process.platform === "win32") return;
  const command = args[0]?.startsWith("-") ? undefined : args[0];
  const missing = Object.keys(BUN_ENVIRONMENT).some((name) => process.env[name] === undefined);
  if (!missing || !CARRIERS.has(command)) return;
  const words = isSingleFile() ? args : [process.argv[1]!, ...args];
  const environment = { ...BUN_ENVIRONMENT, ...process.env } as Record<string, string>;
  try {
    process.execve?.(process.execPath, [process.argv0, ...process.execArgv, ...words], environment);
  } catch {
    // The runtime's file was replaced or may not be executed: slower visitors are better than none.
  }
}
