/** A link that carries nothing any more, and tells nobody: both ends find out in SILENCE_MAX_MS, over every transport. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createAgent } from "../../src/agent/agent.ts";
import { loadSodium } from "../../src/crypto/sodium.ts";
import { edgeKeys } from "../support/sealed.ts";
import { identities } from "../conformance/quic_helpers.ts";
import { SILENCE_MAX_MS } from "../../src/protocol/mux/heartbeat.ts";
import type { TransportName } from "../../src/transport/names.ts";
import { transportsOf } from "../support/transports.ts";
import { AlertDescription } from "../../src/wire/tls/tls_alert.ts";
import {
  AGENT_HOST,
  assertAlert,
  EDGE_HOST,
  EDGE_PORT,
  type LogLine,
  NOTHING,
  recordingLogger,
  TestEdge,
} from "../support/tunnel.ts";

const CURVE_PORT = 8444;
const QUIC_PORT = 8445;

/** An edge with every transport, and an agent that dials it by one. */
async function site(transport: TransportName, grantsFail = () => false) {
  const sodium = await loadSodium();
  const keys = edgeKeys(sodium);
  const identity = await identities();
  const test = await TestEdge.start({
    transports: transportsOf({
      sealed: { sodium, keys },
      curve: { crypto: sodium, keys },
      quic: identity.own,
    }),
    network: { link: { latencyMs: 10 } },
  });
  await test.edge.listen({ host: EDGE_HOST, port: CURVE_PORT, accepts: "curve" });
  await test.edge.listen({ host: EDGE_HOST, port: QUIC_PORT, accepts: "quic" });
  const lines: LogLine[] = [];
  const connectedAtMs: number[] = [];
  const agent = createAgent({
    runtime: test.runtime(AGENT_HOST),
    transport,
    edgePublicKey: keys.publicKey,
    edgeCertificateFingerprint: identity.fingerprint,
    grants: () => {
      if (grantsFail()) throw new Error("no master");
      const { token, claims } = test.token();
      const port =
        { snitun: EDGE_PORT, sealed: EDGE_PORT, curve: CURVE_PORT, quic: QUIC_PORT, auto: 0 }[transport];
      return Promise.resolve({ token, ...claims, edge: { host: EDGE_HOST, port } });
    },
    connector: (stream) => stream.attach(NOTHING),
    log: recordingLogger(lines),
    connected: () => void connectedAtMs.push(test.network.clock.nowMs()),
  });
  const over = agent.run();
  await test.network.settle(
    new Promise<void>((resolve) => {
      const look = () => connectedAtMs.length > 0 ? resolve() : void test.network.clock.after(10, look);
      look();
    }),
  );
  await test.advance(50);
  const finish = async () => {
    await test.network.settle(agent.close(0));
    await test.network.settle(over);
    await test.assertNothingLeft(60_000);
  };
  return { test, agent, lines, connectedAtMs, finish };
}

for (const transport of ["snitun", "sealed", "curve", "quic"] as const) {
  describe(`createEdge and createAgent: a vanished peer over ${transport}`, () => {
    it("is noticed at both ends in SILENCE_MAX_MS; the visitor gets its alert, the name is free", async () => {
      const { test, agent, finish } = await site(transport);
      const { conn } = await test.visit();
      const first = agent.session!;
      test.network.cut(EDGE_HOST, AGENT_HOST);
      await test.advance(SILENCE_MAX_MS - 6_000);
      assert.equal(test.edge.serves("a.test"), true);
      assert.equal(conn.byteLength, 0);
      await test.advance(6_100);
      assert.equal(test.edge.serves("a.test"), false, "the name is free");
      assertAlert(conn, AlertDescription.internal_error);
      assert.notEqual(agent.session, first, "the agent has left");
      test.network.heal(EDGE_HOST, AGENT_HOST);
      await test.advance(12_000);
      assert.equal(test.edge.serves("a.test"), true, "a new session serves it");
      await finish();
    });

    it("stays where it is quiet for a day", async () => {
      const { test, agent, connectedAtMs, finish } = await site(transport);
      const first = agent.session;
      await test.advance(3_000_000 * 0.9);
      assert.equal(agent.session, first);
      assert.equal(connectedAtMs.length, 1);
      await finish();
    });
  });
}
