/** The daemon over sessions in the network in memory: virtual time, and everything that it tells. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createAgent } from "../../../src/agent/agent.ts";
import { createMemoryRegistry } from "../../../src/cluster/memory_registry.ts";
import { SallyportError } from "../../../src/errors.ts";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import type { ByteStream } from "../../../src/runtime/port.ts";
import type { Authenticator, TunnelCredential } from "../../../src/tunnel/auth/port.ts";
import { secretAuthenticator, secretCredential } from "../../../src/tunnel/auth/secret.ts";
import { createTunnelDaemon, type TunnelEvent } from "../../../src/tunnel/daemon/daemon.ts";
import { joinTunnel } from "../../../src/tunnel/daemon/join.ts";
import { createRouter } from "../../../src/tunnel/requests/router.ts";
import { SessionCarrier } from "../../../src/tunnel/carriers/session_carrier.ts";
import { createTunnelSource } from "../../../src/tunnel/daemon/source.ts";
import type { Tunnel } from "../../../src/tunnel/tunnel.ts";
import { assertCode, assertRejects, bytesOf } from "../../conformance/runtime_helpers.ts";
import { sealedKind, type SessionPair } from "../../conformance/transport_helpers.ts";
import { echo, watch } from "../../conformance/tunnel_suite.ts";
import { AGENT_HOST, EDGE_HOST, EDGE_PORT, TestEdge } from "../../support/tunnel.ts";
import { REGISTRY_RECORD_TTL_MS } from "../../../src/cluster/registry.ts";
import { TUNNEL_AUTH_STEP_MS } from "../../../src/tunnel/auth/port.ts";

const secret = bytesOf("0123456789abcdef");
const kind = sealedKind("native", "native");

/** A daemon and as many clients as a test wants. */
function world() {
  const network = createMemoryNetwork({ seed: 3 });
  const { clock } = network;
  const registry = createMemoryRegistry({ clock });
  const events: string[] = [];
  const kinds: TunnelEvent[] = [];
  const refusals: string[] = [];
  const held: Authenticator[] = [
    secretAuthenticator((name) => name.startsWith("device") ? { secret } : undefined),
  ];
  const daemon = createTunnelDaemon({
    clock,
    registry,
    node: "here",
    authenticators: held,
    router: createRouter({ "/echo": echo }),
    event: (event) => {
      kinds.push(event);
      events.push(`${event.kind} ${event.tunnel.name}`);
    },
    refused: (error) => refusals.push(error.code),
  });
  const source = createTunnelSource();
  const pairs: SessionPair[] = [];
  const settle = <T>(promise: Promise<T>) => network.settle(promise);
  /** A connection; its edge is the daemon's side. */
  const connect = async (to = source) => {
    const pair = await settle(kind.open(network.runtime(), "10.0.0.1"));
    pairs.push(pair);
    const carriers = { edge: new SessionCarrier(pair.edge), agent: new SessionCarrier(pair.agent) };
    for (const side of ["edge", "agent"] as const) {
      pair[`${side}Ear`].also = {
        stream: (stream) => carriers[side].offer(stream),
        streamClosed: () => carriers[side].streamClosed(),
        ended: (error) => carriers[side].ended(error),
      };
    }
    to.carrier(carriers.edge);
    return { pair, carrier: carriers.agent };
  };
  const join = async (name: string, credentials: TunnelCredential[] = [secretCredential(name, secret)]) => {
    const { carrier, pair } = await connect();
    const router = createRouter({ "/echo": echo });
    const joined = joinTunnel({ carrier, clock, credentials, router, name: "daemon" });
    return { tunnel: await settle(joined), pair };
  };
  const end = async () => {
    await settle(daemon.close(0));
    for (const pair of pairs) {
      await settle(
        pair.close(
          new SallyportError("shutdown", "Cannot keep session: the test is over", { side: "local" }),
        ),
      );
    }
    await network.runUntilIdle();
  };
  return { network, daemon, source, registry, events, kinds, refusals, held, settle, connect, join, end };
}

describe("createTunnelDaemon", () => {
  it("authenticates, registers, serves and deregisters, and tells in that order", async () => {
    const { network, daemon, source, registry, events, kinds, settle, join, end } = world();
    daemon.attach(source);
    const { tunnel } = await join("device-1");
    const up = watch(await settle(tunnel.open("/echo")));
    up.write(bytesOf("hello"));
    await settle(up.received(5));
    assert.deepEqual(events, ["connected device-1", "authenticated device-1"]);
    const known = daemon.find("device-1")!;
    assert.equal(kinds[1]?.kind === "authenticated" && kinds[1].method, "secret");
    const down = watch(await settle(known.open("/echo")));
    down.write(bytesOf("hello"));
    await settle(down.received(5));
    // Longer than anything in the registry lives by itself.
    await network.advance(3 * REGISTRY_RECORD_TTL_MS);
    const record = await registry.byName("device-1");
    assert.deepEqual([record?.id, record?.node, record?.transport], [known.id, "here", "sealed"]);
    tunnel.close(new SallyportError("shutdown", "Cannot keep tunnel: enough", { side: "local" }));
    await network.advance(1_000);
    assert.deepEqual(events.slice(2), ["disconnected device-1"]);
    assert.equal(await registry.byName("device-1"), undefined);
    assert.deepEqual([...daemon.tunnels], []);
    await end();
  });

  it("lets nobody appear anywhere who isn't authenticated", async () => {
    const { network, daemon, source, registry, events, refusals, connect, join, end } = world();
    daemon.attach(source);
    await assertRejects(join("stranger"), "unauthorized");
    await assertRejects(
      join("device-1", [secretCredential("device-1", bytesOf("another secret!!"))]),
      "unauthorized",
    );
    // One says nothing, one leaves, one asks before it has said who it is.
    await connect();
    const leaver = await connect();
    leaver.pair.agent.close(new SallyportError("shutdown", "Cannot keep session", { side: "local" }));
    const early = await connect();
    const stream = watch(await early.carrier.open());
    stream.write(bytesOf("NYAN\0\0\0\0\x05/echo"));
    await network.advance(2 * TUNNEL_AUTH_STEP_MS);
    assert.deepEqual(refusals.sort(), [
      "connection_lost",
      "deadline_exceeded",
      "request_invalid",
      "unauthorized",
      "unauthorized",
    ]);
    assert.deepEqual(events, []);
    assert.deepEqual([...daemon.tunnels], []);
    for (const name of ["stranger", "device-1"]) assert.equal(await registry.byName(name), undefined);
    assert.equal(early.pair.edgeEar.endedWith?.code, "unauthorized");
    assert.equal(
      Buffer.concat(stream.chunks).toString("hex"),
      "020000",
      "refused, in what isn't its protocol",
    );
    await end();
  });

  it("isn't held up by a slow one", async () => {
    const { daemon, source, network, events, connect, join, end } = world();
    daemon.attach(source);
    await Promise.all(Array.from({ length: 20 }, () => connect()));
    const beforeMs = network.clock.nowMs();
    await join("device-1");
    await network.advance(1);
    assert.ok(network.clock.nowMs() - beforeMs < 1_000);
    assert.deepEqual(events, ["connected device-1", "authenticated device-1"]);
    await end();
  });

  it("the last of two with one name is found, and the first's leaving changes nothing", async () => {
    const { daemon, source, network, registry, events, join, end } = world();
    daemon.attach(source);
    const first = await join("device-1");
    const second = await join("device-1");
    await network.advance(100);
    const newest = daemon.find("device-1")!;
    assert.equal((await registry.byName("device-1"))?.id, newest.id);
    first.tunnel.close(new SallyportError("shutdown", "Cannot keep tunnel", { side: "local" }));
    await network.advance(100);
    assert.equal((await registry.byName("device-1"))?.id, newest.id);
    assert.equal(daemon.find("device-1"), newest);
    second.tunnel.close(new SallyportError("shutdown", "Cannot keep tunnel", { side: "local" }));
    await network.advance(100);
    assert.equal(await registry.byName("device-1"), undefined);
    assert.equal(events.filter((event) => event.startsWith("disconnected")).length, 2);
    await end();
  });

  it("takes sources and lets go of them while it runs", async () => {
    const { daemon, source, network, events, connect, join, end } = world();
    const before = await connect();
    await network.advance(10);
    assert.equal(before.pair.edgeEar.endedWith?.code, "shutdown", "nobody takes it");
    daemon.attach(source);
    daemon.attach(source);
    const { tunnel } = await join("device-1");
    daemon.detach(source);
    const after = await connect();
    await network.advance(10);
    assert.equal(after.pair.edgeEar.endedWith?.code, "shutdown");
    const other = createTunnelSource();
    daemon.attach(other);
    await connect(other);
    assert.deepEqual(events, ["connected device-1", "authenticated device-1"]);
    await network.settle(tunnel.open("/echo"));
    await end();
    assert.throws(() => daemon.attach(source), { code: "shutdown" });
  });

  it("stops by letting streams end: new ones are refused, old ones go on", async () => {
    const { daemon, source, network, events, settle, join, end } = world();
    daemon.attach(source);
    const { tunnel } = await join("device-1");
    const stream = watch(await settle(tunnel.open("/echo")));
    await network.advance(10);
    const closing = daemon.close(60_000);
    await network.advance(1_000);
    await assertRejects(settle(tunnel.open("/echo")), "shutdown");
    stream.write(bytesOf("still here"));
    await settle(stream.received(10));
    const startedMs = network.clock.nowMs();
    stream.closeWrite();
    await settle(stream.sawClose);
    await settle(closing);
    assert.ok(network.clock.nowMs() - startedMs < 1_000, "it doesn't wait longer than for its streams");
    assert.deepEqual(events, ["connected device-1", "authenticated device-1", "disconnected device-1"]);
    await end();
  });

  it("ends what doesn't end by itself", async () => {
    const { daemon, source, network, settle, join, end } = world();
    daemon.attach(source);
    const { tunnel } = await join("device-1");
    const stream = watch(await settle(tunnel.open("/echo")));
    await network.advance(10);
    const startedMs = network.clock.nowMs();
    await settle(daemon.close(5_000));
    assert.ok(Math.abs(network.clock.nowMs() - startedMs - 5_000) < 500);
    await settle(stream.sawClose);
    await end();
  });

  it("ends a tunnel when what it was let in by has run out", async () => {
    const { daemon, source, network, events, held, connect, settle, end } = world();
    daemon.attach(source);
    const { clock } = network;
    const validUntilS = clock.wallMs() / 1000 + 300;
    held.push({ method: "brief", verify: () => Promise.resolve({ name: "brief", validUntilS }) });
    const { carrier } = await connect();
    const credentials = [{ method: "brief", prove: () => Promise.resolve() }];
    const tunnel = await settle(
      joinTunnel({ carrier, clock, credentials, router: createRouter({}), name: "daemon" }),
    );
    await network.advance(299_000);
    assert.equal(daemon.find("brief")?.name, "brief");
    await network.advance(2_000);
    assert.deepEqual(events, ["connected brief", "authenticated brief", "disconnected brief"]);
    await settle(tunnel.closed);
    assert.equal(daemon.find("brief"), undefined);
    await end();
  });

  it("has requests wait until a tunnel is registered", async () => {
    const network = createMemoryNetwork();
    const inner = createMemoryRegistry({ clock: network.clock });
    const registering = Promise.withResolvers<void>();
    const events: string[] = [];
    const daemon = createTunnelDaemon({
      clock: network.clock,
      registry: {
        register: async (record) => {
          await registering.promise;
          await inner.register(record);
        },
        renew: (record) => inner.renew(record),
        remove: (key) => inner.remove(key),
        byId: (id) => inner.byId(id),
        byName: (name) => inner.byName(name),
        close: () => inner.close(),
      },
      authenticators: [secretAuthenticator(() => ({ secret }))],
      router: createRouter({
        "/echo": async (request) => {
          assert.equal((await inner.byName("device-1"))?.id, request.tunnel.id);
          return echo(request);
        },
      }),
      event: ({ kind }) => events.push(kind),
    });
    const source = createTunnelSource();
    daemon.attach(source);
    const pair = await network.settle(kind.open(network.runtime(), "10.0.0.1"));
    const edge = new SessionCarrier(pair.edge);
    const agent = new SessionCarrier(pair.agent);
    pair.edgeEar.also = { stream: (stream) => edge.offer(stream), ended: (error) => edge.ended(error) };
    pair.agentEar.also = { ended: (error) => agent.ended(error) };
    source.carrier(edge);
    const tunnel = await network.settle(joinTunnel({
      carrier: agent,
      clock: network.clock,
      credentials: [secretCredential("device-1", secret)],
      router: createRouter({}),
      name: "daemon",
    }));
    let opened: ByteStream | undefined;
    const opening = tunnel.open("/echo").then((stream) => opened = stream);
    await network.advance(1_000);
    assert.deepEqual([opened, events], [undefined, []]);
    registering.resolve();
    await network.settle(opening);
    assert.deepEqual(events, ["connected", "authenticated"]);
    await network.settle(daemon.close(0));
    await network.settle(
      pair.close(new SallyportError("shutdown", "Cannot keep session", { side: "local" })),
    );
  });

  it("takes an edge's agents: those that the edge knows, or those that say who they are once more", async () => {
    for (const asks of [false, true]) {
      const source = createTunnelSource();
      const router = createRouter({ "/echo": echo });
      const edge = await TestEdge.start({
        tunnels: asks
          ? { adopt: (carrier) => (source.carrier(carrier), true), router: () => undefined }
          : { router: () => router, opened: source.tunnel },
      });
      const { clock } = edge.network;
      const events: string[] = [];
      const daemon = createTunnelDaemon({
        clock,
        router,
        authenticators: [secretAuthenticator((name) => name === "device-1" ? { secret } : undefined)],
        event: ({ kind, tunnel }) => events.push(`${kind} ${tunnel.name}`),
      });
      daemon.attach(source);
      const runtime = edge.runtime(AGENT_HOST);
      const connected = Promise.withResolvers<Tunnel | undefined>();
      const agent = createAgent({
        runtime,
        grants: () => {
          const { token, claims } = edge.token();
          return Promise.resolve({ ...claims, token, edge: { host: EDGE_HOST, port: EDGE_PORT } });
        },
        connector: (stream) => stream.abort(),
        router: createRouter({}),
        ...asks ? { credentials: [secretCredential("device-1", secret)] } : {},
        connected: (_, tunnel) => connected.resolve(tunnel),
      });
      const running = agent.run();
      const tunnel = await edge.network.settle(connected.promise);
      const stream = watch(await edge.network.settle(tunnel!.open("/echo")));
      stream.write(bytesOf("hello"));
      await edge.network.settle(stream.received(5));
      const name = asks ? "device-1" : "a.test";
      assert.deepEqual(events, [`connected ${name}`, `authenticated ${name}`]);
      await edge.network.settle(agent.close(0));
      await edge.network.settle(running);
      await edge.advance(100);
      assert.deepEqual(events.slice(2), [`disconnected ${name}`]);
      assert.equal((await tunnel!.closed).code, "shutdown");
      await edge.network.settle(daemon.close(0));
      await edge.assertNothingLeft();
    }
  });

  it("keeps an agent out of an adopting edge that can't say who it is", async () => {
    const source = createTunnelSource();
    const edge = await TestEdge.start({
      tunnels: { adopt: (carrier) => (source.carrier(carrier), true), router: () => undefined },
    });
    const refused = Promise.withResolvers<SallyportError>();
    const daemon = createTunnelDaemon({
      clock: edge.network.clock,
      router: createRouter({}),
      authenticators: [secretAuthenticator(() => undefined)],
      refused: refused.resolve,
    });
    daemon.attach(source);
    const agent = createAgent({
      runtime: edge.runtime(AGENT_HOST),
      grants: () => {
        const { token, claims } = edge.token();
        return Promise.resolve({ ...claims, token, edge: { host: EDGE_HOST, port: EDGE_PORT } });
      },
      connector: (stream) => stream.abort(),
      router: createRouter({}),
      credentials: [secretCredential("device-1", secret)],
      connected: () => assert.fail("it isn't let in"),
    });
    const running = agent.run();
    assertCode(await edge.network.settle(refused.promise), "unauthorized");
    await edge.network.settle(agent.close(0));
    await edge.network.settle(running);
    await edge.network.settle(daemon.close(0));
    await edge.assertNothingLeft();
  });
});
