/** Connections that node:net accepts, as from a service manager's socket, behave as Bun's own. */
import assert from "node:assert/strict";
import process from "node:process";
import { MemoryBudget } from "../../src/bytes/memory_budget.ts";
import { BulkPace } from "../../src/runtime/bulk_pace.ts";
import { ClosePace } from "../../src/runtime/close_pace.ts";
import { DescriptorGuard } from "../../src/runtime/descriptors.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { listenWithNode } from "../../src/runtime/bun/node_listener.ts";
import { BufferPool } from "../../src/runtime/out_queue.ts";
import { Faults, listenError } from "../../src/runtime/shared.ts";
import type { Harness } from "./runtime_helpers.ts";
import { runtimeSuite } from "./runtime_suite.ts";

async function open(): Promise<Harness> {
  const runtime = await currentRuntime();
  const { clock } = runtime;
  const memory = new MemoryBudget(clock.soon);
  // The adapters' own class, whose reports the suite listens to.
  assert.ok(runtime.faults instanceof Faults);
  const shared = {
    ...{ clock, descriptors: new DescriptorGuard(), memory },
    faults: runtime.faults,
    pool: new BufferPool(memory),
    pace: new BulkPace(clock.soon),
    closing: new ClosePace(clock.nowMs, clock.soon),
  };
  return {
    runtime: {
      ...runtime,
      listen: (options) =>
        options.reusePort ? runtime.listen(options) : listenWithNode(
          { host: options.host, port: options.port },
          options.accept,
          shared,
        ).catch((cause) => Promise.reject(listenError(options, cause))),
    },
    host: "127.0.0.1",
    virtualTime: false,
    run: (body) => body(),
    fetch: (url) => fetch(url),
  };
}

// Deno loses connections on such sockets (docs/runtimes.md), so its adapter refuses them.
if (process.versions.bun !== undefined) runtimeSuite("passed sockets", open);
