import assert from "node:assert/strict";
import { transportsOf } from "../support/transports.ts";
import { randomBytes } from "node:crypto";
import { describe, it } from "node:test";
import { type CipherName, createOpener, createSealer } from "../../src/crypto/header_cipher.ts";
import { FernetRing, generateFernetKey } from "../../src/crypto/fernet.ts";
import type { AgentRequest } from "../../src/edge/agent_request.ts";
import { SallyportError } from "../../src/errors.ts";
import { AgentChallenge } from "../../src/protocol/handshake/snitun_challenge.ts";
import { bytesOf, pattern } from "../conformance/runtime_helpers.ts";
import { AGENT_HOST, assertAlert, assertSilentEnd, FERNET_KEY, TestEdge } from "../support/tunnel.ts";
import { fernetSeal } from "../support/tokens.ts";
import { TOKEN_RECHECK_MS } from "../../src/edge/edge.ts";
import { CHALLENGE_DEADLINE_MS } from "../../src/protocol/handshake/snitun_challenge.ts";
import { FRAME_MAX_SEND_BYTES } from "../../src/protocol/mux/queue_limits.ts";
import { TOKEN_DEADLINE_MS, TOKEN_QUIET_MS } from "../../src/protocol/token/token_reader.ts";
import { TOKEN_MAX_BYTES } from "../../src/wire/token/token_payload.ts";

const CIPHERS: readonly CipherName[] = ["aes-cbc", "aes-gcm", "aes-gcm-siv"];

/** A token with any JSON in it, genuine as far as Fernet goes. */
function tokenOf(members: Record<string, unknown>, json?: string): string {
  const payload = {
    valid: 4_000_000_000,
    hostname: "a.test",
    aes_key: randomBytes(32).toString("hex"),
    aes_iv: randomBytes(16).toString("hex"),
    ...members,
  };
  return fernetSeal(FERNET_KEY, json ?? JSON.stringify(payload));
}

describe("createEdge: an agent's token", () => {
  it("is taken in several segments, and with more than 2048 bytes", async () => {
    const test = await TestEdge.start({ network: { link: { pieceMaxBytes: 100 } } });
    const aliases = Array.from({ length: 100 }, (_, i) => `alias-number-${i}.example.test`);
    const created = test.token({ aliases });
    assert.ok(created.token.length > 2048);
    const agent = await test.connect(created);
    await test.visit("alias-number-99.example.test");
    assert.equal(agent.streams.length, 1);
    await test.assertNothingLeft();
  });

  it("is taken when its segments come seconds apart", async () => {
    const test = await TestEdge.start();
    const { token, claims } = test.token();
    const conn = await test.dial(AGENT_HOST);
    for (let i = 0; i < 4; i++) {
      conn.write(bytesOf(token.slice(i * 50, i === 3 ? undefined : (i + 1) * 50)));
      await test.advance(500);
    }
    // The challenge: 32 bytes, nonce and tag.
    assert.equal(conn.byteLength, 60);
    assert.equal(claims.cipher, "aes-gcm");
    await test.assertNothingLeft();
  });

  it("must be whole by an absolute deadline, however steadily it trickles", async () => {
    const test = await TestEdge.start();
    const { token } = test.token();
    const conn = await test.dial(AGENT_HOST);
    const startedMs = test.network.clock.nowMs();
    for (let i = 0; i < 20; i++) {
      conn.write(bytesOf(token.slice(i, i + 1)));
      await test.advance(TOKEN_DEADLINE_MS / 20 - 10);
    }
    assert.equal(conn.ended, false);
    await test.network.run(startedMs + TOKEN_DEADLINE_MS + 10);
    assertSilentEnd(conn);
    assert.equal(await test.refusals("agent", "deadline_exceeded"), 1);
    await test.assertNothingLeft();
  });

  it("made by no key of the ring is refused, at once or when nothing follows", async () => {
    const test = await TestEdge.start();
    const foreign = new FernetRing([generateFernetKey()]);
    for (const aliases of [["b.test"], ["bb.test"], ["b.b.b.test"], ["some-longer.name.test"]]) {
      const { token } = test.token({ aliases });
      const forged = foreign.seal(test.ring.open(token), { nowMs: test.network.clock.wallMs() });
      const conn = await test.dial(AGENT_HOST);
      conn.write(bytesOf(forged));
      await test.advance(TOKEN_QUIET_MS + 10);
      assertSilentEnd(conn);
    }
    assert.equal(await test.refusals("agent", "token_invalid"), 4);
    test.assertNoSecretLogged();
    await test.assertNothingLeft();
  });

  for (
    const [what, made, reason, message] of [
      ["expired", () => tokenOf({ valid: 1_000 }), "token_expired", /expired/],
      ["with valid: NaN", () => tokenOf({}, '{"valid": NaN}'), "token_invalid", /JSON/],
      ["valid for ever", () => tokenOf({}, '{"valid": 1e999}'), "token_invalid", /valid/],
      [
        "with a short key",
        () => tokenOf({ aes_key: "abcd" }),
        "token_invalid",
        /aes_key has 2 bytes, needs 32/,
      ],
      ["of version 3", () => tokenOf({ protocol_version: 3 }), "token_invalid", /protocol_version/],
      ["with an unknown cipher", () => tokenOf({ cipher: "rot13" }), "token_invalid", /cipher/],
      ["with a hostname that is none", () => tokenOf({ hostname: "a b\n" }), "token_invalid", /hostname/],
    ] as const
  ) {
    it(`${what} is refused, counted and logged`, async () => {
      const test = await TestEdge.start();
      const token = made();
      const conn = await test.dial(AGENT_HOST);
      conn.write(bytesOf(token));
      await test.advance(TOKEN_QUIET_MS + 10);
      assertSilentEnd(conn);
      assert.equal(await test.refusals("agent", reason), 1);
      const line = test.logged(reason);
      assert.equal(line.level, "warn");
      assert.equal(line.fields.agent, AGENT_HOST);
      assert.match(line.message, message);
      assert.ok(!JSON.stringify(test.lines).includes(token.slice(10, 60)));
      await test.assertNothingLeft();
    });
  }

  it("may not be longer than a limit, which is checked as bytes arrive", async () => {
    const test = await TestEdge.start();
    const conn = await test.dial(AGENT_HOST);
    conn.write(bytesOf("gA" + "A".repeat(TOKEN_MAX_BYTES)));
    await test.advance(100);
    assertSilentEnd(conn);
    assert.equal(await test.refusals("agent", "token_invalid"), 1);
    await test.assertNothingLeft();
  });

  it("may have nothing after it before the challenge", async () => {
    const test = await TestEdge.start({ authorize: () => new Promise(() => {}) });
    const { token } = test.token();
    const conn = await test.dial(AGENT_HOST);
    conn.write(bytesOf(token));
    await test.advance(50);
    conn.write(bytesOf("x"));
    await test.advance(50);
    assertSilentEnd(conn);
    assert.equal(await test.refusals("agent", "token_invalid"), 1);
    await test.assertNothingLeft();
  });

  it("of an older key of the ring is taken", async () => {
    const older = generateFernetKey();
    const test = await TestEdge.start({ ring: new FernetRing([FERNET_KEY, older]) });
    const { token, claims } = test.token();
    const sealed = new FernetRing([older]).seal(test.ring.open(token), {
      nowMs: test.network.clock.wallMs(),
    });
    await test.connect({ token: sealed, claims });
    assert.ok(test.edge.serves("a.test"));
    await test.assertNothingLeft();
  });
});

describe("createEdge: the challenge", () => {
  for (const cipher of CIPHERS) {
    it(`answered wrongly under ${cipher} is refused`, async () => {
      const test = await TestEdge.start();
      const created = test.token({ cipher });
      const conn = await test.dial(AGENT_HOST);
      conn.write(bytesOf(created.token));
      await test.advance(10);
      const { aesKey, aesIv } = created.claims;
      const sealer = createSealer(cipher, aesKey, aesIv, "agent");
      conn.write(sealer.seal(new Uint8Array(32), 32));
      await test.advance(10);
      assert.equal(conn.ended, true);
      assert.equal(await test.refusals("agent", "challenge_failed"), 1);
      assert.equal(test.logged("challenge_failed").fields.hostname, "a.test");
      assert.equal(test.edge.serves("a.test"), false);
      test.assertNoSecretLogged();
      await test.assertNothingLeft();
    });

    it(`answered without the key under ${cipher} is refused`, async () => {
      const test = await TestEdge.start();
      const created = test.token({ cipher });
      const conn = await test.dial(AGENT_HOST);
      conn.write(bytesOf(created.token));
      await test.advance(10);
      conn.write(new Uint8Array(randomBytes(conn.byteLength)));
      await test.advance(10);
      assert.equal(conn.ended, true);
      assert.equal(await test.refusals("agent", "challenge_failed"), 1);
      await test.assertNothingLeft();
    });
  }

  it("must be answered within 60 s", async () => {
    const test = await TestEdge.start();
    const { token } = test.token();
    const conn = await test.dial(AGENT_HOST);
    conn.write(bytesOf(token));
    await test.advance(CHALLENGE_DEADLINE_MS - 10);
    assert.equal(conn.ended, false);
    await test.advance(20);
    assert.equal(conn.ended, true);
    assert.equal(await test.refusals("agent", "deadline_exceeded"), 1);
    await test.assertNothingLeft();
  });

  it("answered late by a slow agent, in pieces and with frames right after it, opens a session", async () => {
    const test = await TestEdge.start();
    const { token, claims } = test.token({ cipher: "aes-gcm" });
    const conn = await test.dial(AGENT_HOST);
    conn.write(bytesOf(token));
    await test.advance(50_000);
    const sealer = createSealer("aes-gcm", claims.aesKey, claims.aesIv, "agent");
    const machine = new AgentChallenge(sealer, createOpener("aes-gcm", claims.aesKey, claims.aesIv, "edge"));
    const { answer } = machine.push(conn.chunks[0]!)!;
    conn.write(answer.slice(0, 7));
    await test.advance(500);
    // A ping, sealed by hand: channel id, flag 8, size 0, "ping".
    const ping = new Uint8Array(32);
    ping[16] = 8;
    ping.set(bytesOf("ping"), 21);
    const sealed = sealer.seal(ping, 32);
    const rest = new Uint8Array(answer.length - 7 + sealed.length);
    rest.set(answer.subarray(7));
    rest.set(sealed, answer.length - 7);
    conn.write(rest);
    await test.advance(10);
    assert.ok(test.edge.serves("a.test"));
    assert.equal(conn.byteLength, 60 + 60, "the ping is answered");
    await test.assertNothingLeft();
  });
});

describe("createEdge: sessions", () => {
  for (const protocolVersion of [0, 1, 2] as const) {
    for (const cipher of CIPHERS) {
      it(`of version ${protocolVersion} with ${cipher} are counted under their labels`, async () => {
        const test = await TestEdge.start();
        const labels = { protocol_version: String(protocolVersion), cipher, transport: "snitun" };
        const agent = await test.connect({ protocolVersion, cipher });
        assert.equal(await test.metric("sessions", labels), 1);
        assert.equal(await test.metric("handshakes_total", labels), 1);
        assert.equal(test.edge.sessions, 1);
        agent.session.close(
          new SallyportError("closed", "Cannot keep session: the test is over", { side: "local" }),
        );
        await test.advance(10);
        assert.equal(await test.metric("sessions", labels), 0);
        assert.equal(await test.metric("session_ends_total", { reason: "connection_lost" }), 1);
        assert.equal(test.edge.serves("a.test"), false);
        test.assertNoSecretLogged();
        await test.assertNothingLeft();
      });
    }
  }

  it("tell the agent an IPv6 caller's address from version 2 on, and 0.0.0.0 before", async () => {
    for (const [protocolVersion, seen] of [[0, "0.0.0.0"], [1, "0.0.0.0"], [2, "2001:db8::7"]] as const) {
      const test = await TestEdge.start();
      const agent = await test.connect({ protocolVersion });
      await test.visit("a.test", { from: "2001:db8::7" });
      assert.equal(agent.streams[0]?.stream.caller.address, seen);
      await test.assertNothingLeft();
    }
  });

  it("end when their token has expired, within seconds", async () => {
    const test = await TestEdge.start();
    const agent = await test.connect({ ttlSeconds: 600 });
    const { conn } = await test.visit();
    await test.advance(595_000);
    assert.ok(test.edge.serves("a.test"));
    await test.advance(5_000 + TOKEN_RECHECK_MS);
    assert.equal(agent.endedWith?.code, "connection_lost");
    assert.equal(test.edge.serves("a.test"), false);
    assertAlert(conn, 80);
    assert.equal(await test.metric("session_ends_total", { reason: "token_expired" }), 1);
    assert.match(test.logged("token_expired").message, /token has expired/);
    await test.assertNothingLeft();
  });

  it("may have at most `throttling` large frames a second", { timeout: 60_000 }, async () => {
    const arrivedWithin = async (throttling: number | undefined, ms: number) => {
      const test = await TestEdge.start({ transports: transportsOf({ snitun: { throttling } }) });
      const agent = await test.connect();
      const { conn } = await test.visit();
      const bytes = pattern(8 * 1024 * 1024);
      agent.streams[0]!.write(bytes);
      await test.advance(ms);
      const { byteLength } = conn;
      await test.advance(60_000);
      assert.equal(conn.byteLength, bytes.length, "nothing is lost");
      await test.assertNothingLeft();
      return byteLength;
    };
    assert.equal(await arrivedWithin(undefined, 2_000), 8 * 1024 * 1024);
    // A second's worth at once and two seconds' more; a frame may still be under way.
    const frames = (await arrivedWithin(10, 2_000)) / FRAME_MAX_SEND_BYTES;
    assert.ok(frames >= 10 && frames <= 32, `${frames} frames in 2 s`);
  });
});

describe("createEdge: the operator's authorize hook", () => {
  it("sees what the token says, the operator's own members too, and lets in what it doesn't refuse", async () => {
    const seen: AgentRequest[] = [];
    const test = await TestEdge.start({ authorize: (agent) => void seen.push(agent) });
    const token = tokenOf({ alias: ["B.test"], tenant: "t-1", cipher: "aes-gcm", protocol_version: 1 });
    const conn = await test.dial(AGENT_HOST);
    conn.write(bytesOf(token));
    await test.advance(10);
    assert.equal(conn.byteLength, 60);
    assert.equal(seen.length, 1);
    const { remote, ...rest } = seen[0]!;
    assert.equal(remote.host, AGENT_HOST);
    assert.deepEqual(rest, {
      hostname: "a.test",
      aliases: ["b.test"],
      protocolVersion: 1,
      cipher: "aes-gcm",
      valid: 4_000_000_000,
      extra: { tenant: "t-1" },
      transport: "snitun",
    });
    await test.assertNothingLeft();
  });

  const denial = new SallyportError("unauthorized", "Cannot let agent in: the account is closed", {
    side: "peer",
  });
  for (
    const [how, authorize] of [
      ["throws", () => {
        throw denial;
      }],
      ["rejects", () => Promise.reject(denial)],
      ["gives a thenable of its own that rejects", () =>
        ({
          then: (_: unknown, reject: (error: unknown) => void) => reject(denial),
        }) as unknown as Promise<void>],
    ] as const
  ) {
    it(`refuses where it ${how}`, async () => {
      const test = await TestEdge.start({ authorize });
      await assert.rejects(test.connect(), { code: "session_refused" });
      assert.equal(await test.refusals("agent", "unauthorized"), 1);
      assert.equal(test.logged("unauthorized").message, denial.message);
      assert.equal(test.edge.serves("a.test"), false);
      await test.assertNothingLeft();
    });
  }

  it("refuses the agent with internal, not with a code of the agent's, where it throws anything else", async () => {
    const test = await TestEdge.start({ authorize: () => Promise.reject("no") });
    await assert.rejects(test.connect(), { code: "session_refused" });
    assert.equal(await test.refusals("agent", "internal"), 1);
    await test.assertNothingLeft();
  });

  it("may take its time, and may return what isn't a promise", async () => {
    let allow = () => {};
    const slow = await TestEdge.start({ authorize: () => new Promise<void>((resolve) => allow = resolve) });
    const conn = await slow.dial(AGENT_HOST);
    conn.write(bytesOf(slow.token().token));
    await slow.advance(30_000);
    assert.equal(conn.byteLength, 0);
    allow();
    await slow.advance(10);
    assert.equal(conn.byteLength, 60);
    await slow.assertNothingLeft();

    const names: string[] = [];
    const odd = await TestEdge.start({ authorize: (agent) => names.push(agent.hostname) as unknown as void });
    await odd.connect();
    assert.deepEqual(names, ["a.test"]);
    await odd.assertNothingLeft();
  });

  for (const outcome of ["allow", "refuse", "never"] as const) {
    it(`is of no consequence when the agent has left before it says: ${outcome}`, async () => {
      let settle = () => {};
      const test = await TestEdge.start({
        authorize: () =>
          new Promise<void>((resolve, reject) => {
            if (outcome === "allow") settle = resolve;
            if (outcome === "refuse") settle = () => reject(denial);
          }),
      });
      const conn = await test.dial(AGENT_HOST);
      conn.write(bytesOf(test.token().token));
      await test.advance(10);
      conn.abort();
      await test.advance(10);
      settle();
      await test.advance(10);
      assert.equal(await test.refusals("agent", "connection_lost"), 1);
      assert.equal(await test.refusals("agent", "unauthorized"), 0);
      assert.equal(test.edge.serves("a.test"), false);
      await test.assertNothingLeft();
    });
  }

  it("that never answers costs the agent its deadline, and the edge nothing more", async () => {
    const test = await TestEdge.start({ authorize: () => new Promise(() => {}) });
    const conn = await test.dial(AGENT_HOST);
    conn.write(bytesOf(test.token().token));
    await test.advance(CHALLENGE_DEADLINE_MS + 100);
    assertSilentEnd(conn);
    assert.equal(await test.refusals("agent", "deadline_exceeded"), 1);
    await test.assertNothingLeft();
  });
});
