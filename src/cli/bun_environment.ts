/**
 * Variables that Bun reads before it runs a program. A process that was started without them executes itself once more,
 * so that every way to start the program is as fast.
 *
 * @module
 */
import process from "node:process";
import { commandOf } from "../runtime/deno/permissions.ts";
import { isSingleFile } from "./single_file.ts";

/**
 * JavaScriptCore's third compiler stays off. It takes a second of processor time in the first 50,000 visitors, who wait
 * for the processor, and makes none of them cheaper: docs/benchmarks.md, "Pauses".
 */
export const BUN_ENVIRONMENT: Readonly<Record<string, string>> = { BUN_JSC_useFTLJIT: "0" };

/** The commands that carry bytes. The others end before their code is compiled. */
const CARRIERS: ReadonlySet<string> = new Set(["agent", "demo", "edge", "pipe", "serve", "snocat"]);

/**
 * On Bun, replaces this process by itself in {@link BUN_ENVIRONMENT} if its command needs that: same process id, same
 * arguments, same standard streams. Variables that are set already keep their values. Returns if there is nothing to do,
 * if the process was given other files, or if the system can't (Windows): then the program runs as it was started.
 *
 * @param args the arguments after the program's name
 */
export function restartInBunEnvironment(args: readonly string[]): void {
  if (process.versions.bun === undefined || process.platform === "win32") return;
  const missing = Object.keys(BUN_ENVIRONMENT).some((name) => process.env[name] === undefined);
  if (!missing || !CARRIERS.has(commandOf(args)) || hasFilesFromOutside(args)) return;
  // A single file has Bun's options inside, or gets them by BUN_OPTIONS again.
  const words = isSingleFile() ? args : [...process.execArgv, process.argv[1]!, ...args];
  const environment = { ...BUN_ENVIRONMENT, ...process.env } as Record<string, string>;
  try {
    process.execve?.(process.execPath, [process.argv0, ...words], environment);
  } catch {
    // The runtime's file was replaced or may not be executed: slower visitors are better than none.
  }
}

/** Whether this process was given files beside the standard streams: Bun closes them when it executes a program. */
function hasFilesFromOutside(args: readonly string[]): boolean {
  // The service manager's sockets, and what a shell's `<(command)` stands for.
  return process.env.LISTEN_PID === String(process.pid) ||
    [...args, ...Object.values(process.env)].some((word) => /\/(dev|proc\/self)\/fd\//.test(word ?? ""));
}
