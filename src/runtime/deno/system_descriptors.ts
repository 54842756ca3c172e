/**
 * The limit and the number of open file descriptors by the system's own calls: Deno lets a program read /proc only with
 * all permissions.
 *
 * @module
 */
import type { DescriptorSystem } from "../descriptors.ts";
import { openSystemLibrary } from "./system_library.ts";

const FUNCTIONS = {
  getrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  poll: { parameters: ["buffer", "usize", "i32"], result: "i32" },
} as const;

/** `RLIMIT_NOFILE` of Linux, on all processors that Deno runs on. */
const LIMIT_OF_FILES = 7;
/** Some containers have no limit to speak of; no process gets this far. */
const LIMIT_MAX = 1_048_576;
/** `struct pollfd`: the descriptor, then 16 bits of wanted events and 16 of those that are there. */
const POLL_BYTES = 8;
const POLL_RESULT_OFFSET = 6;
/** `POLLNVAL`: no such descriptor is open. */
const NOT_OPEN = 0x20;
/** Descriptors that one call asks about. */
const BATCH = 1_024;

/** Opens the calls; undefined where native code isn't permitted or the system is another. */
export function openSystemDescriptors(): DescriptorSystem | undefined {
  const library = openSystemLibrary(FUNCTIONS);
  if (library === undefined) return undefined;
  const limits = new BigUint64Array(2);
  if (library.getrlimit(LIMIT_OF_FILES, limits) !== 0) return undefined;
  const limit = Math.min(LIMIT_MAX, Number(limits[0]));
  return {
    limit: () => limit,
    open() {
      let open = 0;
      for (let first = 0; first < limit; first += BATCH) {
        const count = Math.min(BATCH, limit - first);
        const asked = new DataView(new ArrayBuffer(count * POLL_BYTES));
        for (let i = 0; i < count; i++) asked.setInt32(i * POLL_BYTES, first + i, true);
        library.poll(asked.buffer, BigInt(count), 0);
        for (let i = 0; i < count; i++) {
          if ((asked.getInt16(i * POLL_BYTES + POLL_RESULT_OFFSET, true) & NOT_OPEN) === 0) open++;
        }
      }
      return open;
    },
    nowMs: () => performance.now(),
  };
}
