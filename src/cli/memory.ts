/**
 * `--memory-limit`: what the process may take, and how much of it the bytes that wait may.
 *
 * @module
 */
import type { Config } from "../config/config.ts";
import { MEMORY_LIMIT_MIN_BYTES } from "../config/values.ts";
import { machineMemoryBytes } from "../runtime/machine_memory.ts";
import type { Runtime } from "../runtime/port.ts";
import { workerCount } from "./workers.ts";

const MiB = 1024 * 1024;
/** Where nothing is set, the process takes at most one part in so many of what its cgroup or the machine has, */
export const MEMORY_SHARE = 2;
/** and this much where the system doesn't tell. */
export const MEMORY_UNKNOWN_BYTES = 1024 * MiB;
/** The runtime itself, the program, what connections take beside their bytes, and memory that the runtime frees late. */
export const RUNTIME_RESERVE_BYTES = 320 * MiB;
/** Of what is left bytes that wait get one part in so many. */
export const WAITING_SHARE = 2;

/** What a process of this command may take, whether set or not. */
function memoryLimitBytes(
  { memoryLimit, workers }: Partial<Pick<Config, "memoryLimit" | "workers">>,
): number {
  const own = machineMemoryBytes();
  const all = memoryLimit ?? (own === undefined ? MEMORY_UNKNOWN_BYTES : own / MEMORY_SHARE);
  return Math.floor(
    Math.max(MEMORY_LIMIT_MIN_BYTES, all / (workers === undefined ? 1 : workerCount(workers))),
  );
}

/** How many bytes may wait in a process that may take this much. */
function waitingBytes(limitBytes: number): number {
  return Math.floor((limitBytes - RUNTIME_RESERVE_BYTES) / WAITING_SHARE);
}

/** Sets the budget of this process. */
export function limitMemory(
  runtime: Runtime,
  config: Partial<Pick<Config, "memoryLimit" | "workers">>,
): void {
  runtime.memory.limitBytes = waitingBytes(memoryLimitBytes(config));
}
