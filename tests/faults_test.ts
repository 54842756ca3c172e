/**
 * Something throws inside every boundary: the fault is `internal` and this side's, its stack is logged, it is counted
 * once, and the neighbours go on. Connections, datagrams and HTTP requests are in the runtime's conformance suite, streams
 * and sessions of every transport in the transports'.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createAgent } from "../src/agent/agent.ts";
import type { Boundary, InternalError } from "../src/errors.ts";
import { FernetRing } from "../src/crypto/fernet.ts";
import { createLogger, type Logger } from "../src/telemetry/log.ts";
import { Metrics } from "../src/telemetry/metrics.ts";
import { reportFault } from "../src/telemetry/faults.ts";
import { FrameReceiver } from "../src/protocol/mux/snitun/receiver.ts";
import { ConnSession } from "../src/transport/conn_session.ts";
import { createRouter } from "../src/tunnel/requests/router.ts";
import { runFile } from "./support/run_file.ts";
import {
  AGENT_HOST,
  assertAlert,
  EDGE_HOST,
  EDGE_PORT,
  FERNET_KEY,
  NOTHING,
  TestEdge,
} from "./support/tunnel.ts";
import { parsePrometheus, sampleValue } from "./telemetry/prometheus.ts";

/** What was thrown; the log must show where. */
function breaks(): never {
  throw new TypeError("it broke here");
}

/** A log as an operator reads it, and what was counted. */
class Witness {
  readonly metrics = new Metrics();
  readonly lines: string[] = [];
  readonly log: Logger = createLogger({
    level: "info",
    format: "json",
    write: (line) => void this.lines.push(line),
  });

  /** Fails unless exactly one fault was told, from this boundary, with the stack of what threw. */
  async assertTold(where: Boundary): Promise<void> {
    const told = this.lines.map((line) => JSON.parse(line)).filter(({ level }) => level === "error");
    assert.equal(told.length, 1, this.lines.join(""));
    assert.equal(told[0].where, where);
    assert.equal(told[0].reason, "internal");
    assert.equal(told[0].error.code, "internal");
    assert.match(told[0].error.stack, /breaks.*faults_test/);
    const samples = parsePrometheus(await this.metrics.render());
    assert.equal(sampleValue(samples, "sallyport_internal_errors_total", { where }), 1);
  }
}

/** An edge and an agent that dials it; everything is told to one witness. */
async function site(
  witness: Witness,
  edgeOptions: Parameters<typeof TestEdge.start>[0],
  agentOptions: Partial<Parameters<typeof createAgent>[0]> = {},
  beforeGrant: (attempt: number) => void = () => {},
) {
  const { log, metrics } = witness;
  const test = await TestEdge.start({ log, metrics, ...edgeOptions });
  const runtime = test.runtime(AGENT_HOST);
  runtime.faults.handle((error) => reportFault(error, witness));
  let attempt = 0;
  const agent = createAgent({
    runtime,
    grants: () => {
      beforeGrant(attempt++);
      const { token, claims } = test.token();
      return Promise.resolve({ token, ...claims, edge: { host: EDGE_HOST, port: EDGE_PORT } });
    },
    connector: (stream) => stream.attach(NOTHING),
    log,
    metrics,
    ...agentOptions,
  });
  const over = agent.run();
  await test.advance(50);
  const finish = async () => {
    await test.network.settle(agent.close(0));
    await test.network.settle(over);
    await test.assertNothingLeft();
  };
  return { test, agent, finish };
}

describe("reportFault: a fault of our own", () => {
  it("in the authorize hook refuses the agent", async () => {
    for (const authorize of [breaks, () => Promise.resolve().then(breaks)]) {
      const witness = new Witness();
      const { log, metrics } = witness;
      const test = await TestEdge.start({ log, metrics, authorize });
      await assert.rejects(test.connect(), { code: "session_refused" });
      await witness.assertTold("authorize");
      assert.equal(await test.refusals("agent", "internal"), 1);
      await test.assertNothingLeft();
    }
  });

  it("in the router's choice refuses the agent", async () => {
    const witness = new Witness();
    const { log, metrics } = witness;
    const test = await TestEdge.start({ log, metrics, tunnels: { router: breaks } });
    await test.connect();
    await witness.assertTold("callback");
    assert.equal(test.edge.sessions, 0);
    await test.assertNothingLeft();
  });

  it("in a handshake refuses the agent", async () => {
    const witness = new Witness();
    const { log, metrics } = witness;
    const ring = new FernetRing([FERNET_KEY]);
    ring.tryOpen = breaks;
    const test = await TestEdge.start({ log, metrics, ring });
    await assert.rejects(test.connect(), { code: "session_refused" });
    await witness.assertTold("handshake");
    await test.assertNothingLeft();
  });

  it("between a visitor and its session ends that visitor", async (t) => {
    const witness = new Witness();
    const { test, finish } = await site(witness, {});
    const broken = t.mock.method(ConnSession.prototype, "open", breaks);
    const { conn } = await test.visit();
    broken.mock.restore();
    assert.ok(conn.ended || conn.closes > 0);
    await witness.assertTold("visitor");
    assert.equal(await test.refusals("visitor", "internal"), 1);
    assert.equal((await test.visit()).conn.closes, 0);
    await finish();
  });

  it("in the connector, or in what it attaches, ends the visitor's stream", async () => {
    const connectors = [
      ["connector", breaks],
      ["connector", () => Promise.resolve().then(breaks)],
      [
        "stream",
        (stream: { attach(handler: typeof NOTHING): void }) => stream.attach({ ...NOTHING, data: breaks }),
      ],
    ] as const;
    for (const [where, connector] of connectors) {
      const witness = new Witness();
      const { test, agent, finish } = await site(witness, {}, { connector });
      const { conn } = await test.visit();
      await test.advance(100);
      assert.ok(conn.ended || conn.closes > 0);
      await witness.assertTold(where);
      assert.notEqual(agent.session, undefined);
      await finish();
    }
  });

  it("in the agent's connected callback leaves the session alone", async () => {
    const witness = new Witness();
    const { agent, finish } = await site(witness, {}, { connected: breaks });
    await witness.assertTold("callback");
    assert.notEqual(agent.session, undefined);
    await finish();
  });

  it("where the agent gets its grants doesn't end the agent", async () => {
    const witness = new Witness();
    const { agent, test, finish } = await site(witness, {}, {}, (attempt) => attempt === 0 && breaks());
    await test.advance(5_000);
    await witness.assertTold("callback");
    assert.notEqual(agent.session, undefined);
    await finish();
  });

  it("in a session ends it with internal at this side, not with a code of the peer's", async (t) => {
    const witness = new Witness();
    const { test, agent, finish } = await site(witness, {});
    // The next bytes of any session, which are the ClientHello for the agent.
    const broken = t.mock.method(FrameReceiver.prototype, "receive", () => {
      broken.mock.restore();
      breaks();
    });
    const { conn } = await test.visit();
    await test.advance(100);
    assertAlert(conn, 80);
    await witness.assertTold("session");
    const reasons = witness.lines.map((line) => JSON.parse(line).reason);
    assert.ok(!reasons.includes("frame_invalid"));
    await test.advance(5_000);
    assert.notEqual(agent.session, undefined);
    await finish();
  });

  it("in a service, or in what takes its stream, ends that stream", async () => {
    const services = [breaks, () => Promise.resolve().then(breaks), () => breaks, () =>
    (stream: {
      attach(handler: typeof NOTHING): void;
    }) => stream.attach({ ...NOTHING, data: breaks })];
    for (const [i, service] of services.entries()) {
      const witness = new Witness();
      const { agent, test, finish } = await site(witness, {
        tunnels: { router: () => createRouter({ "/broken": service }) },
      }, { router: createRouter({}) });
      const opened = agent.tunnel!.open("/broken").then((stream) => {
        stream.attach(NOTHING);
        stream.write(new Uint8Array(10));
      }, () => {});
      await test.network.settle(opened);
      await test.advance(100);
      await witness.assertTold(i === services.length - 1 ? "stream" : "service");
      await finish();
    }
  });

  it("that nothing catches is told, counted, and doesn't end the process", async () => {
    const { code, stdout, stderr } = await runFile("tests/support/broken_process.ts");
    assert.equal(code, 0, stderr);
    const told = stdout.trim().split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(told.slice(0, -1).map(({ where, error }) => [where, error.message]), [
      ["process", "Internal error (process): from a timer"],
      ["process", "Internal error (process): from a promise"],
    ]);
    assert.match(told[0].error.stack, /broken_process/);
    assert.deepEqual(told.at(-1), { counted: 2 });
  });
});

it("reportFault: tells a fault once, and leaves typed errors alone", async () => {
  const witness = new Witness();
  const { InternalError, SallyportError } = await import("../src/errors.ts");
  reportFault(new SallyportError("token_expired", "Cannot accept token", { side: "peer" }), witness);
  assert.deepEqual(witness.lines, []);
  let fault: InternalError;
  try {
    breaks();
  } catch (thrown) {
    fault = new InternalError("accept", thrown);
  }
  reportFault(fault, witness);
  reportFault(fault, witness);
  await witness.assertTold("accept");
});
