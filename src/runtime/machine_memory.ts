/**
 * How much memory this process may have.
 *
 * @module
 */
import { totalmem } from "node:os";
import process from "node:process";
import { memoryInfoPermitted } from "./deno/permissions.ts";

/** What its cgroup or the machine has, whichever is less; undefined where the system doesn't tell, or mayn't be asked. */
export function machineMemoryBytes(): number | undefined {
  // Deno would ask on a terminal, for what the program can do without.
  if (!memoryInfoPermitted()) return undefined;
  try {
    // 0, or more than there is, where no cgroup limits it.
    const constrained = process.constrainedMemory?.() ?? 0;
    const total = totalmem();
    const bytes = constrained > 0 ? Math.min(constrained, total) : total;
    return bytes > 0 ? bytes : undefined;
  } catch {
    return undefined;
  }
}
