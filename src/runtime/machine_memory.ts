/**
 * How much memory this process may use.
 *
 * @module
 */
import { totalmem } from "node:os";
import process from "node:process";
import { memoryInfoPermitted } from "./deno/permissions.ts";

/**
 * The memory of its cgroup or the machine, whichever is less; undefined if the system doesn't report it or reading it
 * isn't permitted.
 */
export function machineMemoryBytes(): number | undefined {
  // Deno would prompt on a terminal for an optional feature.
  if (!memoryInfoPermitted()) return undefined;
  try {
    // 0, or more than the machine has, if no cgroup limits it.
    const constrained = process.constrainedMemory?.() ?? 0;
    const total = totalmem();
    const bytes = constrained > 0 ? Math.min(constrained, total) : total;
    return bytes > 0 ? bytes : undefined;
  } catch {
    return undefined;
  }
}
