/** Visitors whose way to the agent is lost before its first byte: they are tried again on another one. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  FORWARD_AGAIN_MS,
  FORWARD_AGAIN_PAUSE_MS,
  FORWARD_KEPT_MAX_BYTES,
} from "../../src/cluster/forwarded_stream.ts";
import { SallyportError } from "../../src/errors.ts";
import type { MemoryNetwork } from "../../src/runtime/memory/memory.ts";
import type { Caller, Session, SessionStream } from "../../src/transport/port.ts";
import { cluster, type TestNode, visit } from "./test_node.ts";

const NAME = "home.example.org";
const CALLER: Caller = { address: "203.0.113.9", port: 50_123, serverName: NAME };

/** Three nodes, with an agent at the first that takes a visitor's bytes and says nothing, and a way to it from the second. */
async function mute(): Promise<
  { network: MemoryNetwork; nodes: TestNode[]; found: Session; callers: Caller[] }
> {
  const { network, nodes } = await cluster(3);
  const { callers } = nodes[0]!.serve(NAME, { answers: false, madeAtMs: 1 });
  await network.advance(10);
  const found = await network.settle(Promise.resolve(nodes[1]!.node.find(NAME)));
  return { network, nodes, found: found!, callers };
}

/** What becomes of a visitor, without waiting for it. */
function watched(visited: Promise<string>): { got?: string; error?: SallyportError } {
  const outcome: { got?: string; error?: SallyportError } = {};
  visited.then((got) => outcome.got = got, (error) => outcome.error = error);
  return outcome;
}

describe("ForwardedStream", () => {
  it("brings a visitor to the agent's new session at another node when its node dies before it answers", async () => {
    const { network, nodes: [a, , c], found, callers } = await mute();
    const outcome = watched(visit(found, CALLER));
    await network.advance(10);
    assert.equal(callers.length, 1);
    await network.settle(a!.kill());
    // As soon as an agent is at another node.
    await network.advance(500);
    assert.deepEqual(outcome, {});
    const served = c!.serve(NAME, { madeAtMs: 2 });
    await network.advance(FORWARD_AGAIN_PAUSE_MS + 50);
    assert.deepEqual(outcome, { got: "hello" });
    assert.deepEqual(served.callers, [CALLER]);
  });

  it("brings a visitor to a session that has come to the node where it arrived", async () => {
    const { network, nodes: [a, b], found } = await mute();
    const outcome = watched(visit(found, CALLER));
    await network.advance(10);
    await network.settle(a!.kill());
    const served = b!.serve(NAME, { madeAtMs: 2 });
    await network.advance(FORWARD_AGAIN_PAUSE_MS + 50);
    assert.deepEqual(outcome, { got: "hello" });
    assert.deepEqual(served.callers, [CALLER]);
    assert.equal(served.open.size, 0);
  });

  it("asks the directory again when the other node no longer holds the name", async () => {
    const { network, nodes: [a, b, c], found } = await mute();
    a!.sessions.clear();
    const served = c!.serve(NAME, { madeAtMs: 2 });
    await network.advance(10);
    assert.equal(await network.settle(visit(found, CALLER)), "hello");
    assert.deepEqual(served.callers, [CALLER]);
    assert.equal(b!.links, 2);
  });

  it("ends with the first reason when no other way is found in time", async () => {
    const { network, nodes: [a], found } = await mute();
    const outcome = watched(visit(found, CALLER));
    await network.advance(10);
    await network.settle(a!.kill());
    await network.advance(FORWARD_AGAIN_MS - FORWARD_AGAIN_PAUSE_MS - 20);
    assert.deepEqual(outcome, {});
    await network.advance(2 * FORWARD_AGAIN_PAUSE_MS);
    assert.equal(outcome.error?.code, "connection_lost");
  });

  it("does not repeat what the agent has begun to answer, or what it has refused", async () => {
    const { network, nodes: [a, b, c] } = await cluster(3);
    a!.serve(NAME, { madeAtMs: 1 });
    await network.advance(10);
    const found = await network.settle(Promise.resolve(b!.node.find(NAME)));
    const { stream, outcome } = open(found!);
    stream.write(new Uint8Array(10));
    await network.advance(10);
    assert.equal(outcome.bytes, 10);
    await network.settle(a!.kill());
    const served = c!.serve(NAME, { madeAtMs: 2 });
    await network.advance(FORWARD_AGAIN_MS);
    assert.equal(outcome.error?.code, "connection_lost");
    assert.deepEqual(served.callers, []);

    const unreachable = new SallyportError("endpoint_unreachable", "Cannot reach", { side: "network" });
    const refusing = c!.sessions.get(NAME)!;
    let refused = 0;
    Object.assign(refusing, {
      open() {
        refused++;
        throw unreachable;
      },
    });
    const another = await network.settle(Promise.resolve(b!.node.find(NAME)));
    await assert.rejects(network.settle(visit(another!, CALLER)), { code: "endpoint_unreachable" });
    assert.equal(refused, 1);
  });

  it("does not keep more of a visitor than a ClientHello", async () => {
    const { network, nodes: [a, , c], found } = await mute();
    const { stream, outcome } = open(found);
    stream.write(new Uint8Array(FORWARD_KEPT_MAX_BYTES));
    assert.ok(stream.heldBytes! >= FORWARD_KEPT_MAX_BYTES);
    stream.write(new Uint8Array(1));
    await network.advance(10);
    await network.settle(a!.kill());
    const served = c!.serve(NAME, { madeAtMs: 2 });
    await network.advance(FORWARD_AGAIN_MS);
    assert.equal(outcome.error?.code, "connection_lost");
    assert.deepEqual(served.callers, []);
  });

  it("opens no stream for a visitor who has left meanwhile", async () => {
    const { network, nodes: [a, , c], found } = await mute();
    const [aborted, released] = [open(found), open(found)];
    for (const { stream } of [aborted, released]) stream.write(new Uint8Array(10));
    await network.advance(10);
    await network.settle(a!.kill());
    await network.advance(10);
    aborted.stream.abort();
    released.stream.release();
    await network.advance(1);
    assert.deepEqual([aborted.outcome.closed, released.outcome.closed], [true, true]);
    const served = c!.serve(NAME, { madeAtMs: 2 });
    await network.advance(FORWARD_AGAIN_MS);
    assert.deepEqual(served.callers, []);
  });
});

/** A stream of a visitor, and what has come to it. */
function open(session: Session): {
  stream: SessionStream;
  outcome: { bytes: number; closed: boolean; error?: SallyportError };
} {
  const outcome: { bytes: number; closed: boolean; error?: SallyportError } = { bytes: 0, closed: false };
  const stream = session.open(CALLER);
  stream.attach({
    data: (chunk) => void (outcome.bytes += chunk.length),
    end() {},
    drain() {},
    close: (error) => void Object.assign(outcome, { closed: true, error }),
  });
  return { stream, outcome };
}
