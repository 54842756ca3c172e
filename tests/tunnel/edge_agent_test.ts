import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createAgent } from "../../src/agent/agent.ts";
import type { EdgeTunnels } from "../../src/edge/agent_request.ts";
import { SallyportError } from "../../src/errors.ts";
import { createRouter, type Router } from "../../src/tunnel/requests/router.ts";
import type { Tunnel } from "../../src/tunnel/tunnel.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import type { SessionStream } from "../../src/transport/port.ts";
import { parsePrometheus, sampleValue } from "../telemetry/prometheus.ts";
import { echo, watch } from "../conformance/tunnel_suite.ts";
import { assertRejects, bytesOf } from "../conformance/runtime_helpers.ts";
import { AGENT_HOST, bytesFrom, EDGE_HOST, EDGE_PORT, TestEdge, WatchedStream } from "../support/tunnel.ts";

/** An edge and an agent with routers, or without. */
async function world(tunnels: EdgeTunnels | undefined, router: Router | undefined) {
  const edge = await TestEdge.start(tunnels === undefined ? {} : { tunnels });
  const runtime = edge.runtime(AGENT_HOST);
  const metrics = new Metrics({ runtime });
  const visitors: SessionStream[] = [];
  const connected = Promise.withResolvers<Tunnel | undefined>();
  const agent = createAgent({
    runtime,
    grants: () => {
      const { token, claims } = edge.token();
      return Promise.resolve({ ...claims, token, edge: { host: EDGE_HOST, port: EDGE_PORT } });
    },
    connector: (stream) => void visitors.push(stream),
    ...router === undefined ? {} : { router },
    metrics,
    connected: (_, tunnel) => connected.resolve(tunnel),
  });
  const running = agent.run();
  const tunnel = await edge.network.settle(connected.promise);
  await edge.advance(10);
  const settle = <T>(promise: Promise<T>) => edge.network.settle(promise);
  const end = async () => {
    await settle(agent.close(0));
    await settle(running);
    for (const stream of visitors) stream.abort();
    await edge.advance(10);
    assert.equal(sampleValue(parsePrometheus(await metrics.render()), "sallyport_streams"), 0);
    await edge.assertNothingLeft();
  };
  return { edge, agent, tunnel, visitors, settle, end };
}

describe("Tunnel: between an edge and its agents", () => {
  it("carry requests both ways beside visitors", async () => {
    const opened: string[] = [];
    const { edge, agent, tunnel, visitors, settle, end } = await world({
      router: ({ hostname }) => createRouter({ [`/${hostname}`]: echo }),
      opened: (tunnel, { transport }) => opened.push(`${tunnel.name} by ${transport}`),
    }, createRouter({ "/agents": echo }));
    assert.deepEqual(opened, ["a.test by snitun"]);
    assert.equal(agent.tunnel, tunnel);
    const down = watch(await settle(edge.edge.tunnel("a.test")!.open("/agents")));
    const up = watch(await settle(tunnel!.open("/a.test")));
    for (const stream of [down, up]) {
      stream.write(bytesOf("hello"));
      await settle(stream.received(5));
      assert.equal(stream.text, "hello");
    }
    await assertRejects(settle(tunnel!.open("/b.test")), "request_refused");
    assert.equal(await edge.refusals("stream", "request_refused"), 1);
    const { conn, hello } = await edge.visit();
    assert.equal(visitors.length, 1);
    const visitor = new WatchedStream(visitors[0]!);
    await settle(visitor.received(hello.length));
    assert.deepEqual(bytesFrom(visitor), hello);
    visitor.write(bytesOf("answer"));
    await settle(conn.received(6));
    assert.equal(edge.edge.tunnel("b.test"), undefined);
    await end();
    assert.equal((await tunnel!.closed).code, "shutdown");
  });

  it("are refused by an edge that has none, or none for this agent", async () => {
    for (const tunnels of [undefined, { router: () => undefined }]) {
      const { edge, tunnel, settle, end } = await world(tunnels, createRouter({}));
      assert.equal(edge.edge.tunnel("a.test"), undefined);
      await assertRejects(settle(tunnel!.open("/echo")), "connection_lost");
      assert.equal(await edge.refusals("stream", "access_denied"), 1);
      assert.equal(edge.edge.sessions, 1);
      await end();
    }
  });

  it("aren't looked for by an agent without a router: its connector gets the stream at once", async () => {
    const { edge, tunnel, visitors, settle, end } = await world(
      { router: () => createRouter({}) },
      undefined,
    );
    assert.equal(tunnel, undefined);
    const asked = settle(edge.edge.tunnel("a.test")!.open("/echo", { timeoutMs: 100 }));
    await assertRejects(asked, "deadline_exceeded");
    assert.equal(visitors.length, 1);
    await end();
  });

  it("keep out an agent for whom the router's choice throws", async () => {
    const edge = await TestEdge.start({
      tunnels: {
        router: () => {
          throw new Error("no");
        },
      },
    });
    const agent = await edge.connect();
    assert.ok(agent.endedWith !== undefined || edge.edge.sessions === 0);
    assert.equal(await edge.refusals("agent", "internal"), 1);
    await edge.assertNothingLeft();
  });

  it("end a stream that says nothing", async () => {
    const edge = await TestEdge.start({ tunnels: { router: () => createRouter({}) } });
    const agent = await edge.connect();
    const silent = new WatchedStream(agent.session.open({ address: "0.0.0.0" }));
    await edge.network.settle(silent.sawClose);
    assert.equal(await edge.refusals("stream", "deadline_exceeded"), 1);
    agent.session.close(new SallyportError("shutdown", "Cannot keep session", { side: "local" }));
    await edge.assertNothingLeft();
  });
});
