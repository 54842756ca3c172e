/**
 * `--memory-limit`: the process's memory limit, and the part of it available for buffered bytes.
 *
 * @module
 */
import type { Config } from "../config/config.ts";
import { MEMORY_LIMIT_MIN_BYTES } from "../config/values.ts";
import { machineMemoryBytes } from "../runtime/machine_memory.ts";
import type { Runtime } from "../runtime/port.ts";
import { workerCount } from "./workers.ts";

const MiB = 1024 * 1024;
/** By default the process uses at most one part in this many of its cgroup's or the machine's memory. */
export const MEMORY_SHARE = 2;
/** Default memory limit if the system doesn't report its memory. */
export const MEMORY_UNKNOWN_BYTES = 1024 * MiB;
/**
 * Memory reserved for the runtime, the program, connections' state besides their bytes, and memory that the runtime
 * frees late.
 */
export const RUNTIME_RESERVE_BYTES = 320 * MiB;
/** Buffered bytes get one part in this many of the rest. */
export const WAITING_SHARE = 2;

/** The memory limit of a process of this command, configured or default. */
function memoryLimitBytes(
  { memoryLimit, workers }: Partial<Pick<Config, "memoryLimit" | "workers">>,
): number {
  const own = machineMemoryBytes();
  const all = memoryLimit ?? (own === undefined ? MEMORY_UNKNOWN_BYTES : own / MEMORY_SHARE);
  return Math.floor(
    Math.max(MEMORY_LIMIT_MIN_BYTES, all / (workers === undefined ? 1 : workerCount(workers))),
  );
}

/** How many bytes may be buffered in a process with this memory limit. */
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
