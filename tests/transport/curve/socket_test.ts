/** The drivers on this runtime's own UDP sockets. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { bindCurve } from "../../../src/transport/curve/socket_listener.ts";
import type { CurveConnection } from "../../../src/protocol/curve/connection.ts";
import { errorCode, SallyportError } from "../../../src/errors.ts";
import { currentRuntime } from "../../../src/runtime/mod.ts";
import { Collector, cryptoForTests, digest, pour, text } from "../../protocol/curve/support.ts";
import { connectCollector, edgeKeys } from "../../support/curve_client.ts";
import { pattern } from "../../support/seeded.ts";

const crypto = await cryptoForTests();
const CONNECTIONS = 300;
/** A busy machine completes so many handshakes in time. */
const DIALS_AT_ONCE = 25;

async function stage(host: string) {
  const runtime = await currentRuntime();
  const connections: CurveConnection[] = [];
  const ended: string[] = [];
  const listener = await bindCurve({
    runtime,
    host,
    port: 0,
    crypto,
    keys: edgeKeys(crypto),
    accept: (connection) => {
      connections.push(connection);
      return {
        introduced: () => connection.admit(text("hello")),
        stream: () => {},
        streamClosed: () => {},
        closed: (error) => void ended.push(errorCode(error)),
      };
    },
  });
  const dial = async (collector: Collector, done: () => void) => {
    const finished = collector.end.bind(collector);
    collector.end = () => {
      finished();
      done();
    };
    return await connectCollector(crypto, runtime, listener.address, collector);
  };
  return { listener, connections, ended, dial };
}

describe("connectCurve and bindCurve: on real sockets", () => {
  for (const host of ["127.0.0.1", "::1"]) {
    it(`a transfer that changes its port in the middle (${host})`, { timeout: 60_000 }, async () => {
      const { listener, connections, ended, dial } = await stage(host);
      const got = new Collector();
      const data = pattern(3_000_000);
      let arrived!: () => void;
      const all = new Promise<void>((resolve) => arrived = resolve);
      const link = await dial(got, arrived);
      pour(connections[0]!.open(), data);
      await link.rebind();
      await all;
      assert.equal(got.digest(), digest(data));
      assert.ok(listener.stats.cookiesIssued >= 1);
      assert.ok(connections[0]!.gauges.rttSmoothedMs > 0);
      let over!: () => void;
      const seen = new Promise<void>((resolve) => over = resolve);
      const handler = connections[0]!.handler!;
      connections[0]!.handler = {
        ...handler,
        closed: (error) => {
          handler.closed(error);
          over();
        },
      };
      link.connection.close(new SallyportError("shutdown", "done", { side: "local" }));
      await seen;
      assert.deepEqual(ended, ["shutdown"]);
      listener.close();
    });
  }

  it("9: 300 connections on one socket, which takes what they send", { timeout: 180_000 }, async () => {
    const { listener, connections, dial } = await stage("127.0.0.1");
    const data = pattern(50_000);
    const opened = [];
    const done: Promise<void>[] = [];
    const collectors = Array.from({ length: CONNECTIONS }, () => new Collector());
    const dialCounted = (collector: Collector) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      done.push(promise);
      return dial(collector, resolve);
    };
    for (let i = 0; i < CONNECTIONS; i += DIALS_AT_ONCE) {
      opened.push(...await Promise.all(collectors.slice(i, i + DIALS_AT_ONCE).map(dialCounted)));
    }
    for (const connection of connections) pour(connection.open(), data);
    await Promise.all(done);
    assert.ok(collectors.every((one) => one.digest() === digest(data)));
    assert.equal(listener.size, CONNECTIONS);
    assert.ok(listener.totals().bytesSent > CONNECTIONS * data.length);
    // What a socket doesn't take at once waits for it: Deno's would drop all but 256 of the first 10,000. Some may be for
    // ports that slow clients have left, which Bun refuses.
    assert.ok(listener.refusedByNetwork < listener.totals().packetsSent / 10, `${listener.refusedByNetwork}`);
    for (const { connection } of opened) {
      connection.close(new SallyportError("shutdown", "done", { side: "local" }));
    }
    listener.close();
  });
});
