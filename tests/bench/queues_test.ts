/** The trace points of bench/queues: what they record of a message among other bytes. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { markedMessage, markOf, MESSAGE_BYTES, type Passed, traced } from "../../bench/queues/trace.ts";
import { createMemoryNetwork, type MemoryNetwork } from "../../src/runtime/memory/memory.ts";
import type { Conn } from "../../src/runtime/port.ts";
import { Watched } from "../conformance/runtime_helpers.ts";

describe("trace points", () => {
  it("find a message among other bytes, and none where there is none", () => {
    const bytes = new Uint8Array(1000);
    assert.equal(markOf(bytes), undefined);
    bytes.set(markedMessage(42), 300);
    assert.equal(markOf(bytes), 42);
    assert.equal(markOf(bytes.subarray(0, 310)), undefined);
    assert.equal(markedMessage(1).length, MESSAGE_BYTES);
  });

  it("record when a message goes out and comes in, and the beginnings of its connection, and pass all bytes on", async () => {
    const network = createMemoryNetwork();
    const passed: Passed[] = [];
    const runtime = traced(network.runtime("10.0.0.2"), passed, (_, dialled) => dialled ? "near" : "far");
    let far: Watched | undefined;
    const accept = (conn: Conn) => void (far = new Watched(conn));
    const { address } = await runtime.listen({ host: "10.0.0.2", port: 0, accept });
    const dialling = runtime.dial({ host: "10.0.0.2", port: address.port, timeoutMs: 1_000 });
    const near = new Watched(await network.settle(dialling));
    await exchange(network, passed, near, far!);
  });

  it("record the same of a connection that was made without a promise", async () => {
    const network = createMemoryNetwork();
    const passed: Passed[] = [];
    const runtime = traced(network.runtime("10.0.0.2"), passed, (_, dialled) => dialled ? "near" : "far");
    let [near, far]: (Watched | undefined)[] = [];
    const accept = (conn: Conn) => void (far = new Watched(conn));
    const { address } = await runtime.listen({ host: "10.0.0.2", port: 0, accept });
    runtime.connect({ host: "10.0.0.2", port: address.port }, {
      connected: (conn) => void (near = new Watched(conn)),
      failed: (error) => assert.fail(error.message),
    });
    await network.runUntilIdle();
    await exchange(network, passed, near!, far!);
    let failure = "";
    runtime.connect({ host: "10.0.0.2", port: 1 }, {
      connected: () => assert.fail("nobody listens there"),
      failed: ({ code }) => void (failure = code),
    });
    await network.runUntilIdle();
    assert.equal(failure, "connection_refused");
  });

  async function exchange(network: MemoryNetwork, passed: readonly Passed[], near: Watched, far: Watched) {
    let received = 0;
    far.onData = (chunk) => received += chunk.length;
    near.write(new Uint8Array(10_000));
    near.write(markedMessage(7));
    await network.runUntilIdle();
    assert.equal(received, 10_000 + MESSAGE_BYTES);
    near.write(markedMessage(8));
    await network.runUntilIdle();
    assert.deepEqual(passed.map(({ number, point }) => [number, point]), [
      [7, "near dialled"],
      [7, "near opened"],
      [7, "near out"],
      [7, "far opened"],
      [7, "far in"],
      [8, "near out"],
      [8, "far in"],
    ]);
  }
});
