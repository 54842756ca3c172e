/** Connections that come from a service manager's socket behave as those of the runtimes' own. */
import assert from "node:assert/strict";
import process from "node:process";
import { MemoryBudget } from "../../src/bytes/memory_budget.ts";
import { BulkPace } from "../../src/runtime/bulk_pace.ts";
import { ClosePace } from "../../src/runtime/close_pace.ts";
import { DescriptorGuard } from "../../src/runtime/descriptors.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { LIBRARY, openSystemSockets } from "../../src/runtime/deno/system_sockets.ts";
import { listenWithNode } from "../../src/runtime/bun/node_listener.ts";
import { BufferPool } from "../../src/runtime/out_queue.ts";
import { Faults, listenError } from "../../src/runtime/shared.ts";
import type { Harness } from "./runtime_helpers.ts";
import { runtimeSuite } from "./runtime_suite.ts";

/** On Bun node:net accepts them, here on sockets of its own. */
async function openOnBun(): Promise<Harness> {
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

/** On Deno they take the place of a listener's socket, here copies of a listener's that is closed then. */
async function openOnDeno(): Promise<Harness> {
  const runtime = await currentRuntime();
  const sockets = openSystemSockets();
  assert.ok(sockets !== undefined);
  const { dup } = Deno.dlopen(LIBRARY, { dup: { parameters: ["i32"], result: "i32" } }).symbols;
  return {
    runtime: {
      ...runtime,
      // deno-lint-ignore require-await -- exceptions must become rejections
      listen: async (options) => {
        if (options.reusePort) return runtime.listen(options);
        const original = sockets.next();
        try {
          const listener = Deno.listen({ hostname: options.host, port: options.port });
          const descriptor = dup(original);
          listener.close();
          return runtime.listen({ ...options, descriptor });
        } catch (cause) {
          throw listenError(options, cause);
        }
      },
    },
    host: "127.0.0.1",
    virtualTime: false,
    run: (body) => body(),
    fetch: (url) => fetch(url),
  };
}

if (process.versions.bun !== undefined) runtimeSuite("passed sockets", openOnBun);
else if (Deno.build.os === "linux") runtimeSuite("passed sockets", openOnDeno);
