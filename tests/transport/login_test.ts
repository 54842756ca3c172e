/** Who may open a session, over real sockets: a token alone, a login that was heard before, or a used key may not. */
import assert from "node:assert/strict";
import { createAgent } from "../../src/agent/agent.ts";
import { type LogLine, recordingLogger } from "../support/tunnel.ts";
import { transportsOf } from "../support/transports.ts";
import { randomBytes } from "node:crypto";
import { after, before, describe, it } from "node:test";
import type { Grant } from "../../src/transport/grant.ts";
import { Dialers } from "../../src/agent/dialer.ts";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { FernetRing, generateFernetKey } from "../../src/crypto/fernet.ts";
import { createEdge, type Edge } from "../../src/edge/edge.ts";
import { loadSodium, makeKeyPair } from "../../src/crypto/sodium.ts";
import { loginProof } from "../../src/protocol/handshake/login_proof.ts";
import { createToken, type TokenRequest } from "../../src/protocol/token/token.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Address, Runtime } from "../../src/runtime/port.ts";
import type { Session } from "../../src/transport/port.ts";
import { identities } from "../conformance/quic_helpers.ts";
import { Ear } from "../conformance/transport_helpers.ts";
import { Watched } from "../conformance/runtime_helpers.ts";
import { type RawLogin, rawLogins } from "../support/raw_login.ts";
import { parsePrometheus, sampleValue } from "../telemetry/prometheus.ts";

type Name = "snitun" | "sealed" | "curve" | "quic";
const OWN = ["sealed", "curve", "quic"] as const;
const HOST = "127.0.0.1";

/** An edge with every transport. */
class Site {
  edge!: Edge;
  readonly secret: Bytes = new Uint8Array(randomBytes(32));
  publicKey!: Bytes;
  fingerprint!: Bytes;
  readonly addresses = {} as Record<Name, Address>;

  async start(runtime: Runtime, ring: FernetRing): Promise<this> {
    const sodium = await loadSodium();
    const keys = makeKeyPair(sodium, (into) => into.set(this.secret));
    const { own, fingerprint } = await identities();
    this.publicKey = keys.publicKey;
    this.fingerprint = fingerprint;
    this.edge = createEdge({
      runtime,
      ring,
      transports: transportsOf({ sealed: { sodium, keys }, curve: { crypto: sodium, keys }, quic: own }),
    });
    const tcp = await this.edge.listen({ host: HOST, port: 0 });
    const curve = await this.edge.listen({ host: HOST, port: 0, accepts: "curve" });
    const quic = await this.edge.listen({ host: HOST, port: 0, accepts: "quic" });
    Object.assign(this.addresses, {
      snitun: tcp.address,
      sealed: tcp.address,
      curve: curve.address,
      quic: quic.address,
    });
    return this;
  }

  edgeKey(name: Name): Bytes {
    return name === "quic" ? this.fingerprint : this.publicKey;
  }

  async refusals(reason: string): Promise<number> {
    const samples = parsePrometheus(await this.edge.metrics.render());
    return sampleValue(samples, "sallyport_refusals_total", { what: "agent", reason });
  }
}

describe("loginProof: a login over real sockets", () => {
  const ring = new FernetRing([generateFernetKey()]);
  const sessions: Session[] = [];
  let runtime: Runtime;
  let site: Site;
  let other: Site;

  before(async () => {
    runtime = await currentRuntime();
    site = await new Site().start(runtime, ring);
    other = await new Site().start(runtime, ring);
  });
  after(async () => {
    await Promise.all([site.edge.close(0), other.edge.close(0)]);
  });

  function grantOf(request: Partial<TokenRequest> = {}, at = site): Grant {
    const { token, claims } = createToken(ring, {
      hostname: "a.test",
      ttlSeconds: 600,
      nowMs: runtime.clock.wallMs(),
      ...request,
    } as TokenRequest);
    const { hostname, aliases, aesKey, aesIv, cipher, protocolVersion, valid } = claims;
    const edge = {
      host: HOST,
      port: at.addresses.snitun.port,
      curvePort: at.addresses.curve.port,
      quicPort: at.addresses.quic.port,
      publicKey: at.publicKey,
      certificateFingerprint: at.fingerprint,
    };
    return { token, hostname, aliases, aesKey, aesIv, cipher, protocolVersion, valid, edge };
  }

  /** As our agent does. */
  async function dial(name: Name, grant: Grant): Promise<{ session: Session; ear: Ear }> {
    const dialer = new Dialers({ runtime }).of(name);
    const ear = new Ear();
    const session = await dialer.dial({
      grant,
      edge: dialer.edgeOf(grant),
      signal: new AbortController().signal,
      admitted: () => ear,
    });
    sessions.push(session);
    return { session, ear };
  }

  /** What somebody who heard the token go by has: everything but the key. */
  const copied = (grant: Grant): Grant => ({ ...grant, aesKey: new Uint8Array(randomBytes(32)) });

  const raw = (name: "sealed" | "curve" | "quic", grant: Grant, prove: RawLogin["prove"], at = site) =>
    rawLogins[name]({
      runtime,
      edge: at.addresses[name],
      edgeKey: at.edgeKey(name),
      token: grant.token,
      prove,
    });

  for (const name of OWN) {
    it(`by ${name}: a token without its key is refused, whoever else is there`, async () => {
      const before = await site.refusals("challenge_failed");
      const grant = grantOf({ hostname: `${name}.test` });
      await assert.rejects(dial(name, copied(grant)), { code: "challenge_failed" });
      const { ear } = await dial(name, grant);
      await assert.rejects(dial(name, copied(grant)), { code: "challenge_failed" });
      assert.equal(await site.refusals("challenge_failed"), before + 2);
      assert.equal(ear.endedWith, undefined);
    });

    it(`by ${name}: a proof that was heard before is refused, though it was good once`, async () => {
      const grant = grantOf({ hostname: `replayed-${name}.test` });
      const token = new TextEncoder().encode(grant.token);
      let heard: Bytes | undefined;
      const edgeKey = site.edgeKey(name);
      const good = await raw(name, grant, (channel) => {
        return heard = loginProof(grant.aesKey, token, { transport: name, edgeKey, channel });
      });
      assert.equal(good, undefined);
      assert.equal(await raw(name, grant, () => heard!), "challenge_failed");
    });

    it(`by ${name}: a proof for another edge or another transport is refused`, async () => {
      const grant = grantOf({ hostname: `relayed-${name}.test` });
      const token = new TextEncoder().encode(grant.token);
      // What an agent shows to another edge, which passes it on, even if it could choose the channel.
      const relayed = (channel: Bytes) =>
        loginProof(grant.aesKey, token, { transport: name, edgeKey: other.publicKey, channel });
      assert.equal(await raw(name, grant, relayed), "challenge_failed");
      const crossed = OWN[(OWN.indexOf(name) + 1) % OWN.length]!;
      const elsewhere = (channel: Bytes) =>
        loginProof(grant.aesKey, token, { transport: crossed, edgeKey: site.edgeKey(name), channel });
      assert.equal(await raw(name, grant, elsewhere), "challenge_failed");
      const forOtherToken = (channel: Bytes) =>
        loginProof(grant.aesKey, new Uint8Array(5), {
          transport: name,
          edgeKey: site.edgeKey(name),
          channel,
        });
      assert.equal(await raw(name, grant, forOtherToken), "challenge_failed");
    });

    it(`by ${name}: a key opens one session, and none by another transport then`, async () => {
      const grant = grantOf({ hostname: `once-${name}.test` });
      await dial(name, grant);
      for (const next of OWN) await assert.rejects(dial(next, grant), { code: "key_reused" });
      // SniTun's edge refuses by closing.
      await assert.rejects(dial("snitun", grant), { code: "session_refused" });
      assert.ok(await site.refusals("key_reused") >= 4);
    });

    it(`by ${name}: a token that is bound to other transports is refused`, async () => {
      const rest = OWN.filter((one) => one !== name);
      const bound = grantOf({ hostname: `bound-${name}.test`, extra: { transports: rest } });
      await assert.rejects(dial(name, bound), { code: "access_denied" });
      await dial(rest[0]!, bound);
    });
  }

  it("by snitun: a token of before the edge's start is refused under aes-gcm, and the agent asks for a fresh one", async () => {
    const nowMs = runtime.clock.wallMs();
    const stale = grantOf({ hostname: "stale.test", cipher: "aes-gcm", nowMs: nowMs - 60_000 });
    const before = await site.refusals("token_stale");
    await assert.rejects(dial("snitun", stale), { code: "session_refused" });
    // aes-cbc repeats no nonce, and the reference's agents come back with the token that they have.
    await dial("snitun", grantOf({ hostname: "old.test", cipher: "aes-cbc", nowMs: nowMs - 60_000 }));
    assert.equal(await site.refusals("token_stale"), before + 1);
    const fresh = grantOf({ hostname: "stale.test", cipher: "aes-gcm" });
    const grants = [grantOf({ hostname: "stale.test", cipher: "aes-gcm", nowMs: nowMs - 60_000 }), fresh];
    const lines: LogLine[] = [];
    const connected = Promise.withResolvers<void>();
    const agent = createAgent({
      runtime,
      grants: () => Promise.resolve(grants.shift()!),
      connector: (stream) => stream.abort(),
      log: recordingLogger(lines),
      connected: () => connected.resolve(),
    });
    const running = agent.run();
    await connected.promise;
    assert.equal(await site.refusals("token_stale"), before + 2);
    assert.ok(lines.every(({ fields }) => fields.next_attempt_seconds === undefined), "it waited");
    await agent.close(0);
    await running;
  });

  it("by snitun: a token that one edge has challenged gets no second challenge, at a restart or at another edge", async () => {
    const noted = new Set<string>();
    const keyUses = { first: (key: string) => Promise.resolve(!noted.has(key) && noted.add(key).size > 0) };
    const start = () => createEdge({ runtime, ring, keyUses });
    const [one, another, anew] = [start(), start(), start()];
    const { token } = grantOf({ hostname: "watched.test", cipher: "aes-gcm" });
    const answers: number[] = [];
    for (const edge of [one, one, another, anew]) {
      const listener = await edge.listen({ host: HOST, port: 0 });
      const conn = new Watched(await runtime.dial({ ...listener.address, timeoutMs: 5_000 }));
      conn.write(new TextEncoder().encode(token));
      await (answers.length === 0 ? conn.received(1) : conn.sawEnd);
      answers.push(conn.byteLength);
      conn.abort();
    }
    for (const edge of [one, another, anew]) await edge.close(0);
    assert.ok(answers[0]! > 32);
    assert.deepEqual(answers.slice(1), [0, 0, 0]);
  });

  it("writes nothing to the edge that isn't a token", async () => {
    for (
      const token of ["GET / HTTP/1.1\r\n\r\n", "", "g", "gAAAAA", "A".repeat(120), `${"g".repeat(20_000)}`]
    ) {
      for (const name of ["snitun", ...OWN] as const) {
        await assert.rejects(dial(name, { ...grantOf(), token }), { code: "token_invalid" });
      }
    }
  });

  it("by snitun: a token bound to another transport, and one without its key, are refused", async () => {
    const before = [await site.refusals("access_denied"), await site.refusals("challenge_failed")];
    const bound = grantOf({ hostname: "bound.test", extra: { transports: ["sealed"] } });
    await assert.rejects(dial("snitun", bound), { code: "session_refused" });
    await assert.rejects(dial("snitun", copied(grantOf({ hostname: "copied.test" }))));
    assert.deepEqual([await site.refusals("access_denied"), await site.refusals("challenge_failed")], [
      before[0]! + 1,
      before[1]!,
    ]);
  });

  it("never locks the owner out: 40 attempts with a copied token, and a fresh token takes over", {
    timeout: 60_000,
  }, async () => {
    const stolen = grantOf({ hostname: "home.test", cipher: "aes-cbc" });
    const { session, ear } = await dial("snitun", stolen);
    for (let i = 0; i < 40; i += 4) {
      const names = [0, 1, 2, 3].map((more) => OWN[(i + more) % OWN.length]!);
      await Promise.all(
        names.map((name) => assert.rejects(dial(name, copied(stolen)), { code: "challenge_failed" })),
      );
    }
    assert.equal(ear.endedWith, undefined);
    assert.ok(site.edge.serves("home.test"));
    // The owner comes back as often as it likes, each time with a token of its master's.
    let last = session;
    for (let i = 0; i < 10; i++) {
      const nowMs = runtime.clock.wallMs() + 1_000 * (i + 1);
      last = (await dial(OWN[i % OWN.length]!, grantOf({ hostname: "home.test", nowMs }))).session;
    }
    assert.equal(last.streams, 0);
    assert.ok(site.edge.serves("home.test"));
    assert.equal(await site.refusals("name_flapping"), 0);
  });
});
