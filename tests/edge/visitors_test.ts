import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { pattern } from "../conformance/runtime_helpers.ts";
import { clientHello } from "../support/client_hello.ts";
import { assertAlert, bytesFrom, concat, helloFor, TestEdge, VISITOR_HOST } from "../support/tunnel.ts";
import { STREAMS_PER_SESSION_MAX } from "../../src/protocol/mux/queue_limits.ts";
import { LINGER_MS } from "../../src/runtime/port.ts";
import { HELLO_DEADLINE_MS } from "../../src/wire/tls/client_hello.ts";

/** A ClientHello without extensions: it names no server. */
function helloWithoutName(): Uint8Array<ArrayBuffer> {
  const hello = helloFor("a.test");
  // Record and message headers, version, random, session id (32), cipher suites (14), compression.
  const bodyBytes = 2 + 32 + 33 + 16 + 2;
  const cut = hello.slice(0, 5 + 4 + bodyBytes);
  cut.set([0, 4 + bodyBytes], 3);
  cut.set([0, 0, bodyBytes], 6);
  return cut;
}

/** The same handshake message in two TLS records, cut after `at` bytes of it. */
function inTwoRecords(hello: Uint8Array, at: number): Uint8Array<ArrayBuffer> {
  const message = hello.slice(5);
  const record = (part: Uint8Array) => concat(Uint8Array.of(0x16, 3, 1, part.length >> 8, part.length), part);
  return concat(record(message.subarray(0, at)), record(message.subarray(at)));
}

describe("Visitors: a visitor's ClientHello", () => {
  it("is handed on to the byte with what follows it, in however many segments it comes", async () => {
    const test = await TestEdge.start({ network: { link: { pieceMaxBytes: 7 } } });
    const agent = await test.connect();
    const hello = helloFor("a.test");
    const conn = await test.dial();
    for (let i = 0; i < hello.length; i += 11) {
      assert.equal(agent.streams.length, 0);
      conn.write(hello.slice(i, i + 11));
      await test.advance(5);
    }
    const [stream] = agent.streams;
    assert.deepEqual(bytesFrom(stream!), hello);
    assert.equal(stream!.stream.caller.address, VISITOR_HOST);
    conn.write(pattern(5_000));
    stream!.write(pattern(3_000, 2));
    await test.advance(100);
    assert.deepEqual(bytesFrom(stream!), concat(hello, pattern(5_000)));
    assert.deepEqual(bytesFrom(conn), pattern(3_000, 2));
    await test.assertNothingLeft();
  });

  it("is handed on with bytes that come in the same segment, over several records", async () => {
    const test = await TestEdge.start();
    const agent = await test.connect();
    const hello = inTwoRecords(helloFor("a.test"), 60);
    await test.visit("a.test", { hello, more: pattern(500) });
    assert.deepEqual(bytesFrom(agent.streams[0]!), concat(hello, pattern(500)));
    await test.assertNothingLeft();
  });

  it("routes whatever the name's case, with a trailing dot, and by alias", async () => {
    const test = await TestEdge.start();
    const agent = await test.connect({ hostname: "MyHome.Test.", aliases: ["Other.Test"] });
    for (const name of ["myhome.test", "MYHOME.TEST", "myhome.test.", "other.test", "OTHER.test."]) {
      const before = agent.streams.length;
      await test.visit(name);
      assert.equal(agent.streams.length, before + 1, name);
    }
    assert.ok(test.edge.serves("myhome.test"));
    assert.ok(test.edge.serves("other.test"));
    await test.assertNothingLeft();
  });

  it("with a name that nobody serves gets alert unrecognized_name", async () => {
    const test = await TestEdge.start();
    await test.connect();
    const { conn } = await test.visit("b.test");
    assertAlert(conn, 112);
    assert.equal(await test.refusals("visitor", "unrecognized_name"), 1);
    assert.equal(test.logged("unrecognized_name").fields.visitor, VISITOR_HOST);
    await test.assertNothingLeft();
  });

  it("without a name gets alert missing_extension", async () => {
    const test = await TestEdge.start();
    const { conn } = await test.visit("", { hello: helloWithoutName() });
    assertAlert(conn, 109);
    assert.equal(await test.refusals("visitor", "no_server_name"), 1);
    await test.assertNothingLeft();
  });

  it("that is malformed gets alert decode_error", async () => {
    const test = await TestEdge.start();
    const hello = helloFor("a.test");
    // The session id's length: beyond the message.
    hello[5 + 4 + 34] = 0xff;
    const { conn } = await test.visit("", { hello });
    assertAlert(conn, 50);
    assert.equal(await test.refusals("visitor", "hello_invalid"), 1);
    await test.assertNothingLeft();
  });

  it("with control characters in the name is refused, and they don't reach the log", async () => {
    const test = await TestEdge.start();
    const { conn } = await test.visit("", { hello: new Uint8Array(clientHello("a\u001b[31m.test")) });
    assert.equal(conn.byteLength, 7);
    assert.equal(conn.ended, true);
    assert.ok(!JSON.stringify(test.lines).includes("\\u001b"), JSON.stringify(test.lines));
    await test.assertNothingLeft();
  });

  it("must be there by an absolute deadline, however steadily it trickles", async () => {
    const test = await TestEdge.start();
    const agent = await test.connect();
    const conn = await test.dial();
    const startedMs = test.network.clock.nowMs();
    const hello = helloFor("a.test");
    for (let i = 0; i < 12; i++) {
      conn.write(hello.slice(i, i + 1));
      await test.advance(HELLO_DEADLINE_MS / 12 - 10);
    }
    assert.equal(conn.ended, false);
    await test.network.run(startedMs + HELLO_DEADLINE_MS + 10);
    assertAlert(conn, 40);
    assert.equal(await test.refusals("visitor", "deadline_exceeded"), 1);
    conn.write(hello.slice(12));
    await test.advance(10);
    assert.equal(agent.streams.length, 0);
    await test.assertNothingLeft();
  });

  it("that is cut short by the visitor's end is counted, and nothing is left", async () => {
    const test = await TestEdge.start();
    const fin = await test.dial();
    fin.write(helloFor("a.test").slice(0, 50));
    fin.closeWrite();
    const reset = await test.dial();
    reset.write(helloFor("a.test").slice(0, 50));
    await test.advance(5);
    reset.abort();
    await test.advance(10);
    assert.equal(await test.refusals("visitor", "connection_lost"), 2);
    assert.equal(fin.ended, true);
    await test.assertNothingLeft();
  });

  it("followed by FIN in the same flight reaches the agent, and the answer the visitor", async () => {
    const test = await TestEdge.start();
    const agent = await test.connect();
    const conn = await test.dial();
    conn.write(helloFor("a.test"));
    conn.closeWrite();
    await test.advance(10);
    agent.streams[0]!.write(pattern(50_000));
    await test.advance(100);
    assert.deepEqual(bytesFrom(conn), pattern(50_000));
    await test.assertNothingLeft();
  });
});

describe("Visitors: a visitor with a stream", () => {
  it("is counted, with its bytes each way", async () => {
    const test = await TestEdge.start();
    const agent = await test.connect();
    const { conn, hello } = await test.visit("a.test", { more: pattern(1_000) });
    agent.streams[0]!.write(pattern(2_000));
    await test.advance(10);
    assert.equal(await test.metric("streams"), 1);
    assert.equal(await test.metric("streams_total"), 1);
    assert.equal(await test.metric("bytes_total", { direction: "to_agent" }), hello.length + 1_000);
    assert.equal(await test.metric("bytes_total", { direction: "to_visitor" }), 2_000);
    conn.closeWrite();
    agent.streams[0]!.closeWrite();
    await test.advance(10);
    assert.equal(await test.metric("streams"), 0);
    assert.equal(await test.metric("streams_total"), 1);
    conn.assertOver();
    await test.assertNothingLeft();
  });

  it("gets alert internal_error where the agent's session is lost before it has answered", async () => {
    const test = await TestEdge.start();
    await test.connect();
    const { conn } = await test.visit();
    test.network.reset("10.0.0.1", "10.0.0.2");
    await test.advance(10);
    assertAlert(conn, 80);
    await test.assertNothingLeft();
  });

  it("sees a reset where the agent's session is lost later", async () => {
    const test = await TestEdge.start();
    const agent = await test.connect();
    const { conn } = await test.visit();
    agent.streams[0]!.write(pattern(10));
    await test.advance(10);
    test.network.reset("10.0.0.1", "10.0.0.2");
    await test.advance(10);
    assert.equal(agent.endedWith?.code, "connection_lost");
    conn.assertOver("connection_lost");
    assert.equal(test.edge.serves("a.test"), false);
    const next = await test.visit();
    assertAlert(next.conn, 112);
    await test.assertNothingLeft();
  });

  it("gets alert internal_error where the session has all the streams that it may have", async () => {
    const test = await TestEdge.start();
    const agent = await test.connect();
    const others = [];
    for (let i = 0; i < STREAMS_PER_SESSION_MAX; i++) {
      others.push(
        test.runtime(`203.0.${i >> 8}.${i & 255}`).dial({ host: "10.0.0.1", port: 8443, timeoutMs: 1_000 }),
      );
    }
    const hello = helloFor("a.test");
    for (const dialled of others) {
      const conn = await test.network.settle(dialled);
      conn.attach({ data() {}, end() {}, drain() {}, close() {} });
      conn.write(hello);
    }
    // The agent reads so many opened streams at a time.
    await test.advance(1_000);
    assert.equal(agent.streams.length, STREAMS_PER_SESSION_MAX);
    const { conn } = await test.visit();
    assertAlert(conn, 80);
    assert.equal(await test.refusals("visitor", "limit_exceeded"), 1);
    assert.equal(agent.endedWith, undefined);
    await test.assertNothingLeft(LINGER_MS + 1_000);
  });
});
