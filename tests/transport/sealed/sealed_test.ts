/** The sealed transport between an agent and a whole edge, in the network in memory. */
import assert from "node:assert/strict";
import { transportsOf } from "../../support/transports.ts";
import { describe, it } from "node:test";
import { Dialers } from "../../../src/agent/dialer.ts";
import { keyText } from "../../../src/transport/edge_key.ts";
import type { TransportDialer } from "../../../src/transport/agent_transport.ts";
import { SodiumAead } from "../../../src/crypto/aead.ts";
import { loadSodium, makeKeyPair } from "../../../src/crypto/sodium.ts";
import { type ErrorCode, SallyportError } from "../../../src/errors.ts";
import { SealedAgentHandshake } from "../../../src/protocol/handshake/sealed_agent.ts";
import { RecordScratch, RecordSealer } from "../../../src/protocol/records/sealed_records.ts";
import type { CreatedToken, TokenRequest } from "../../../src/protocol/token/token.ts";
import type { Bytes } from "../../../src/runtime/port.ts";
import type { DialSealedOptions } from "../../../src/transport/sealed/dial.ts";
import { loginOf } from "../../support/login.ts";
import { bytesOf, type Watched } from "../../conformance/runtime_helpers.ts";
import { systemRandom } from "../../../src/crypto/random.ts";
import type { Session } from "../../../src/transport/port.ts";
import { edgeKeys, flipped } from "../../support/sealed.ts";
import { connectSealed } from "../../support/sealed_agent.ts";
import {
  AGENT_HOST,
  assertSilentEnd,
  bytesFrom,
  concat,
  EDGE_HOST,
  EDGE_PORT,
  TestAgent,
  TestEdge,
  type TestEdgeOptions,
  VISITOR_HOST,
} from "../../support/tunnel.ts";
import { SEALED_ANSWER_DEADLINE_MS } from "../../../src/protocol/handshake/sealed_flight.ts";
import { SEALED_SILENCE_MAX_MS, SEALED_SILENCE_MIN_MS } from "../../../src/transport/sealed/accept.ts";

const SEALED_PORT = 8445;
const sodium = await loadSodium();
const keys = edgeKeys(sodium);
const chacha = new SodiumAead(sodium);

const start = (options: TestEdgeOptions = {}): Promise<TestEdge> =>
  TestEdge.start({
    answerTimeoutMs: 0,
    transports: transportsOf({ sealed: { sodium, keys } }),
    listen: [
      { host: "0.0.0.0", port: EDGE_PORT },
      { host: "0.0.0.0", port: SEALED_PORT, accepts: "sealed" },
    ],
    ...options,
  });

function connect(
  test: TestEdge,
  token: CreatedToken | Partial<TokenRequest> = {},
  more: Partial<DialSealedOptions> = {},
): Promise<TestAgent> {
  return connectSealed(test, sodium, "claims" in token ? token : test.token(token), more);
}

/** The first flight of an agent of this edge. */
function firstFlight(test: TestEdge): SealedAgentHandshake {
  const unixSeconds = Math.floor(test.network.clock.wallMs() / 1000);
  return new SealedAgentHandshake({ sodium, edgePublicKey: keys.publicKey, unixSeconds });
}

/** Fails unless a connection that was silent until now is ended, silently, at a time drawn from the range. */
async function assertDroppedSilently(test: TestEdge, conn: Watched): Promise<number> {
  const startMs = test.network.clock.nowMs();
  await test.advance(SEALED_SILENCE_MIN_MS - 100);
  assert.equal(conn.ended || conn.closes > 0, false, "not before the least time");
  while (!conn.ended && conn.closes === 0) await test.advance(50);
  assertSilentEnd(conn);
  const tookMs = test.network.clock.nowMs() - startMs;
  assert.ok(tookMs <= SEALED_SILENCE_MAX_MS + 100, `after ${tookMs} ms`);
  return tookMs;
}

describe("sealedTransport: agents", () => {
  for (const port of [EDGE_PORT, SEALED_PORT]) {
    it(`come in at ${port === EDGE_PORT ? "the port that all share" : "a port of their own"}, and serve visitors`, async () => {
      const test = await start();
      const agent = await connect(test, {}, { port });
      assert.equal(test.edge.serves("a.test"), true);
      assert.deepEqual(
        [agent.session.transport, agent.session.cipher, agent.session.protocolVersion],
        ["sealed", "chacha20-poly1305", undefined],
      );
      const labels = { transport: "sealed", protocol_version: "", cipher: "chacha20-poly1305" };
      assert.equal(await test.metric("sessions", labels), 1);
      const { conn, hello } = await test.visit();
      assert.deepEqual(bytesFrom(agent.streams[0]!), hello);
      const { address, port: visitorPort, serverName } = agent.streams[0]!.stream.caller;
      assert.deepEqual([address, serverName], [VISITOR_HOST, "a.test"]);
      assert.ok(visitorPort! > 0);
      // Half-closed for as long as it takes: no grace, no limit but the visitor's own.
      conn.closeWrite();
      await test.advance(60_000);
      assert.equal(agent.streams[0]!.ended, true);
      agent.streams[0]!.write(bytesOf("the answer"));
      agent.streams[0]!.closeWrite();
      await test.advance(100);
      assert.equal(conn.text, "the answer");
      conn.assertOver();
      const line = test.lines.find(({ message }) => message === "agent connected")!;
      assert.equal(line.fields.transport, "sealed");
      test.assertNoSecretLogged();
      await test.assertNothingLeft();
    });
  }

  it("share the port with visitors and with agents that speak SniTun", async () => {
    const test = await start();
    const plain = await test.connect({ hostname: "plain.test" });
    const sealed = await connect(test, { hostname: "sealed.test" });
    await test.visit("plain.test");
    await test.visit("sealed.test");
    assert.deepEqual([plain.streams.length, sealed.streams.length], [1, 1]);
    await test.assertNothingLeft();
  });

  const refusals: [string, Partial<TokenRequest>, ErrorCode][] = [
    ["an expired token", { valid: 1000 }, "token_expired"],
  ];
  for (const [what, request, code] of refusals) {
    it(`are told why they aren't let in: ${what}`, async () => {
      const test = await start();
      await assert.rejects(connect(test, request), { code, message: /refused: token_expired/ });
      assert.equal(await test.refusals("agent", code), 1);
      assert.equal(test.edge.serves("a.test"), false);
      test.assertNoSecretLogged();
      await test.assertNothingLeft();
    });
  }

  it("are told so where their credential is another master's, or the operator refuses", async () => {
    const test = await start();
    const stranger = await TestEdge.start({ ring: undefined });
    const forged = { ...test.token(), token: `${stranger.token().token.slice(0, -8)}AAAAAAA=` };
    await assert.rejects(connect(test, forged), { code: "token_invalid" });
    assert.equal(await test.refusals("agent", "token_invalid"), 1);
    await test.assertNothingLeft();
    const strict = await start({
      authorize: ({ transport }) => {
        throw new Error(`nobody by ${transport}`);
      },
    });
    await assert.rejects(connect(strict), { code: "session_refused" });
    assert.match(
      strict.lines.find(({ fields }) => fields.where === "authorize")!.message,
      /nobody by sealed/,
    );
    await strict.assertNothingLeft();
  });

  it("that have another key for the edge get no answer, and say what may be wrong", async () => {
    const test = await start();
    const other = makeKeyPair(sodium);
    await assert.rejects(connect(test, {}, { edgePublicKey: other.publicKey }), {
      // Closed, or silent for ten seconds: the edge draws when it gives up.
      message: /without an answer: its key isn't the one pinned here, it doesn't speak sealed, or the clock/,
    });
    await test.advance(SEALED_SILENCE_MAX_MS);
    assert.equal(await test.refusals("connection", "unknown_protocol"), 1);
    await test.assertNothingLeft();
  });

  it("may be up to an hour off", async () => {
    const test = await start();
    const nowS = Math.floor(test.network.clock.wallMs() / 1000);
    await connect(test, {}, { unixSeconds: nowS - 3_590 });
    await assert.rejects(connect(test, {}, { unixSeconds: nowS + 3_700 }), {
      message: /without an answer: .* the clock here is wrong/,
    });
    await test.advance(SEALED_SILENCE_MAX_MS);
    assert.match(test.logged("challenge_failed").message, /the agent's clock is 3700 s ahead/);
    await test.assertNothingLeft();
  });

  it("hear of a shutdown while their streams finish", async () => {
    const test = await start();
    const agent = await connect(test);
    const away: string[] = [];
    (agent as { goingAway?: (code: string) => void }).goingAway = (code) => void away.push(code);
    await test.visit();
    const closed = test.edge.close(30_000);
    await test.advance(20);
    assert.deepEqual(away, ["shutdown"]);
    assert.equal(agent.session.streams, 1);
    agent.streams[0]!.abort();
    await test.network.settle(closed);
    await test.advance(10);
    assert.equal((agent as TestAgent).endedWith?.code, "connection_lost");
    await test.assertNothingLeft();
  });

  it("that go away get no more visitors", async () => {
    const test = await start();
    const agent = await connect(test);
    agent.session.goAway(
      new SallyportError("shutdown", "Cannot open stream: the agent is shutting down", { side: "local" }),
    );
    await test.advance(20);
    assert.equal(test.edge.serves("a.test"), false);
    await test.assertNothingLeft();
  });
});

describe("sealedTransport: strangers", () => {
  const strangers: [string, (test: TestEdge) => Bytes][] = [
    ["silence", () => new Uint8Array(0)],
    ["one byte", () => new Uint8Array([0x42])],
    ["noise", () => new Uint8Array(5000).map((_, i) => (i * 7919) >> 3)],
    ["HTTP", () => bytesOf("GET / HTTP/1.1\r\nhost: a\r\n\r\n")],
    ["a first flight that is cut", (test) => firstFlight(test).first.slice(0, -1)],
    ["a first flight with a flipped bit in its key", (test) => flipped(firstFlight(test).first, 40)],
    ["a first flight with a flipped bit at its end", (test) => {
      const { first } = firstFlight(test);
      return flipped(first, first.length - 1);
    }],
    ["a first flight with a byte after it", (test) => concat(firstFlight(test).first, new Uint8Array(1))],
  ];
  for (const [what, bytes] of strangers) {
    it(`hear nothing, and are dropped at a time that tells nothing: ${what}`, async () => {
      const test = await start();
      // Whole: cut right after the flight, the byte after it would come after the answer.
      test.network.setLink(VISITOR_HOST, EDGE_HOST, { pieceMaxBytes: Number.MAX_SAFE_INTEGER });
      const times = new Set<number>();
      // Drawn times may agree, six of them don't all.
      for (let i = 0; i < 6; i++) {
        const conn = await test.dial(VISITOR_HOST, SEALED_PORT);
        conn.write(bytes(test));
        times.add(await assertDroppedSilently(test, conn));
      }
      assert.ok(times.size > 1, "each time is drawn");
      const counted = await test.refusals("connection", "unknown_protocol") +
        await test.refusals("connection", "challenge_failed");
      assert.equal(counted, 6);
      await test.assertNothingLeft();
    });
  }

  it("that replay a session get nothing, the same second and an hour later", async () => {
    const test = await start();
    const seen: Bytes[] = [];
    const runtime = test.runtime(AGENT_HOST);
    const recording = {
      ...runtime,
      dial: async (options: Parameters<typeof runtime.dial>[0]) => {
        const conn = await runtime.dial(options);
        const write = conn.write.bind(conn);
        conn.write = (chunk: Bytes) => {
          seen.push(chunk.slice());
          return write(chunk);
        };
        return conn;
      },
    };
    const agent = await connect(test, {}, { runtime: recording, port: SEALED_PORT });
    assert.ok(seen.length >= 2);
    for (const laterMs of [0, 3_500_000, 3_600_000]) {
      await test.advance(laterMs);
      const conn = await test.dial(VISITOR_HOST, SEALED_PORT);
      for (const chunk of seen) conn.write(chunk);
      await assertDroppedSilently(test, conn);
    }
    void agent;
    await test.assertNothingLeft();
  });

  it("that alter the login hear nothing more than the answer", async () => {
    const test = await start();
    const handshake = firstFlight(test);
    const conn = await test.dial(VISITOR_HOST, SEALED_PORT);
    conn.write(handshake.first);
    await test.advance(20);
    const answer = bytesFrom(conn);
    const opened = handshake.push(answer)!;
    const cipher = { sodium, small: chacha, bulk: chacha, key: opened.keys.agent };
    const sealer = new RecordSealer(cipher, new RecordScratch(), systemRandom);
    const login = sealer.seal(loginOf(test.token(), {
      transport: "sealed",
      edgeKey: keys.publicKey,
      channel: opened.keys.channel,
    })).slice();
    conn.write(flipped(login, 30));
    await test.advance(SEALED_SILENCE_MIN_MS - 100);
    assert.equal(conn.ended, false);
    await test.advance(SEALED_SILENCE_MAX_MS);
    assert.equal(conn.byteLength, answer.length);
    assert.equal(conn.ended, true);
    assert.equal(await test.refusals("agent", "cipher_failed"), 1);
    await test.assertNothingLeft();
  });

  it("that stay silent after the answer are dropped in time", async () => {
    const test = await start();
    const conn = await test.dial(VISITOR_HOST, SEALED_PORT);
    conn.write(firstFlight(test).first);
    await test.advance(SEALED_ANSWER_DEADLINE_MS + 100);
    assert.equal(conn.ended, true);
    assert.equal(await test.refusals("agent", "deadline_exceeded"), 1);
    await test.assertNothingLeft();
  });

  it("can't listen for them without a key", async () => {
    await assert.rejects(TestEdge.start({ listen: [{ host: "0.0.0.0", port: 1, accepts: "sealed" }] }), {
      code: "config_invalid",
    });
  });
});

describe("dialSealed: the edge's pinned key", () => {
  it("as set, or as first heard of; another one is refused, and both are named", async () => {
    const test = await start();
    const runtime = test.runtime(AGENT_HOST);
    const other = makeKeyPair(sodium).publicKey;
    const edge = { host: EDGE_HOST, port: EDGE_PORT };
    const grant = (publicKey?: Bytes) => {
      const { token, claims } = test.token();
      const { hostname, aliases, aesKey, aesIv, cipher, protocolVersion, valid } = claims;
      const named = { ...edge, ...publicKey === undefined ? {} : { publicKey } };
      return { token, hostname, aliases, aesKey, aesIv, cipher, protocolVersion, valid, edge: named };
    };
    const dial = (dialer: TransportDialer, publicKey?: Bytes) => {
      const { signal } = new AbortController();
      const agent = new TestAgent(test.token());
      const admitted = (session: Session) => {
        agent.session = session;
        return agent;
      };
      return test.network.settle(dialer.dial({ grant: grant(publicKey), edge, signal, admitted }));
    };
    const fixed = new Dialers({ runtime, edgePublicKey: keys.publicKey }).of("sealed");
    assert.equal((await dial(fixed)).transport, "sealed");
    await assert.rejects(dial(fixed, other), {
      code: "edge_key_changed",
      side: "config",
      retryable: false,
      message: new RegExp(
        `gives ${keyText(other)} as .* given as ${keyText(keys.publicKey)} by --edge`,
      ),
    });
    const first = new Dialers({ runtime }).of("sealed");
    await assert.rejects(dial(first), { code: "config_invalid", message: /give it with --edge-public-key/ });
    assert.equal((await dial(first, keys.publicKey)).transport, "sealed");
    assert.equal((await dial(first)).transport, "sealed");
    await assert.rejects(dial(first, other), { code: "edge_key_changed", retryable: true });
    await test.assertNothingLeft();
  });
});
