/**
 * Runs a file to its end.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { dirname } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { denoFlags } from "./deno_flags.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
/** A process that doesn't end by itself is killed then. */
const PATIENCE_MS = 60_000;

/** How a process ended, and what it printed. */
export interface Ended {
  readonly code: number | NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a file of the project, by its path from the root, as a process of the runtime that the tests run on. */
export function runFile(file: string): Promise<Ended> {
  const runtime = process.versions.deno === undefined ? [] : denoFlags();
  const env = { ...process.env, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1" };
  const child: ChildProcess = spawn(process.execPath, [...runtime, file], {
    cwd: ROOT,
    env,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: PATIENCE_MS,
    killSignal: "SIGKILL",
  });
  let stdout = "";
  let stderr = "";
  child.stdout?.on("data", (chunk) => stdout += String(chunk));
  child.stderr?.on("data", (chunk) => stderr += String(chunk));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code: code ?? signal, stdout, stderr }));
  });
}
