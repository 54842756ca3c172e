/** What the connections of a runtime share, in virtual time. */
import { MemoryBudget } from "../../src/bytes/memory_budget.ts";
import { BulkPace } from "../../src/runtime/bulk_pace.ts";
import { ClosePace } from "../../src/runtime/close_pace.ts";
import { DescriptorGuard } from "../../src/runtime/descriptors.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import { BufferPool } from "../../src/runtime/out_queue.ts";
import { Faults, type Shared } from "../../src/runtime/shared.ts";

/** A new set of it. */
export function makeShared(): Shared {
  const { clock } = createMemoryNetwork();
  const memory = new MemoryBudget();
  return {
    ...{ clock, memory, descriptors: new DescriptorGuard(), faults: new Faults() },
    pool: new BufferPool(memory),
    pace: new BulkPace(clock.soon),
    closing: new ClosePace(clock.nowMs, clock.soon),
  };
}
