import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { tcpConnector } from "../../src/agent/connector.ts";
import type { LinkSettings } from "../../src/runtime/memory/memory.ts";
import { type ByteMeter, VISITOR_IDLE_TIMEOUT_MS } from "../../src/transport/splice.ts";
import { pattern, Watched } from "../conformance/runtime_helpers.ts";
import {
  AGENT_HOST,
  bytesFrom,
  EDGE_HOST,
  TestEdge,
  type TestEdgeOptions,
  type Visitor,
  VISITOR_HOST,
} from "../support/tunnel.ts";
import { HALF_CLOSE_GRACE_MS } from "../../src/protocol/mux/endings.ts";
import { IDLE_TICK_MS, IDLE_TICKS } from "../../src/protocol/mux/heartbeat.ts";
import { LINGER_MS } from "../../src/runtime/port.ts";

const MiB = 1024 * 1024;
const CHUNK_BYTES = 128 * 1024;
const ENDPOINT_HOST = "10.0.9.9";
/** Large pieces: fewer events for the same bytes. */
const BULK = { link: { pieceMaxBytes: 512 * 1024, windowBytes: 512 * 1024 } };

/** Visitor, edge, agent and endpoint, all joined. */
interface Tunnel extends Visitor {
  readonly test: TestEdge;
  readonly endpoint: Watched;
  /** The endpoints of later visitors too. */
  readonly endpoints: readonly Watched[];
  readonly meter: ByteMeter;
}

async function tunnel(
  options: TestEdgeOptions & { protocolVersion?: 0 | 1 | 2; visitorLink?: Partial<LinkSettings> } = {},
): Promise<Tunnel> {
  const { protocolVersion = 2, visitorLink = {}, ...more } = options;
  const { idleTimeoutMs } = options;
  // Its endpoints answer when a test wants it.
  const test = await TestEdge.start({ answerTimeoutMs: 0, ...more });
  test.network.setLink(EDGE_HOST, VISITOR_HOST, visitorLink);
  const endpoints: Watched[] = [];
  const accept = (conn: Watched["conn"]) => void endpoints.push(new Watched(conn));
  await test.runtime(ENDPOINT_HOST).listen({ host: ENDPOINT_HOST, port: 80, accept });
  const meter = { bytesToAgent: 0, bytesToVisitor: 0 };
  const connector = tcpConnector({
    runtime: test.runtime(AGENT_HOST),
    host: ENDPOINT_HOST,
    port: 80,
    meter,
    ...idleTimeoutMs === undefined ? {} : { idleTimeoutMs },
  });
  const token = test.token({ protocolVersion, ttlSeconds: 86_400 });
  await test.connect(token, {
    admitted: (session) => ({
      stream: (stream) => void connector(stream),
      streamClosed() {},
      streamRefused() {},
      ended: () => void session,
    }),
  });
  const visitor = await test.visit();
  await test.advance(200);
  assert.equal(endpoints.length, 1);
  return { test, endpoint: endpoints[0]!, endpoints, meter, ...visitor };
}

/** Writes until the stream says to wait, again at each drain, until `byteLength` are written. Says how many are. */
function pump(from: Watched, byteLength: number): { writtenBytes: number } {
  const state = { writtenBytes: 0 };
  const chunk = pattern(CHUNK_BYTES);
  const go = () => {
    while (state.writtenBytes < byteLength) {
      state.writtenBytes += chunk.length;
      if (!from.write(chunk)) return;
    }
  };
  from.onDrain = go;
  go();
  return state;
}

/** Megabytes are moved in virtual time, which takes its time on a busy machine. */
const timeout = 60_000;

describe("splice: back-pressure", () => {
  for (const protocolVersion of [0, 1, 2] as const) {
    const name = `a visitor that reads nothing stops the endpoint, within bounds: version ${protocolVersion}`;
    it(name, { timeout }, async () => {
      const { test, conn, endpoint } = await tunnel({ protocolVersion, network: BULK });
      conn.pause();
      const sent = pump(endpoint, 200 * MiB);
      await test.advance(5_000);
      const stuckBytes = sent.writtenBytes;
      // What edge, agent and four socket buffers hold; version 0 has no PAUSE, its session's budget is the bound.
      assert.ok(stuckBytes < (protocolVersion === 0 ? 56 : 8) * MiB, `${stuckBytes} bytes went out`);
      await test.advance(2_000);
      assert.equal(sent.writtenBytes, stuckBytes, "nothing more is taken");
      assert.equal(conn.byteLength, 0);
      await test.assertNothingLeft();
    });
  }

  it("an endpoint that reads nothing stops the visitor, within bounds, and gets every byte in the end", async () => {
    const { test, conn, endpoint, hello } = await tunnel({ network: BULK });
    endpoint.pause();
    const before = endpoint.byteLength;
    const sent = pump(conn, 12 * MiB);
    await test.advance(20_000);
    assert.ok(sent.writtenBytes < 8 * MiB, `${sent.writtenBytes} bytes went out`);
    assert.equal(endpoint.byteLength, before);
    endpoint.resume();
    await test.advance(60_000);
    assert.equal(sent.writtenBytes, 12 * MiB);
    assert.equal(endpoint.byteLength, hello.length + 12 * MiB);
    const chunk = pattern(CHUNK_BYTES);
    const all = bytesFrom(endpoint).subarray(hello.length);
    for (let i = 0; i < all.length; i += chunk.length) {
      assert.ok(Buffer.compare(all.subarray(i, i + chunk.length), chunk) === 0, `chunk at ${i}`);
    }
    await test.assertNothingLeft();
  });

  it("a stalled visitor doesn't hold up its neighbour", async () => {
    const { test, conn, endpoint } = await tunnel();
    conn.pause();
    pump(endpoint, 50 * MiB);
    await test.advance(1_000);
    const other = await test.visit("a.test", { from: "198.51.100.8" });
    await test.advance(500);
    other.conn.write(pattern(100_000));
    await test.advance(1_000);
    assert.equal(await test.metric("streams"), 2);
    assert.equal(await test.metric("bytes_total", { direction: "to_agent" }) > 100_000, true);
    await test.assertNothingLeft();
  });
});

describe("splice: ends", () => {
  it("the visitor's FIN keeps the answer: it arrives whole, then the endpoint hears of the end", async () => {
    const { test, conn, endpoint, hello, meter } = await tunnel();
    conn.write(pattern(40_000));
    conn.closeWrite();
    await test.advance(100);
    assert.equal(endpoint.byteLength, hello.length + 40_000);
    assert.equal(endpoint.ended, false, "the protocol has no half-close");
    for (let i = 0; i < 5; i++) {
      endpoint.write(pattern(10_000, i));
      await test.advance(HALF_CLOSE_GRACE_MS - 500);
    }
    assert.equal(conn.byteLength, 50_000);
    endpoint.write(pattern(7, 9));
    endpoint.closeWrite();
    await test.advance(100);
    assert.equal(conn.byteLength, 50_007);
    conn.assertOver();
    endpoint.assertOver();
    assert.deepEqual(meter, { bytesToAgent: hello.length + 40_000, bytesToVisitor: 50_007 });
    assert.equal(await test.metric("streams"), 0);
    await test.assertNothingLeft();
  });

  it("behind the visitor's FIN a silent endpoint is told of the end after the grace", async () => {
    const { test, conn, endpoint } = await tunnel();
    conn.closeWrite();
    await test.advance(HALF_CLOSE_GRACE_MS - 100);
    assert.equal(endpoint.ended, false);
    await test.advance(HALF_CLOSE_GRACE_MS + 200);
    assert.equal(endpoint.ended, true);
    endpoint.closeWrite();
    await test.advance(100);
    endpoint.assertOver();
    conn.assertOver();
    await test.assertNothingLeft();
  });

  for (const protocolVersion of [0, 1, 2] as const) {
    const name = `the endpoint's FIN lets the visitor have every byte, then FIN: version ${protocolVersion}`;
    it(name, { timeout }, async () => {
      const { test, conn, endpoint } = await tunnel({
        protocolVersion,
        visitorLink: { bytesPerSecond: 2 * MiB },
      });
      endpoint.write(pattern(6 * MiB));
      endpoint.closeWrite();
      await test.advance(10_000);
      assert.ok(Buffer.compare(bytesFrom(conn), pattern(6 * MiB)) === 0, `${conn.byteLength} bytes came`);
      assert.equal(conn.ended, true);
      conn.closeWrite();
      await test.advance(LINGER_MS + 100);
      conn.assertOver();
      endpoint.assertOver();
      await test.assertNothingLeft();
    });
  }

  it("bytes that wait for a slow visitor at the agent's CLOSE are delivered, all of them", async () => {
    const { test, conn, endpoint } = await tunnel();
    conn.pause();
    endpoint.write(pattern(3 * MiB));
    endpoint.closeWrite();
    await test.advance(5_000);
    assert.equal(conn.byteLength, 0);
    conn.resume();
    await test.advance(5_000);
    assert.ok(Buffer.compare(bytesFrom(conn), pattern(3 * MiB)) === 0, `${conn.byteLength} bytes came`);
    assert.equal(conn.ended, true);
    await test.assertNothingLeft();
  });

  it("the endpoint's reset after a full answer doesn't take the answer along", async () => {
    const { test, conn, endpoint, endpoints } = await tunnel();
    await test.visit();
    test.network.cut(EDGE_HOST, AGENT_HOST);
    // A neighbour fills the session's connection, so that the answer waits in its stream.
    endpoints[1]!.write(pattern(200_000));
    await test.advance(100);
    endpoint.write(pattern(3_000));
    await test.advance(100);
    endpoint.abort();
    await test.advance(100);
    assert.equal(conn.byteLength, 0);
    test.network.heal(EDGE_HOST, AGENT_HOST);
    await test.advance(5_000);
    assert.deepEqual(bytesFrom(conn), pattern(3_000));
    assert.equal(conn.ended, true);
    await test.assertNothingLeft();
  });

  it("the visitor's reset frees stream and endpoint", async () => {
    const { test, conn, endpoint } = await tunnel();
    conn.abort();
    await test.advance(100);
    assert.equal(endpoint.ended, true);
    await test.advance(LINGER_MS + 100);
    assert.equal(await test.metric("streams"), 0);
    endpoint.write(pattern(10));
    await test.advance(100);
    assert.equal(
      endpoint.closes,
      1,
      "the endpoint's connection is gone, though the endpoint never closed it",
    );
    await test.assertNothingLeft();
  });

  it("the visitor's reset frees an endpoint that reads nothing", async () => {
    const { test, conn, endpoint } = await tunnel();
    endpoint.pause();
    pump(conn, 4 * MiB);
    await test.advance(1_000);
    conn.abort();
    await test.advance(2 * HALF_CLOSE_GRACE_MS);
    assert.equal(await test.metric("streams"), 0, "the edge is done with it");
    assert.equal(endpoint.closes, 0, "the endpoint may still read what came before the end");
    await test.advance(IDLE_TICKS * IDLE_TICK_MS);
    endpoint.assertOver("connection_lost");
    await test.assertNothingLeft();
  });

  it("the session's loss resets both", async () => {
    const { test, conn, endpoint } = await tunnel();
    endpoint.write(pattern(10));
    await test.advance(100);
    test.network.reset(EDGE_HOST, AGENT_HOST);
    await test.advance(100);
    conn.assertOver("connection_lost");
    endpoint.assertOver("connection_lost");
    await test.assertNothingLeft();
  });

  it("an endpoint that ends while the visitor still sends doesn't leave the visitor hanging", async () => {
    const { test, conn, endpoint } = await tunnel();
    pump(conn, 2 * MiB);
    endpoint.write(pattern(100));
    endpoint.closeWrite();
    await test.advance(1_000);
    assert.equal(conn.ended, true);
    assert.equal(conn.byteLength, 100);
    conn.closeWrite();
    await test.advance(LINGER_MS + 100);
    conn.assertOver();
    await test.assertNothingLeft();
  });
});

describe("splice: idle visitors", () => {
  it("are kept for an hour, and no longer", async () => {
    const { test, conn, endpoint } = await tunnel();
    await test.advance(VISITOR_IDLE_TIMEOUT_MS - 5_000);
    assert.equal(conn.closes, 0);
    await test.advance(IDLE_TICK_MS + 10_000);
    assert.equal(conn.closes, 1);
    assert.equal(endpoint.ended, true);
    await test.assertNothingLeft();
  });

  it("are closed within 30 s of the time that is set without a byte, at both ends", async () => {
    const { test, conn, endpoint } = await tunnel({ idleTimeoutMs: (IDLE_TICKS - 1) * IDLE_TICK_MS });
    await test.advance((IDLE_TICKS - 1) * IDLE_TICK_MS - 5_000);
    assert.equal(conn.closes, 0);
    await test.advance(IDLE_TICK_MS + 10_000);
    assert.equal(conn.closes, 1);
    assert.equal(endpoint.ended, true);
    assert.equal(await test.metric("streams"), 0);
    assert.ok(test.edge.serves("a.test"), "the session stays");
    await test.assertNothingLeft();
  });

  it("stay as long as a byte goes either way now and then", async () => {
    const { test, conn, endpoint } = await tunnel();
    for (let i = 0; i < 10; i++) {
      await test.advance(80_000);
      (i % 2 === 0 ? conn : endpoint).write(Uint8Array.of(1));
    }
    await test.advance(1_000);
    assert.equal(conn.closes, 0);
    assert.equal(conn.byteLength, 5);
    await test.assertNothingLeft();
  });

  it("aren't those that read slowly: draining is traffic", async () => {
    const { test, conn, endpoint } = await tunnel({ visitorLink: { bytesPerSecond: 4_000 } });
    endpoint.write(pattern(1 * MiB));
    await test.advance(300_000);
    assert.ok(Buffer.compare(bytesFrom(conn), pattern(1 * MiB)) === 0, `${conn.byteLength} bytes came`);
    assert.equal(conn.closes, 0);
    await test.assertNothingLeft();
  });

  it("nor those whose endpoint reads slowly: they wait for the answer", async () => {
    const { test, conn, endpoint, hello } = await tunnel();
    test.network.setLink(AGENT_HOST, ENDPOINT_HOST, { bytesPerSecond: 12_000 });
    pump(conn, 4 * MiB);
    await test.network.settle(endpoint.received(hello.length + 4 * MiB), 500_000);
    assert.equal(conn.closes, 0);
    endpoint.write(pattern(1_000));
    await test.advance(1_000);
    assert.deepEqual(bytesFrom(conn), pattern(1_000));
    await test.assertNothingLeft();
  });

  it("but an endpoint that takes nothing any more is given up, with its visitor", async () => {
    const { test, conn, endpoint } = await tunnel();
    endpoint.pause();
    pump(conn, 20 * MiB);
    await test.advance(2 * IDLE_TICKS * IDLE_TICK_MS);
    assert.equal(endpoint.closes, 1);
    assert.equal(conn.closes + Number(conn.ended) > 0, true);
    assert.equal(await test.metric("streams"), 0);
    assert.ok(test.edge.serves("a.test"), "the session stays");
    await test.assertNothingLeft();
  });
});
