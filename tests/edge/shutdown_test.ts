import assert from "node:assert/strict";
import { AlertDescription } from "../../src/wire/tls/tls_alert.ts";
import { describe, it } from "node:test";
import { createEdge } from "../../src/edge/edge.ts";
import { PendingBudgets } from "../../src/edge/pending_budgets.ts";
import { ProtocolDetector, type ProtocolDetectorOptions } from "../../src/edge/protocol_detector.ts";
import type { Visitors } from "../../src/edge/visitors.ts";
import type { Conn } from "../../src/runtime/port.ts";
import { bytesOf, pattern } from "../conformance/runtime_helpers.ts";
import {
  AGENT_HOST,
  assertAlert,
  bytesFrom,
  EDGE_HOST,
  EDGE_PORT,
  helloFor,
  TestEdge,
  VISITOR_HOST,
} from "../support/tunnel.ts";
import { SHUTDOWN_GRACE_MS } from "../../src/transport/port.ts";

describe("Edge.close", () => {
  it("lets streams finish, and accepts no connection meanwhile", async () => {
    const test = await TestEdge.start();
    const agent = await test.connect();
    const idle = await test.connect({ hostname: "idle.test" }, { from: "10.0.0.3" });
    const { conn } = await test.visit();
    let closed = false;
    const closing = test.edge.close(10_000).then(() => closed = true);
    await test.advance(100);
    assert.equal(idle.endedWith?.code, "connection_lost", "a session without streams ends at once");
    await assert.rejects(test.dial(), { code: "connection_refused" });
    assert.deepEqual(test.edge.addresses, []);
    assert.equal(closed, false);
    agent.streams[0]!.write(pattern(100_000));
    agent.streams[0]!.closeWrite();
    await test.advance(100);
    assert.deepEqual(bytesFrom(conn), pattern(100_000));
    await test.network.settle(closing, test.network.clock.nowMs() + 1_000);
    assert.equal(agent.endedWith?.code, "connection_lost");
    assert.equal(await test.metric("session_ends_total", { reason: "shutdown" }), 2);
    await test.assertNothingLeft();
  });

  it("ends what goes on beyond the grace", async () => {
    const test = await TestEdge.start();
    const agent = await test.connect();
    const { conn } = await test.visit();
    const closing = test.edge.close();
    await test.advance(SHUTDOWN_GRACE_MS - 100);
    assert.equal(conn.closes, 0);
    await test.advance(200);
    await closing;
    assertAlert(conn, AlertDescription.internal_error);
    assert.equal(agent.endedWith?.code, "connection_lost");
    await test.assertNothingLeft();
  });

  it("may be called again, to cut the grace short", async () => {
    const test = await TestEdge.start();
    await test.connect();
    await test.visit();
    const first = test.edge.close(60_000);
    await test.advance(100);
    await test.network.settle(test.edge.close(0), test.network.clock.nowMs() + 100);
    await test.network.settle(first, test.network.clock.nowMs() + 100);
    await test.assertNothingLeft();
  });

  it("ends connections that haven't been routed or admitted, whatever they wait for", async () => {
    const test = await TestEdge.start({ authorize: () => new Promise(() => {}) });
    const silent = await test.dial();
    const hello = await test.dial();
    hello.write(helloFor("a.test").slice(0, 50));
    const token = await test.dial(AGENT_HOST);
    token.write(bytesOf(test.token().token.slice(0, 50)));
    const asked = await test.dial(AGENT_HOST);
    asked.write(bytesOf(test.token().token));
    await test.advance(10);
    await test.network.settle(test.edge.close(60_000), test.network.clock.nowMs() + 10);
    await test.advance(10);
    for (const conn of [silent, hello, token, asked]) assert.equal(conn.closes, 1);
    assert.equal(await test.refusals("connection", "shutdown"), 1);
    assert.equal(await test.refusals("visitor", "shutdown"), 1);
    assert.equal(await test.refusals("agent", "shutdown"), 2);
    await test.assertNothingLeft(0);
  });

  it("ends an agent that is in its challenge", async () => {
    const test = await TestEdge.start();
    const conn = await test.dial(AGENT_HOST);
    conn.write(bytesOf(test.token().token));
    await test.advance(10);
    assert.equal(conn.byteLength, 60);
    await test.edge.close(60_000);
    await test.advance(10);
    assert.equal(conn.closes, 1);
    await test.assertNothingLeft(0);
  });

  it("leaves alone what has been routed, admitted or refused: each has its own end", async () => {
    const test = await TestEdge.start({
      authorize: ({ hostname }) => {
        if (hostname === "no.test") throw new Error("no");
      },
    });
    await test.connect();
    const routed = await test.visit();
    const unknown = await test.visit("b.test");
    const odd = await test.dial();
    odd.write(bytesOf("hello"));
    const forged = await test.dial(AGENT_HOST);
    forged.write(bytesOf("gA" + "=".repeat(100)));
    const denied = await test.dial(AGENT_HOST);
    denied.write(bytesOf(test.token({ hostname: "no.test" }).token));
    await test.advance(100);
    const closing = test.edge.close(60_000);
    await test.advance(100);
    // Nobody has ended their own side yet: a reset would show.
    for (const conn of [routed.conn, unknown.conn, odd, forged, denied]) assert.equal(conn.closes, 0);
    for (const conn of [unknown.conn, odd, forged, denied]) assert.equal(conn.ended, true);
    await test.network.settle(Promise.all([test.edge.close(0), closing]));
    await test.assertNothingLeft();
  });

  it("catches a listener that is being opened", async () => {
    const test = await TestEdge.start({ listen: [] });
    const runtime = test.runtime(EDGE_HOST);
    const edge = createEdge({ runtime, ring: test.ring });
    const opening = edge.listen({ host: EDGE_HOST, port: EDGE_PORT });
    const closing = edge.close();
    await assert.rejects(test.network.settle(opening), { code: "shutdown" });
    await closing;
    await assert.rejects(test.dial(), { code: "connection_refused" });
    await test.assertNothingLeft(0);
  });
});

/** What becomes of connections, by how often each was said to be settled. */
describe("ProtocolDetector: a connection is settled once", () => {
  const hello = helloFor("a.test");
  for (
    const [what, act] of [
      ["a visitor", (conn: Conn) => void conn.write(hello)],
      ["an unknown protocol", (conn: Conn) => void conn.write(bytesOf("hello"))],
      ["an end without a byte", (conn: Conn) => conn.closeWrite()],
      ["a reset", (conn: Conn) => conn.abort()],
      ["silence", () => {}],
    ] as const
  ) {
    it(what, async () => {
      const test = await TestEdge.start({ listen: [] });
      const { clock } = test.network;
      const pending = new PendingBudgets(clock);
      let refused = 0;
      let routed = 0;
      const visitors = {
        route: (conn: Conn) => {
          routed++;
          conn.abort();
        },
        refuse: () => refused++,
      } as unknown as Visitors;
      const options: ProtocolDetectorOptions = {
        clock,
        accepts: "visitors",
        pending,
        visitors,
        refused: () => refused++,
        alone: false,
        transport: () => assert.fail("no agent came"),
      };
      await test.runtime(EDGE_HOST).listen({
        host: EDGE_HOST,
        port: 1,
        accept: (conn) => {
          assert.ok(new ProtocolDetector(conn, false, options).start());
          assert.equal(pending.size(), 1);
        },
      });
      const conn = await test.dial(VISITOR_HOST, 1);
      act(conn.conn);
      await test.network.runUntilIdle();
      assert.equal(pending.size(), 0);
      assert.deepEqual([refused, routed], what === "a visitor" ? [0, 1] : [1, 0]);
      await test.assertNothingLeft();
    });
  }
});
