/** Visitors who don't read can't fill an edge: it keeps its budget over all sessions, and the others are served. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { pattern } from "../conformance/runtime_helpers.ts";
import { EDGE_HOST, TestEdge } from "../support/tunnel.ts";

const MiB = 1024 * 1024;
const LIMIT_BYTES = 6 * MiB;

describe("createEdge: visitors that don't read", () => {
  it("10 names of 12 visitors each stay within the budget, a neighbour is served, and all of it is free again", async () => {
    const test = await TestEdge.start();
    const { memory } = test.runtime(EDGE_HOST);
    memory.limitBytes = LIMIT_BYTES;
    const neighbour = await test.connect({ hostname: "good.test" });
    const conns = [];
    const chunk = pattern(64 * 1024);
    for (let name = 0; name < 10; name++) {
      const agent = await test.connect({ hostname: `n${name}.test` });
      for (let visitor = 0; visitor < 12; visitor++) {
        const { conn } = await test.visit(`n${name}.test`, { from: `203.0.113.${visitor}` });
        conn.pause();
        conns.push(conn);
      }
      for (let round = 0; round < 3; round++) {
        for (const stream of agent.streams) stream.write(chunk);
        await test.advance(20);
      }
      // One event's bytes may come on top, before the fullest end.
      assert.ok(memory.heldBytes <= LIMIT_BYTES + MiB, `${memory.heldBytes} bytes wait`);
    }
    const { conn } = await test.visit("good.test");
    neighbour.streams[0]!.write(pattern(200_000));
    await test.advance(100);
    assert.equal(conn.byteLength, 200_000);
    for (const stalled of conns) stalled.abort();
    conn.abort();
    await test.advance(100);
    assert.equal(await test.metric("memory_held_bytes"), memory.heldBytes);
    await test.assertNothingLeft();
  });

  it("where shares don't suffice the fullest streams end, and are counted", async () => {
    const test = await TestEdge.start();
    const { memory } = test.runtime(EDGE_HOST);
    memory.limitBytes = 2 * MiB;
    const agents = [];
    for (let name = 0; name < 16; name++) agents.push(await test.connect({ hostname: `n${name}.test` }));
    const conns = [];
    for (let name = 0; name < 16; name++) {
      const { conn } = await test.visit(`n${name}.test`);
      conn.pause();
      conns.push(conn);
    }
    for (const agent of agents) agent.streams[0]!.write(pattern(400_000));
    await test.advance(500);
    assert.ok(memory.evictions > 0);
    assert.equal(await test.metric("memory_evictions_total"), memory.evictions);
    assert.equal(await test.metric("memory_held_bytes_max"), 2 * MiB);
    assert.equal(conns.filter(({ closes }) => closes > 0).length, memory.evictions);
    assert.ok(memory.heldBytes <= 2 * MiB);
    for (const conn of conns) conn.abort();
    await test.advance(100);
    await test.assertNothingLeft();
  });
});
