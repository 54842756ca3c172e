/** A worker that joins its parent, over real unix sockets. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { ControlConnection } from "../../src/cluster/control.ts";
import { createMemoryDirectory } from "../../src/cluster/memory_directory.ts";
import { directoryMethods } from "../../src/cluster/remote_directory.ts";
import { joinParent } from "../../src/cluster/worker.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { silentLogger } from "../../src/telemetry/log.ts";

it("joinParent heeds a drain that comes while the worker is still joining", async () => {
  const runtime = await currentRuntime();
  const folder = await mkdtemp(join(tmpdir(), "sallyport-test-"));
  const controlPath = join(folder, "parent.sock");
  const answered = Promise.withResolvers<unknown>();
  const listener = await runtime.listenUnix({
    path: controlPath,
    accept: (conn) => {
      const directory = createMemoryDirectory({ clock: runtime.clock });
      const control = new ControlConnection(conn, runtime.clock, directoryMethods(directory));
      control.add({
        hello: () => {
          control.call("drain", { graceMs: 7, successor: true }).then(answered.resolve, answered.reject);
          return true;
        },
      });
    },
  });
  const drained: number[] = [];
  try {
    const membership = await joinParent({
      runtime,
      log: silentLogger,
      assignment: {
        index: 0,
        number: 0,
        node: "0".repeat(32),
        folder,
        controlPath,
        secret: "00".repeat(32),
        startedAtS: 0,
        listening: undefined,
      },
      host: { local: () => undefined, sessions: () => 0, shares: () => undefined },
      drain: (graceMs) => drained.push(graceMs),
      metrics: () => Promise.resolve(undefined),
    });
    await answered.promise;
    assert.deepEqual(drained, [7]);
    assert.equal(membership.node.successor, true);
    await membership.close(0);
  } finally {
    listener.close();
    await rm(folder, { recursive: true, force: true });
  }
});
