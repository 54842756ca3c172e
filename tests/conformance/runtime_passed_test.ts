/** Connections that come from a service manager's socket behave as those of the runtimes' own. */
import assert from "node:assert/strict";
import process from "node:process";
import { MemoryBudget } from "../../src/bytes/memory_budget.ts";
import { BulkPace } from "../../src/runtime/bulk_pace.ts";
import { ClosePace } from "../../src/runtime/close_pace.ts";
import { DescriptorGuard } from "../../src/runtime/descriptors.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { openTcpHandles, systemError, type TcpHandles } from "../../src/runtime/deno/tcp_handles.ts";
import type { Address } from "../../src/runtime/port.ts";
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

/** A descriptor of a socket that listens, which nothing else uses. Throws the system's error. */
function listening(at: Address, handles: TcpHandles): number {
  const handle = handles.bound(at, false);
  try {
    const status = handle.listen(511);
    if (status !== 0) throw systemError(status);
    return handle.fdForIpc();
  } finally {
    handle.close();
  }
}

/** On Deno a TCP handle accepts them, so peers must speak. */
async function openOnDeno(): Promise<Harness> {
  const runtime = await currentRuntime();
  const handles = openTcpHandles()!;
  return {
    runtime: {
      ...runtime,
      // deno-lint-ignore require-await -- exceptions must become rejections
      listen: async (options) => {
        if (options.reusePort) return runtime.listen(options);
        try {
          return runtime.listen({ ...options, descriptor: listening(options, handles) });
        } catch (cause) {
          throw listenError(options, cause);
        }
      },
    },
    host: "127.0.0.1",
    virtualTime: false,
    peersSpeak: true,
    run: (body) => body(),
    fetch: (url) => fetch(url),
  };
}

if (process.versions.bun !== undefined) runtimeSuite("passed sockets", openOnBun);
else if (Deno.build.os === "linux") runtimeSuite("passed sockets", openOnDeno);
