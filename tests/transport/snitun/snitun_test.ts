import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { AlertDescription } from "../../../src/wire/tls/tls_alert.ts";
import { describe, it } from "node:test";
import { type CipherName, createOpener, createSealer } from "../../../src/crypto/header_cipher.ts";
import { SallyportError } from "../../../src/errors.ts";
import { EdgeChallenge } from "../../../src/protocol/handshake/snitun_challenge.ts";
import type { Conn } from "../../../src/runtime/port.ts";
import { bytesOf, pattern, Watched } from "../../conformance/runtime_helpers.ts";
import {
  AGENT_HOST,
  assertAlert,
  bytesFrom,
  concat,
  EDGE_HOST,
  EDGE_PORT,
  TestEdge,
} from "../../support/tunnel.ts";
import { CHALLENGE_DEADLINE_MS } from "../../../src/protocol/handshake/snitun_challenge.ts";
import { DIAL_TIMEOUT_MS, LINGER_MS } from "../../../src/runtime/port.ts";

const CIPHERS: readonly CipherName[] = ["aes-cbc", "aes-gcm", "aes-gcm-siv"];
const VERSIONS = [0, 1, 2] as const;

describe("snitunTransport over TCP: a session", () => {
  for (const protocolVersion of VERSIONS) {
    for (const cipher of CIPHERS) {
      it(`carries bytes both ways: version ${protocolVersion}, ${cipher}, in pieces of any size`, async () => {
        const test = await TestEdge.start({
          network: { seed: protocolVersion + 3, link: { pieceMaxBytes: 300 } },
        });
        const agent = await test.connect({ protocolVersion, cipher });
        const { conn, hello } = await test.visit("a.test", { more: pattern(20_000) });
        agent.streams[0]!.write(pattern(30_000, 2));
        await test.advance(1_000);
        assert.deepEqual(bytesFrom(agent.streams[0]!), concat(hello, pattern(20_000)));
        assert.deepEqual(bytesFrom(conn), pattern(30_000, 2));
        assert.equal(agent.session.bytesReceived, hello.length + 20_000);
        assert.equal(agent.session.bytesSent, 30_000);
        assert.equal(agent.session.protocolVersion, protocolVersion);
        assert.equal(agent.session.cipher, cipher);
        assert.equal(agent.session.transport, "snitun");
        assert.deepEqual(agent.session.remote, { host: EDGE_HOST, port: EDGE_PORT });
        await test.assertNothingLeft();
      });
    }
  }

  it("stands for hours by its pings, and measures the way", async () => {
    const test = await TestEdge.start({ network: { link: { latencyMs: 20 } } });
    const agent = await test.connect({ ttlSeconds: 7 * 86_400 });
    await test.advance(12 * 3_600_000);
    assert.equal(agent.endedWith, undefined);
    assert.equal(agent.session.rttMs, 40);
    assert.ok(test.edge.serves("a.test"));
    await test.assertNothingLeft();
  });

  it("whose network is cut ends on both sides, and frees the name", async () => {
    const test = await TestEdge.start();
    const agent = await test.connect();
    const { conn } = await test.visit();
    test.network.cut(EDGE_HOST, AGENT_HOST);
    await test.advance(150_000);
    assert.equal(agent.endedWith?.code, "pong_missing");
    assert.equal(test.edge.serves("a.test"), false);
    assert.equal(await test.metric("session_ends_total", { reason: "pong_missing" }), 1);
    assertAlert(conn, AlertDescription.internal_error);
    await test.assertNothingLeft();
  });
});

/** An edge of the test's own: what it does with a connection is up to the test. */
async function withEdge(accept: (conn: Watched) => void, cipher: CipherName = "aes-gcm") {
  const test = await TestEdge.start({ listen: [] });
  const accepted: Watched[] = [];
  await test.runtime(EDGE_HOST).listen({
    host: EDGE_HOST,
    port: EDGE_PORT,
    accept: (conn: Conn) => {
      const watched = new Watched(conn);
      accepted.push(watched);
      accept(watched);
    },
  });
  return { test, accepted, token: test.token({ cipher }) };
}

describe("dialSnitun over TCP: an agent's dial", () => {
  it("that reaches no listener says so", async () => {
    const test = await TestEdge.start({ listen: [] });
    await assert.rejects(test.connect(), {
      code: "edge_unreachable",
      retryable: true,
      message: /^Cannot reach edge 10\.0\.0\.1:8443: .*refused/,
    });
    await test.network.runUntilIdle();
    const beganMs = test.network.clock.nowMs();
    test.network.cut(EDGE_HOST, AGENT_HOST);
    await assert.rejects(test.connect(), { code: "edge_unreachable" });
    assert.equal(test.network.clock.nowMs() - beganMs, DIAL_TIMEOUT_MS);
    await assert.rejects(test.connect({}, { host: "no.such.name" }), { code: "edge_unreachable" });
    await test.assertNothingLeft();
  });

  it("that is closed after the token, by FIN or reset, was refused", async () => {
    for (const how of ["release", "abort"] as const) {
      const { test, token, accepted } = await withEdge((edge) => edge.onData = () => edge[how]());
      await assert.rejects(test.connect(token), {
        code: "session_refused",
        retryable: true,
        message: /edge 10\.0\.0\.1:8443 closed/,
      });
      await test.advance(LINGER_MS);
      assert.equal(accepted[0]!.closes, 1);
      await test.assertNothingLeft();
    }
  });

  it("sends the token and nothing else before the challenge", async () => {
    const { test, token, accepted } = await withEdge(() => {});
    const { dialled } = test.begin(token);
    await test.advance(1_000);
    assert.equal(accepted[0]!.text, token.token);
    await assert.rejects(test.network.settle(dialled), { code: "deadline_exceeded" });
    assert.ok(test.network.clock.nowMs() < CHALLENGE_DEADLINE_MS + 1_000);
    await test.assertNothingLeft();
  });

  for (const cipher of ["aes-gcm", "aes-gcm-siv"] as const) {
    it(`to an edge without the key notices under ${cipher}`, async () => {
      const { test, token, accepted } = await withEdge((edge) => {
        edge.onData = () => edge.write(new Uint8Array(randomBytes(60)));
      }, cipher);
      await assert.rejects(test.connect(token), { code: "challenge_failed" });
      await test.advance(10);
      assert.equal(accepted[0]!.text, token.token, "it gets no answer");
      accepted[0]!.assertOver("connection_lost");
      await test.assertNothingLeft();
    });
  }

  it("under aes-gcm notices an edge that plays the agent's own bytes back to it", async () => {
    const { test, token } = await withEdge((edge) => {
      edge.onData = () => {
        const { aesKey, aesIv } = token.claims;
        const reflected = createSealer("aes-gcm", aesKey, aesIv, "agent").seal(new Uint8Array(32), 32);
        edge.write(reflected.slice());
      };
    });
    await assert.rejects(test.connect(token), { code: "challenge_failed" });
    await test.assertNothingLeft();
  });

  it("takes the challenge byte by byte, and frames that come in its last segment", async () => {
    const { test, token, accepted } = await withEdge(() => {});
    const { aesKey, aesIv } = token.claims;
    const { agent, dialled } = test.begin(token);
    await test.advance(10);
    const edge = accepted[0]!;
    const sealer = createSealer("aes-gcm", aesKey, aesIv, "edge");
    const machine = new EdgeChallenge(sealer, createOpener("aes-gcm", aesKey, aesIv, "agent"));
    for (const byte of machine.first.slice(0, -1)) {
      edge.write(Uint8Array.of(byte));
      await test.advance(5);
    }
    // NEW for version 2: id, flag 1, 16 bytes of payload that say 192.0.2.1; then DATA.
    const id = new Uint8Array(16).fill(9);
    const header = (flag: number, size: number) =>
      sealer.seal(concat(id, Uint8Array.of(flag, 0, 0, 0, size), new Uint8Array(11)), 32).slice();
    const newHeader = header(1, 16);
    const caller = new Uint8Array(16);
    caller.set([0x34, 192, 0, 2, 1]);
    const newPayload = sealer.seal(caller, 16).slice();
    edge.write(concat(machine.first.slice(-1), newHeader, newPayload, header(2, 5), bytesOf("hello")));
    await test.network.settle(dialled);
    await test.advance(10);
    assert.equal(agent.streams[0]!.stream.caller.address, "192.0.2.1");
    assert.equal(agent.streams[0]!.text, "hello");
    const answer = bytesFrom(edge).slice(token.token.length);
    assert.notEqual(machine.push(answer), undefined);
    edge.abort();
    await test.advance(10);
    agent.streams[0]!.assertOver("connection_lost");
    await test.assertNothingLeft();
  });

  it("that meets garbage after a good challenge loses its session, not its process", async () => {
    const { test, token, accepted } = await withEdge(() => {});
    const { aesKey, aesIv } = token.claims;
    const { agent, dialled } = test.begin(token);
    await test.advance(10);
    const sealer = createSealer("aes-gcm", aesKey, aesIv, "edge");
    const machine = new EdgeChallenge(sealer, createOpener("aes-gcm", aesKey, aesIv, "agent"));
    accepted[0]!.write(concat(machine.first, new Uint8Array(randomBytes(500))));
    await test.network.settle(dialled);
    assert.equal(agent.endedWith?.code, "cipher_failed");
    await test.assertNothingLeft();
  });

  it("whose owner throws at its session leaves nothing behind", async () => {
    const test = await TestEdge.start();
    await assert.rejects(
      test.connect({}, {
        admitted: () => {
          throw new Error("no room");
        },
      }),
      /no room/,
    );
    await test.advance(10);
    assert.equal(test.edge.sessions, 0);
    await test.assertNothingLeft();
  });

  it("with impossible key material leaves no connection behind", async () => {
    const { test, token, accepted } = await withEdge(() => {});
    await assert.rejects(test.connect(token, { aesKey: new Uint8Array(5) }), { code: "cipher_failed" });
    await test.advance(10);
    assert.equal(accepted[0]!.closes, 1);
    await test.assertNothingLeft();
  });

  describe("dialSnitun: can be given up", () => {
    const reason = new SallyportError("shutdown", "Cannot keep session: it's over", { side: "local" });
    for (
      const [when, delayMs] of [["before", 0], ["while it connects", 0.5], ["in the challenge", 20]] as const
    ) {
      it(when, async () => {
        const { test, token, accepted } = await withEdge(() => {});
        const controller = new AbortController();
        if (when === "before") controller.abort(reason);
        const { dialled } = test.begin(token, { signal: controller.signal });
        const outcome = assert.rejects(dialled, reason);
        await test.advance(delayMs);
        controller.abort(reason);
        await outcome;
        await test.advance(10);
        assert.equal(accepted.length, when === "before" ? 0 : 1);
        for (const conn of accepted) assert.equal(conn.closes, 1);
        await test.assertNothingLeft(0);
      });
    }
  });
});
