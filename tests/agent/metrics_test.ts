import assert from "node:assert/strict";
import { it } from "node:test";
import { createAgent } from "../../src/agent/agent.ts";
import { tcpConnector } from "../../src/agent/connector.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import { parsePrometheus, sampleValue } from "../telemetry/prometheus.ts";
import { AGENT_HOST, EDGE_HOST, EDGE_PORT, NOTHING, TestEdge } from "../support/tunnel.ts";

const SITE = { host: "127.0.0.1", port: 443 };

it("an agent counts its sessions, its visitors' streams and their bytes, and they are settled at its end", async () => {
  const test = await TestEdge.start();
  const metrics = new Metrics();
  const runtime = test.runtime(AGENT_HOST);
  const site = await runtime.listen({
    ...SITE,
    accept: (conn) =>
      conn.attach({
        ...NOTHING,
        data: () => void conn.write(new Uint8Array(1000)),
        end: () => conn.release(),
      }),
  });
  const agent = createAgent({
    runtime,
    metrics,
    connector: tcpConnector({ runtime, ...SITE, meter: metrics }),
    grants: () => {
      const { token, claims } = test.token();
      return Promise.resolve({ token, ...claims, edge: { host: EDGE_HOST, port: EDGE_PORT } });
    },
  });
  const value = async (name: string, labels: Record<string, string> = {}) =>
    sampleValue(parsePrometheus(await metrics.render()), `sallyport_${name}`, labels);
  const session = { protocol_version: "2", cipher: "aes-gcm", transport: "snitun" };

  const over = agent.run();
  await test.advance(20);
  assert.deepEqual([await value("sessions", session), await value("handshakes_total", session)], [1, 1]);

  const { conn, hello } = await test.visit();
  assert.deepEqual([await value("streams"), await value("streams_total")], [1, 1]);
  assert.equal(await value("bytes_total", { direction: "to_agent" }), hello.length);
  assert.equal(await value("bytes_total", { direction: "to_visitor" }), conn.byteLength);
  assert.ok(conn.byteLength >= 1000);
  const other = await test.visit();
  assert.equal(await value("streams"), 2);
  other.conn.conn.abort(new Error("the visitor goes away"));
  await test.advance(100);
  assert.deepEqual([await value("streams"), await value("streams_total")], [1, 2]);

  // The first visitor is still there when the session ends.
  await test.network.settle(agent.close(0));
  await over;
  await test.advance(100);
  assert.equal(await value("sessions", session), 0);
  assert.equal(await value("streams"), 0);
  assert.equal(await value("session_ends_total", { reason: "shutdown" }), 1);
  site.close();
  await test.assertNothingLeft();
});
