/**
 * How much a connection on Deno may queue: what the socket doesn't take at once waits in the process.
 *
 * @module
 */

import type { MemoryBudget } from "../../bytes/memory_budget.ts";
import type { WriteMarks } from "../promise_stream.ts";

const KiB = 1024;
/** A connection that may queue this much seldom has to pause its source, and writes more with each call. */
const MARKS: WriteMarks = { highBytes: 512 * KiB, lowBytes: 256 * KiB };
/** The same while the process holds much: hundreds of peers may have stopped reading. */
const SHORT_MARKS: WriteMarks = { highBytes: 128 * KiB, lowBytes: 64 * KiB };
/** Buffered bytes of the process from which it holds much. */
const MUCH_BYTES = 16 * 1024 * KiB;

/** What a connection may queue now; `session` has the marks of one that carries a session. */
export function writeMarks(session: WriteMarks | undefined, memory: MemoryBudget): WriteMarks {
  return session ?? (memory.heldBytes < MUCH_BYTES ? MARKS : SHORT_MARKS);
}
