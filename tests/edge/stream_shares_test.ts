/** One source can't have all streams of a name, and a stream without an answer is freed. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { AlertDescription } from "../../src/wire/tls/tls_alert.ts";
import { STREAMS_PER_SOURCE_MAX, StreamShares } from "../../src/transport/stream_shares.ts";
import { FIRST_BYTE_DEADLINE_MS } from "../../src/transport/splice.ts";
import { pattern, type Watched } from "../conformance/runtime_helpers.ts";
import { assertAlert, TestEdge } from "../support/tunnel.ts";

it("StreamShares: counts by target and source, an IPv6 /64 being one; this machine is free", () => {
  const shares = new StreamShares(2);
  const [a, b] = [{}, {}];
  assert.deepEqual([1, 2, 3].map(() => shares.enter(a, "203.0.113.1")), [true, true, false]);
  assert.ok(shares.enter(a, "203.0.113.2"));
  assert.ok(shares.enter(b, "203.0.113.1"));
  assert.deepEqual(["::1", "::2", "::3"].map((end) => shares.enter(a, `2001:db8::${end.slice(2)}`)), [
    true,
    true,
    false,
  ]);
  shares.leave(a, "203.0.113.1");
  assert.ok(shares.enter(a, "203.0.113.1"));
  for (let i = 0; i < 9; i++) assert.ok(shares.enter(a, "127.0.0.1"));
  const free = new StreamShares(0);
  for (let i = 0; i < 1000; i++) assert.ok(free.enter(a, "203.0.113.1"));
});

it("edge: a source that has its share of a name's streams is refused, others are served, and ends give room", async () => {
  // An agent may have no more than 1,024 files, and others are to be served.
  assert.ok(STREAMS_PER_SOURCE_MAX <= 512);
  const test = await TestEdge.start();
  const agent = await test.connect();
  const conns: Watched[] = [];
  for (let i = 0; i < STREAMS_PER_SOURCE_MAX; i++) {
    conns.push((await test.visit("a.test", { from: "203.0.113.1" })).conn);
  }
  for (const stream of agent.streams) stream.write(pattern(1));
  const { conn } = await test.visit("a.test", { from: "203.0.113.1" });
  assertAlert(conn, AlertDescription.internal_error);
  assert.equal(await test.refusals("visitor", "limit_exceeded"), 1);
  await test.visit("a.test", { from: "203.0.113.2" });
  assert.equal(agent.streams.length, STREAMS_PER_SOURCE_MAX + 1);
  conns[0]!.abort();
  await test.advance(10);
  await test.visit("a.test", { from: "203.0.113.1" });
  assert.equal(agent.streams.length, STREAMS_PER_SOURCE_MAX + 2);
  await test.assertNothingLeft();
});

it("edge: a visitor whose endpoint says nothing for FIRST_BYTE_DEADLINE_MS gets an alert, and its stream is free", async () => {
  const test = await TestEdge.start();
  const agent = await test.connect();
  assert.ok(FIRST_BYTE_DEADLINE_MS <= 20_000);
  const { conn } = await test.visit();
  const answered = await test.visit();
  agent.streams[1]!.write(pattern(5));
  await test.advance(FIRST_BYTE_DEADLINE_MS - 100);
  assert.equal(conn.byteLength, 0);
  await test.advance(200);
  assertAlert(conn, AlertDescription.internal_error);
  assert.equal(agent.streams[0]!.closes, 1);
  assert.equal(answered.conn.closes, 0);
  assert.equal(answered.conn.byteLength, 5);
  await test.assertNothingLeft();
});
