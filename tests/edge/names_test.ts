import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { AlertDescription } from "../../src/wire/tls/tls_alert.ts";
import { describe, it } from "node:test";
import { Routes } from "../../src/edge/routes.ts";
import { UsedKeys } from "../../src/edge/used_keys.ts";
import { pattern } from "../conformance/runtime_helpers.ts";
import { assertAlert, bytesFrom, TestEdge } from "../support/tunnel.ts";
import { REPLACED_GRACE_MS } from "../../src/edge/agents.ts";
import { TAKEOVERS_PER_MINUTE_MAX } from "../../src/edge/routes.ts";
import { USED_KEYS_MAX } from "../../src/edge/used_keys.ts";

describe("edge: who owns a name", () => {
  it("an alias that is another agent's hostname stays there; the session serves its other names", async () => {
    const test = await TestEdge.start();
    const owner = await test.connect({ hostname: "owner.test" });
    const thief = await test.connect({ hostname: "thief.test", aliases: ["owner.test", "fine.test"] });
    await test.visit("owner.test");
    await test.visit("thief.test");
    await test.visit("fine.test");
    assert.equal(owner.streams.length, 1);
    assert.equal(thief.streams.length, 2);
    assert.equal(await test.refusals("agent", "name_taken"), 1);
    assert.equal(test.logged("name_taken").fields.alias, "owner.test");
    // When the session that was denied leaves, the name stays with its owner.
    test.network.reset("10.0.0.1", "10.0.0.2");
    await test.advance(10);
    await test.assertNothingLeft();
  });

  it("the denied session's end takes nothing from the owner", async () => {
    const test = await TestEdge.start();
    await test.connect({ hostname: "owner.test" });
    const thief = await test.connect({ hostname: "thief.test", aliases: ["owner.test"] }, {
      from: "10.0.0.3",
    });
    assert.equal(thief.endedWith, undefined);
    test.network.reset("10.0.0.1", "10.0.0.3");
    await test.advance(10);
    assert.equal(test.edge.serves("thief.test"), false);
    assert.equal(test.edge.serves("owner.test"), true);
    await test.assertNothingLeft();
  });

  it("an alias of one agent isn't another's hostname: it is refused until the first has left", async () => {
    const test = await TestEdge.start();
    await test.connect({ hostname: "a.test", aliases: ["b.test"] }, { from: "10.0.0.3" });
    await assert.rejects(test.connect({ hostname: "b.test" }), { code: "session_refused" });
    assert.equal(await test.refusals("agent", "name_taken"), 1);
    assert.match(test.logged("name_taken").message, /b\.test: the name is an alias of a\.test/);
    test.network.reset("10.0.0.1", "10.0.0.3");
    await test.advance(10);
    await test.connect({ hostname: "b.test" });
    assert.ok(test.edge.serves("b.test"));
    await test.assertNothingLeft();
  });
});

describe("edge: a newer session of the same owner", () => {
  it("takes over; the older one ends at once where it has no streams", async () => {
    const test = await TestEdge.start();
    const older = await test.connect();
    const newer = await test.connect();
    assert.equal(older.endedWith?.code, "connection_lost");
    assert.equal(await test.metric("session_ends_total", { reason: "replaced" }), 1);
    await test.visit();
    assert.equal(newer.streams.length, 1);
    assert.equal(test.edge.sessions, 1);
    await test.assertNothingLeft();
  });

  it("lets the older one's streams finish, then the older one ends", async () => {
    const test = await TestEdge.start();
    const older = await test.connect();
    const { conn } = await test.visit();
    const newer = await test.connect();
    assert.ok(older.endedWith === undefined);
    older.streams[0]!.write(pattern(10_000));
    await test.advance(REPLACED_GRACE_MS - 1_000);
    assert.deepEqual(bytesFrom(conn), pattern(10_000));
    await test.visit();
    assert.equal(newer.streams.length, 1, "new visitors go to the newer session");
    older.streams[0]!.closeWrite();
    await test.advance(20);
    assert.equal(test.edge.sessions, 1);
    assert.equal(conn.ended, true);
    assert.ok(test.edge.serves("a.test"), "the stale session's end doesn't remove its successor");
    await test.visit();
    assert.equal(newer.streams.length, 2);
    await test.assertNothingLeft();
  });

  it("ends streams of the older one that go on beyond the grace", async () => {
    const test = await TestEdge.start();
    const older = await test.connect();
    const { conn } = await test.visit();
    await test.connect();
    await test.advance(REPLACED_GRACE_MS - 100);
    assert.equal(conn.closes, 0);
    await test.advance(200);
    assertAlert(conn, AlertDescription.internal_error);
    assert.equal(older.endedWith?.code, "connection_lost");
    assert.equal(test.edge.sessions, 1);
    await test.assertNothingLeft();
  });

  it("drops aliases that it doesn't have any more, and frees them for others", async () => {
    const test = await TestEdge.start();
    await test.connect({ aliases: ["old.test", "both.test"] });
    await test.connect({ aliases: ["both.test", "new.test"] });
    assert.equal(test.edge.serves("old.test"), false);
    assert.equal(test.edge.serves("both.test"), true);
    assert.equal(test.edge.serves("new.test"), true);
    await test.connect({ hostname: "old.test" });
    await test.assertNothingLeft();
  });

  it("is refused when the name flaps, and let in again when it has calmed", async () => {
    const test = await TestEdge.start();
    for (let i = 0; i <= TAKEOVERS_PER_MINUTE_MAX; i++) await test.connect();
    await assert.rejects(test.connect(), { code: "session_refused" });
    assert.equal(await test.refusals("agent", "name_flapping"), 1);
    assert.match(test.logged("name_flapping").message, /a\.test/);
    assert.ok(test.edge.serves("a.test"), "who came last goes on");
    await test.connect({ hostname: "calm.test" });
    await test.advance(61_000);
    await test.connect();
    assert.equal(await test.refusals("agent", "name_flapping"), 1);
    await test.assertNothingLeft();
  });

  it("whose challenge overlaps another's is judged when it is let in", async () => {
    const test = await TestEdge.start();
    const [one, two] = await Promise.all([test.connect(), test.connect()]);
    await test.advance(10);
    assert.equal(test.edge.sessions, 1);
    assert.equal([one, two].filter((agent) => agent.endedWith === undefined).length, 1);
    await test.assertNothingLeft();
  });
});

describe("edge: key material", () => {
  it("opens one session under aes-gcm; a second is refused, even while the first is in its challenge", async () => {
    const test = await TestEdge.start();
    const token = test.token({ cipher: "aes-gcm" });
    const first = await test.dial("10.0.0.2");
    first.write(new TextEncoder().encode(token.token));
    await test.advance(10);
    await assert.rejects(test.connect(token), { code: "session_refused" });
    assert.equal(await test.refusals("agent", "key_reused"), 1);
    assert.equal(test.logged("key_reused").fields.hostname, "a.test");
    // Another token with the same key.
    const again = test.token({ cipher: "aes-gcm", aesKey: token.claims.aesKey });
    await assert.rejects(test.connect(again), { code: "session_refused" });
    assert.equal(await test.refusals("agent", "key_reused"), 2);
    test.assertNoSecretLogged();
    await test.assertNothingLeft();
  });

  for (const cipher of ["aes-cbc", "aes-gcm-siv"] as const) {
    it(`may be used again under ${cipher}`, async () => {
      const test = await TestEdge.start();
      const token = test.token({ cipher });
      await test.connect(token);
      const again = await test.connect(token);
      await test.visit();
      assert.equal(again.streams.length, 1);
      await test.assertNothingLeft();
    });
  }

  it("is remembered until its token expires, and in bounded memory", () => {
    const keys = new UsedKeys();
    const first = new Uint8Array(randomBytes(32));
    keys.use(first, 100);
    keys.sweep(100);
    assert.throws(() => keys.use(first, 100), { code: "key_reused" });
    keys.sweep(101);
    keys.use(first, 200);
    const key = new Uint8Array(32);
    for (let i = 0; i < USED_KEYS_MAX; i++) {
      new DataView(key.buffer).setUint32(0, i);
      keys.use(key, 200);
    }
    // The oldest had to go, the rest is remembered.
    keys.use(first, 200);
    assert.throws(() => keys.use(key, 200), { code: "key_reused" });
  });
});

describe("routes", () => {
  it("are given up by their holder alone, once", () => {
    const routes = new Routes<string>();
    routes.claim("a", ["b"], "one", 0);
    assert.equal(routes.claim("a", ["b"], "two", 0).replaced, "one");
    routes.release("one");
    assert.equal(routes.find("a"), "two");
    assert.equal(routes.find("b"), "two");
    routes.release("two");
    routes.release("two");
    assert.equal(routes.size, 0);
  });

  it("a denied alias leaves with its owner only", () => {
    const routes = new Routes<string>();
    routes.claim("a", [], "one", 0);
    assert.deepEqual(routes.claim("b", ["a", "c"], "two", 0).denied, ["a"]);
    routes.release("two");
    assert.equal(routes.find("a"), "one");
    assert.equal(routes.find("c"), undefined);
  });

  it("a claim that throws changes nothing", () => {
    const routes = new Routes<string>();
    routes.claim("a", ["b"], "one", 0);
    assert.throws(() => routes.claim("b", ["d"], "two", 0), { code: "name_taken" });
    assert.equal(routes.find("d"), undefined);
    assert.equal(routes.size, 2);
  });

  it("count take-overs within a minute, and forget them", () => {
    const routes = new Routes<number>();
    for (let i = 0; i <= TAKEOVERS_PER_MINUTE_MAX; i++) routes.claim("a", [], i, i * 1000);
    assert.throws(() => routes.check("a", 60_999), { code: "name_flapping" });
    routes.check("a", 61_000);
    routes.sweep(200_000);
    for (let i = 0; i < TAKEOVERS_PER_MINUTE_MAX; i++) routes.claim("a", [], 100 + i, 200_000);
    assert.throws(() => routes.claim("a", [], 999, 200_000), { code: "name_flapping" });
  });
});
