/** The curve transport in front of a whole edge, in the network in memory. */
import assert from "node:assert/strict";
import { transportsOf } from "../../support/transports.ts";
import { describe, it } from "node:test";
import { CurveDialer } from "../../../src/transport/curve/agent.ts";
import { EdgeKey, keyText } from "../../../src/transport/edge_key.ts";
import type { DialerOptions, EdgePins } from "../../../src/transport/agent_transport.ts";
import type { Grant } from "../../../src/transport/grant.ts";
import { keyPair, loadSodium } from "../../../src/crypto/sodium.ts";
import type { OwnedStream } from "../../../src/protocol/curve/streams/stream.ts";
import { errorCode, SallyportError } from "../../../src/errors.ts";
import type { CreatedToken } from "../../../src/protocol/token/token.ts";
import { Metrics } from "../../../src/telemetry/metrics.ts";
import { hashOf, pattern } from "../../conformance/runtime_helpers.ts";
import {
  AGENT_HOST,
  bytesFrom,
  EDGE_HOST,
  TestAgent,
  TestEdge,
  type TestEdgeOptions,
} from "../../support/tunnel.ts";
import {
  decodeCurveHead,
  encodeCallerHead,
  encodeGoingAwayHead,
} from "../../../src/wire/curve/stream_head.ts";
import { AGENT_OPEN_COST, IDLE_FRAMES_BURST } from "../../../src/protocol/mux/frame_budget.ts";
import { CurveSession } from "../../../src/transport/curve/session.ts";
import type { Session } from "../../../src/transport/port.ts";
import { Ear } from "../../conformance/transport_helpers.ts";
import { CLIENT_HOST, Collector, connect, startServer, world } from "../../protocol/curve/support.ts";
import { parsePrometheus, sampleValue } from "../../telemetry/prometheus.ts";

const PORT = 4500;
const crypto = await loadSodium();

/** A key pair that follows from a number. */
const keysOf = (seed: number) => keyPair(crypto, pattern(32, seed));

async function startEdge(seed = 1, options: TestEdgeOptions = {}): Promise<TestEdge> {
  const test = await TestEdge.start({
    transports: transportsOf({ curve: { crypto, keys: keysOf(seed) } }),
    ...options,
  });
  await test.edge.listen({ host: "0.0.0.0", port: PORT, accepts: "curve" });
  return test;
}

function grantOf({ token, claims }: CreatedToken, publicKey?: Uint8Array<ArrayBuffer>): Grant {
  const { hostname, aliases, aesKey, aesIv, cipher, valid } = claims;
  const edge = { host: EDGE_HOST, port: PORT, ...publicKey === undefined ? {} : { publicKey } };
  return { token, hostname, aliases, aesKey, aesIv, cipher, protocolVersion: 2, valid, edge };
}

/** An agent's dial; rejects as `CurveDialer.dial`. */
async function dial(test: TestEdge, token: CreatedToken, publicKey?: Uint8Array<ArrayBuffer>, more: {
  dialer?: CurveDialer;
  signal?: AbortSignal;
  options?: Partial<DialerOptions>;
} = {}) {
  const dialer = more.dialer ??
    new CurveDialer({ runtime: test.runtime(AGENT_HOST), edgeKey: new EdgeKey(), ...more.options });
  const agent = new TestAgent(token);
  const grant = grantOf(token, publicKey);
  const signal = more.signal ?? new AbortController().signal;
  const admitted = (session: Session) => {
    agent.session = session;
    return agent;
  };
  await test.network.settle(dialer.dial({ grant, edge: grant.edge, signal, admitted }));
  await test.advance(100);
  return { agent, dialer };
}

const codeOf = (code: string) => (error: unknown) => errorCode(error) === code;

describe("curveTransport and CurveDialer", () => {
  it("are let in by their token, serve visitors, and are counted", async () => {
    const metrics = new Metrics();
    const test = await startEdge();
    const { agent } = await dial(test, test.token(), keysOf(1).publicKey, { options: { metrics } });
    const { conn, hello } = await test.visit();
    await test.advance(100);
    assert.equal(agent.streams.length, 1);
    const stream = agent.streams[0]!;
    assert.equal(stream.stream.caller.address, "198.51.100.7");
    assert.deepEqual(bytesFrom(stream), hello);
    stream.write(pattern(100_000, 1));
    stream.closeWrite();
    await test.advance(3_000);
    assert.equal(hashOf(bytesFrom(conn)), hashOf(pattern(100_000, 1)));
    assert.equal(await test.metric("sessions", { transport: "curve" }), 1);
    assert.ok(await test.metric("curve_packets_sent_total") > 0);
    const own = parsePrometheus(await metrics.render());
    assert.ok(sampleValue(own, "sallyport_curve_packets_sent_total") > 70);
    agent.session.close(
      new SallyportError("shutdown", "Cannot keep session: the test is over", { side: "local" }),
    );
    await test.advance(1_000);
    assert.equal(test.edge.sessions, 0);
    assert.equal(test.logged("shutdown").message.includes("by the peer"), true);
    // What an ended session counted stays.
    assert.ok(
      sampleValue(parsePrometheus(await metrics.render()), "sallyport_curve_packets_sent_total") > 70,
    );
    test.assertNoSecretLogged();
    await test.assertNothingLeft();
  });

  it("go on from another port in mid-transfer", async () => {
    const test = await startEdge();
    const { agent, dialer } = await dial(test, test.token(), keysOf(1).publicKey);
    const { conn } = await test.visit();
    await test.advance(100);
    const data = pattern(3_000_000, 2);
    const stream = agent.streams[0]!;
    const before = agent.session.remote;
    let at = 0;
    const feed = () => {
      while (at < data.length) if (!stream.write(data.slice(at, at += 100_000))) return;
      stream.closeWrite();
    };
    stream.onDrain = feed;
    feed();
    await test.advance(30);
    assert.ok(conn.byteLength < data.length, "in mid-transfer");
    const port = dialer.connection!.local.port;
    await test.network.settle(dialer.connection!.rebind());
    assert.notEqual(dialer.connection!.local.port, port);
    await test.advance(60_000);
    assert.equal(hashOf(bytesFrom(conn)), hashOf(data));
    assert.equal(await test.metric("curve_path_moves_total"), 1);
    assert.deepEqual(agent.session.remote, before);
    await test.assertNothingLeft();
  });

  it("are refused by a code alone, and the log says why", async () => {
    const test = await startEdge(1, {
      authorize: ({ hostname, transport }) => {
        assert.equal(transport, "curve");
        if (hostname === "b.test") {
          throw new SallyportError("unauthorized", "Cannot admit: inner workings", { side: "peer" });
        }
      },
    });
    const late = test.token({ ttlSeconds: undefined, valid: test.network.clock.wallMs() / 1000 - 5 });
    await assert.rejects(dial(test, late, keysOf(1).publicKey), codeOf("token_expired"));
    await assert.rejects(dial(test, test.token({ hostname: "b.test" }), keysOf(1).publicKey), (error) => {
      assert.equal(errorCode(error), "unauthorized");
      return !(error as Error).message.includes("inner workings");
    });
    assert.ok(test.logged("unauthorized").message.includes("inner workings"));
    assert.equal(await test.refusals("agent", "token_expired"), 1);
    await test.assertNothingLeft();
  });

  it("trust nobody but the edge that was named, or that they met first", async () => {
    const test = await startEdge(1);
    await assert.rejects(dial(test, test.token(), keysOf(2).publicKey), codeOf("challenge_failed"));
    const kept = new Map<string, Uint8Array<ArrayBuffer>>();
    const edgePins: EdgePins = {
      place: "the test's memory",
      read: (edge) => Promise.resolve(kept.get(edge)),
      write: (edge, key) => Promise.resolve(void kept.set(edge, key)),
    };
    await dial(test, test.token({ hostname: "c.test" }), undefined, { options: { edgePins } });
    assert.deepEqual([...kept], [[`${EDGE_HOST}:${PORT}`, keysOf(1).publicKey]]);
    // A key that the edge doesn't have, from now on.
    kept.set(`${EDGE_HOST}:${PORT}`, keysOf(3).publicKey);
    await assert.rejects(
      dial(test, test.token({ hostname: "d.test" }), undefined, { options: { edgePins } }),
      (error) => {
        assert.equal(errorCode(error), "edge_key_changed");
        return (error as Error).message.includes(keyText(keysOf(3).publicKey));
      },
    );
    await test.assertNothingLeft();
  });

  it("give up when they are told to", async () => {
    const test = await startEdge();
    test.network.cut(EDGE_HOST, AGENT_HOST);
    const closing = new AbortController();
    const reason = new SallyportError("shutdown", "Cannot keep session: the agent is shutting down", {
      side: "local",
    });
    const dialled = dial(test, test.token(), keysOf(1).publicKey, { signal: closing.signal });
    const rejected = assert.rejects(dialled, reason);
    await Promise.resolve();
    closing.abort(reason);
    await rejected;
    await test.assertNothingLeft();
  });

  it("end with the edge, and hear why", async () => {
    const test = await startEdge();
    const { agent } = await dial(test, test.token(), keysOf(1).publicKey);
    const closed = test.edge.close(1_000);
    await test.network.settle(closed);
    await test.advance(1_000);
    assert.equal(agent.endedWith?.code, "shutdown");
    await test.assertNothingLeft();
  });
});

/** A stream and what comes back on it. */
interface Held {
  readonly stream: OwnedStream;
  readonly collector: Collector;
}

describe("CurveSession: heads of streams", () => {
  it("are waited for, but not without end", async () => {
    const net = world();
    net.link(CLIENT_HOST, { delayMs: 20 });
    const server = await startServer(net, crypto);
    const ear = new Ear();
    const { link } = await connect(net, crypto, {
      admitted: (connection) => {
        const session = new CurveSession("agent", connection, net.clock);
        session.start(ear);
        return session;
      },
    });
    net.clock.run(100);
    const there = server.connections[0]!;
    const head = encodeCallerHead({ address: "192.0.2.7", port: 1, serverName: "a.test" });
    const [cut, whole, late] = [there.open(), there.open(), there.open()].map((stream, at) => {
      const collector = new Collector();
      stream.attach(collector);
      stream.write([head.slice(0, 5), head, new Uint8Array(0)][at]!);
      return { stream, collector };
    }) as [Held, Held, Held];
    net.clock.run(10_000);
    late.stream.write(head.slice(0, 1));
    net.clock.run(4_000);
    assert.equal(ear.streams.length, 1);
    assert.deepEqual([cut, whole, late].map(({ collector }) => collector.closed), [false, false, false]);
    net.clock.run(2_000);
    assert.equal(cut.collector.closed, true);
    assert.equal(errorCode(cut.collector.error), "deadline_exceeded");
    late.stream.write(head.slice(1));
    net.clock.run(60_000);
    // The third's time runs from its own first frame.
    assert.deepEqual([whole, late].map(({ collector }) => collector.closed), [false, false]);
    assert.equal(ear.streams.length, 2);
    assert.equal(link.connection.streams, 2);
  });

  it("that keep coming faster than any agent opens streams end the session", async () => {
    const net = world();
    const server = await startServer(net, crypto);
    let session!: CurveSession;
    await connect(net, crypto, {
      admitted: (connection) => {
        session = new CurveSession("edge", connection, net.clock);
        session.start(new Ear());
        return session;
      },
    });
    net.clock.run(100);
    const there = server.connections[0]!;
    let opened = 0;
    for (; !session.over && opened < IDLE_FRAMES_BURST; opened++) {
      there.open().abort();
      if (opened % 100 === 0) net.clock.run(5);
    }
    assert.ok(opened >= IDLE_FRAMES_BURST / AGENT_OPEN_COST && opened < IDLE_FRAMES_BURST, `${opened}`);
  });

  const head = encodeCallerHead({ address: "2001:db8::7", port: 54_321, serverName: "a.test" });

  it("come back as they were, and are whole or not there", () => {
    for (let at = 0; at < head.length; at++) assert.equal(decodeCurveHead(head.slice(0, at)), undefined);
    const more = new Uint8Array([...head, 1, 2, 3]);
    assert.deepEqual(decodeCurveHead(more), {
      kind: "caller",
      size: head.length,
      address: "2001:db8::7",
      port: 54_321,
      serverName: "a.test",
    });
    assert.deepEqual(decodeCurveHead(encodeCallerHead({ address: "?" })), {
      ...{ kind: "caller", size: 5, address: "0.0.0.0", port: 0, serverName: undefined },
    });
    assert.deepEqual(decodeCurveHead(encodeGoingAwayHead(18)), { kind: "going away", size: 2, code: 18 });
  });

  it("are refused where they make no sense", () => {
    const invalid = { code: "frame_invalid" };
    assert.throws(() => decodeCurveHead(new Uint8Array([2])), invalid);
    assert.throws(() => decodeCurveHead(new Uint8Array([0, 0, 0, 5])), invalid);
    assert.throws(() => decodeCurveHead(new Uint8Array([0, 0, 0, 0, 254])), invalid);
    assert.throws(() => decodeCurveHead(new Uint8Array([0, 0, 0, 0, 1, 10])), invalid);
  });
});
