/** Visitors whose name another node may hold: what comes of them while the cluster is asked, and after it. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { EdgeCluster } from "../../src/edge/cluster.ts";
import type { Bytes, ByteStreamHandler } from "../../src/runtime/port.ts";
import type { Session } from "../../src/transport/port.ts";
import { AlertDescription } from "../../src/wire/tls/tls_alert.ts";
import { SallyportError } from "../../src/errors.ts";
import { bytesOf } from "../conformance/runtime_helpers.ts";
import { assertAlert, concat, TestEdge } from "../support/tunnel.ts";

/** A session to another node; what its one stream was given. */
function link(open?: () => never) {
  const written: Bytes[] = [];
  let handler: ByteStreamHandler | undefined;
  let opened = 0;
  const close = (error?: Error) => {
    handler?.close(error);
    handler = undefined;
  };
  const stream = {
    peerPaused: false,
    bufferedBytes: 0,
    attach: (given: ByteStreamHandler) => void (handler = given),
    write: (chunk: Bytes) => {
      written.push(chunk.slice());
      return true;
    },
    closeWrite() {},
    pause() {},
    resume() {},
    abort: close,
    release: () => close(),
  };
  const session = {
    open: () => {
      opened++;
      open?.();
      return stream;
    },
  };
  return {
    session: session as unknown as Session,
    written: () => concat(...written),
    opened: () => opened,
    close,
  };
}

async function start(find: EdgeCluster["find"]) {
  const stale: string[] = [];
  const test = await TestEdge.start({
    cluster: {
      last: true,
      register: () => {},
      release: () => {},
      find,
      stale: (name) => void stale.push(name),
    },
  });
  return { test, stale };
}

describe("createEdge: a visitor whom another node may serve", () => {
  it("waits for the cluster's answer, and nothing that it says meanwhile is lost", async () => {
    const answer = Promise.withResolvers<Session | undefined>();
    const { test } = await start(() => answer.promise);
    const { conn, hello } = await test.visit("b.test", { more: bytesOf("one") });
    conn.write(bytesOf("two"));
    await test.advance(100);
    const { session, written, close } = link();
    answer.resolve(session);
    await test.advance(10);
    conn.write(bytesOf("three"));
    await test.advance(10);
    assert.deepEqual(written(), concat(hello, bytesOf("onetwothree")));
    close();
    await test.assertNothingLeft();
  });

  it("is counted as refused, and forgotten, if it leaves before the answer", async () => {
    const answer = Promise.withResolvers<Session | undefined>();
    const { test } = await start(() => answer.promise);
    const { conn } = await test.visit("b.test");
    conn.abort();
    await test.advance(10);
    assert.equal(await test.refusals("visitor", "connection_lost"), 1);
    const { session, opened } = link();
    answer.resolve(session);
    await test.advance(10);
    assert.equal(opened(), 0);
    await test.assertNothingLeft();
  });

  it("is counted once if it leaves before the search throws, and the fault is counted", async () => {
    const answer = Promise.withResolvers<Session | undefined>();
    const { test } = await start(() => answer.promise);
    const { conn } = await test.visit("b.test");
    conn.abort();
    await test.advance(10);
    answer.reject(new TypeError("a fault of ours"));
    await test.advance(10);
    assert.equal(await test.refusals("visitor", "connection_lost"), 1);
    assert.equal(await test.refusals("visitor", "internal"), 0);
    assert.equal(await test.metric("internal_errors_total", { where: "visitor" }), 1);
    await test.assertNothingLeft();
  });

  it("gets alert unrecognized_name where nobody holds the name", async () => {
    const { test } = await start(() => Promise.resolve(undefined));
    const { conn } = await test.visit("b.test");
    assertAlert(conn, AlertDescription.unrecognized_name);
    assert.equal(await test.refusals("visitor", "unrecognized_name"), 1);
    await test.assertNothingLeft();
  });

  const fault = () => {
    throw new TypeError("a fault of ours");
  };
  const faults: [string, EdgeCluster["find"]][] = [
    ["the search throws later", () => Promise.resolve().then(fault)],
    ["the session throws at a stream", () => link(fault).session],
  ];
  for (const [what, find] of faults) {
    it(`gets alert internal_error, and the fault is counted, where ${what}`, async () => {
      const { test } = await start(find);
      const { conn } = await test.visit("b.test");
      assertAlert(conn, AlertDescription.internal_error);
      assert.equal(await test.refusals("visitor", "internal"), 1);
      assert.equal(await test.metric("internal_errors_total", { where: "visitor" }), 1);
      await test.assertNothingLeft();
    });
  }

  it("is told to the cluster where the other node doesn't hold the name any more", async () => {
    for (const code of ["unrecognized_name", "aborted"] as const) {
      const { session, close } = link();
      const { test, stale } = await start(() => session);
      const { conn } = await test.visit("b.test");
      close(new SallyportError(code, "Cannot serve visitor", { side: "peer" }));
      conn.abort();
      await test.advance(10);
      assert.deepEqual(stale, code === "unrecognized_name" ? ["b.test"] : []);
      await test.assertNothingLeft();
    }
  });

  it("is logged with its time when it has left", async () => {
    const { session, close } = link();
    const { test } = await start(() => session);
    const { conn } = await test.visit("b.test");
    const beganMs = test.network.clock.nowMs();
    await test.advance(2_500);
    close();
    conn.abort();
    await test.advance(10);
    const { fields } = test.lines.find(({ message }) => message === "visitor left")!;
    const { seconds } = fields as { seconds: number };
    assert.ok(seconds >= 2.5 && seconds < 2.6, `${seconds} s, since ${beganMs} ms`);
    await test.assertNothingLeft();
  });
});

describe("createEdge: connections that come to nothing", () => {
  it("are logged as debug where they left without a byte, as information where they said something", async () => {
    const test = await TestEdge.start();
    (await test.dial()).closeWrite();
    await test.advance(10);
    const odd = await test.dial();
    odd.write(bytesOf("hello"));
    await test.advance(10);
    assert.equal(test.logged("connection_lost").level, "debug");
    assert.equal(test.logged("unknown_protocol").level, "info");
    await test.assertNothingLeft();
  });

  it("are counted as limit_exceeded where their source has its share of agents already", async () => {
    const test = await TestEdge.start({ authorize: () => new Promise(() => {}) });
    const agents = [];
    for (let i = 0; i < 256; i++) {
      const conn = await test.dial("10.0.0.2");
      conn.write(bytesOf(test.token({ hostname: `${i}.test` }).token));
      agents.push(conn);
    }
    await test.advance(10);
    const late = await test.dial("10.0.0.2");
    await test.advance(10);
    assert.equal(late.closes, 1);
    assert.equal(await test.refusals("connection", "limit_exceeded"), 1);
    assert.match(test.logged("limit_exceeded").message, /its source has too many unfinished connections/);
    await test.assertNothingLeft();
  });
});
