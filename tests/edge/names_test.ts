import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { AlertDescription } from "../../src/wire/tls/tls_alert.ts";
import { describe, it } from "node:test";
import { Routes } from "../../src/edge/routes.ts";
import type { Bytes } from "../../src/bytes/bytes.ts";
import { SallyportError } from "../../src/errors.ts";
import { type KeyUse, type KeyUseStore, UsedKeys } from "../../src/edge/used_keys.ts";
import { pattern } from "../conformance/runtime_helpers.ts";
import { assertAlert, bytesFrom, TestEdge } from "../support/tunnel.ts";
import { REPLACED_GRACE_MS } from "../../src/edge/agents.ts";
import { TAKEOVERS_PER_MINUTE_MAX } from "../../src/edge/routes.ts";
import { USED_KEYS_MAX } from "../../src/edge/used_keys.ts";

describe("createEdge: the owner of a name", () => {
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

describe("createEdge: wildcard names", () => {
  it("cover one label, and an exact name comes before them", async () => {
    const test = await TestEdge.start();
    const wild = await test.connect({ hostname: "home.test", aliases: ["*.home.test", "*.deep.home.test"] });
    const exact = await test.connect({ hostname: "nas.home.test" }, { from: "10.0.0.3" });
    for (const name of ["a.home.test", "b.home.test", "x.deep.home.test", "deep.home.test"]) {
      const before = wild.streams.length;
      await test.visit(name);
      assert.equal(wild.streams.length, before + 1, name);
    }
    await test.visit("nas.home.test");
    assert.equal(exact.streams.length, 1);
    for (const name of ["x.y.home.test", "other.test"]) {
      const { conn } = await test.visit(name);
      assertAlert(conn, 112);
    }
    assert.equal(test.edge.serves("c.home.test"), true);
    // The exact name's agent has left: its visitors get the wildcard's.
    test.network.reset("10.0.0.1", "10.0.0.3");
    await test.advance(10);
    const before = wild.streams.length;
    await test.visit("nas.home.test");
    assert.equal(wild.streams.length, before + 1);
  });
});

describe("createEdge: agents that share their names", () => {
  const shared = (instance: string) => ({ extra: { shared: instance } });

  it("get visitors in turn, and those that are left get all of them", async () => {
    const test = await TestEdge.start();
    const agents = [];
    for (const [i, instance] of ["agent-one", "agent-two", "agent-three"].entries()) {
      const token = { hostname: "a.test", aliases: ["*.a.test"], ...shared(instance) };
      agents.push(await test.connect(token, { from: `10.0.0.${3 + i}` }));
    }
    for (let i = 0; i < 6; i++) await test.visit(i % 2 === 0 ? "a.test" : "x.a.test");
    assert.deepEqual(agents.map(({ streams, endedWith }) => [streams.length, endedWith]), [
      [2, undefined],
      [2, undefined],
      [2, undefined],
    ]);
    test.network.reset("10.0.0.1", "10.0.0.4");
    await test.advance(10);
    for (let i = 0; i < 4; i++) await test.visit("a.test");
    assert.deepEqual(agents.map(({ streams }) => streams.length), [4, 2, 4]);
    assert.equal(await test.metric("sessions"), 2);
  });

  it("are replaced by their own newer session alone, and by one that doesn't share", async () => {
    const test = await TestEdge.start();
    const one = await test.connect({ hostname: "a.test", ...shared("agent-one") });
    const two = await test.connect({ hostname: "a.test", ...shared("agent-two") }, { from: "10.0.0.3" });
    await test.connect({ hostname: "a.test", ...shared("agent-one") });
    await test.advance(10);
    assert.deepEqual([one, two].map(({ endedWith }) => endedWith !== undefined), [true, false]);
    const alone = await test.connect({ hostname: "a.test" }, { from: "10.0.0.4" });
    await test.advance(10);
    assert.ok(two.endedWith !== undefined);
    await test.visit("a.test");
    assert.equal(alone.streams.length, 1);
  });
});

describe("createEdge: a newer session of the same owner", () => {
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

describe("UsedKeys: key material", () => {
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

  const use = (aesKey: Bytes, more: Partial<KeyUse> = {}): KeyUse => ({
    aesKey,
    validUntilS: 200,
    madeAtS: 50,
    repeatable: false,
    noncesRepeat: false,
    ...more,
  });

  it("is remembered until its token expires, and in bounded memory", () => {
    const keys = new UsedKeys(() => 0);
    const first = new Uint8Array(randomBytes(32));
    void keys.use(use(first, { validUntilS: 100 }));
    keys.sweep(100);
    assert.throws(() => keys.use(use(first)), { code: "key_reused" });
    keys.sweep(101);
    void keys.use(use(first, { madeAtS: 60 }));
    const key = new Uint8Array(32);
    for (let i = 0; i < USED_KEYS_MAX; i++) {
      new DataView(key.buffer).setUint32(0, i);
      void keys.use(use(key));
    }
    // The oldest had to go: under aes-gcm a token as old as that is refused, the rest is remembered.
    assert.throws(() => keys.use(use(first, { madeAtS: 60, noncesRepeat: true })), { code: "token_stale" });
    assert.throws(() => keys.use(use(key)), { code: "key_reused" });
    void keys.use(use(new Uint8Array(randomBytes(32)), { madeAtS: 61, noncesRepeat: true }));
  });

  it("of before the start is refused under aes-gcm, and asked for where there is a store", async () => {
    const keys = new UsedKeys(() => 1_000.9);
    const stale = { validUntilS: 2_000, madeAtS: 999, noncesRepeat: true };
    assert.throws(() => keys.use(use(new Uint8Array(32), stale)), (error: SallyportError) => {
      assert.deepEqual([error.code, error.retryable], ["token_stale", true]);
      assert.match(error.message, /issued 1 s before this edge/);
      return true;
    });
    // Of the same second, and where no nonce repeats.
    void keys.use(use(new Uint8Array(32).fill(1), { ...stale, madeAtS: 1_000 }));
    void keys.use(use(new Uint8Array(32).fill(2), { ...stale, noncesRepeat: false }));
    const seen = new Set<string>();
    const store: KeyUseStore = {
      first: (fingerprint, validUntilS) => {
        assert.equal(validUntilS, 2_000);
        return Promise.resolve(!seen.has(fingerprint) && seen.add(fingerprint).size > 0);
      },
    };
    // Two edges that share a store, one of them started anew.
    await new UsedKeys(() => 0, store).use(use(new Uint8Array(32).fill(3), stale));
    await assert.rejects(
      async () => await new UsedKeys(() => 5_000, store).use(use(new Uint8Array(32).fill(3), stale)),
      {
        code: "key_reused",
      },
    );
    await new UsedKeys(() => 5_000, store).use(use(new Uint8Array(32).fill(4), stale));
  });

  it("is let in without the store while that is away, except where nonces would repeat", async () => {
    const away = new SallyportError("io_failed", "Cannot ask Redis: away", { side: "network" });
    const keys = new UsedKeys(() => 0, { first: () => Promise.reject(away) });
    await keys.use(use(new Uint8Array(32).fill(1), { noncesRepeat: false }));
    await assert.rejects(
      async () => await keys.use(use(new Uint8Array(32).fill(2), { noncesRepeat: true })),
      {
        code: "io_failed",
      },
    );
    // What this edge has seen itself is refused all the same.
    await assert.rejects(
      async () => await keys.use(use(new Uint8Array(32).fill(1), { noncesRepeat: false })),
      {
        code: "key_reused",
      },
    );
  });

  it("that has opened a session over SniTun under aes-cbc opens none elsewhere", () => {
    const keys = new UsedKeys(() => 0);
    const key = new Uint8Array(randomBytes(32));
    void keys.use(use(key, { repeatable: true }));
    void keys.use(use(key, { repeatable: true }));
    assert.throws(() => keys.use(use(key)), { code: "key_reused" });
    const other = new Uint8Array(randomBytes(32));
    void keys.use(use(other));
    assert.throws(() => keys.use(use(other, { repeatable: true })), { code: "key_reused" });
  });
});

const AGE = { madeAtS: 0, validUntilS: 100 };

describe("Routes", () => {
  it("are given up by their holder alone, once", () => {
    const routes = new Routes<string>();
    routes.claim({ owner: "a", aliases: ["b"], age: AGE }, "one", 0);
    assert.deepEqual(routes.claim({ owner: "a", aliases: ["b"], age: AGE }, "two", 0).replaced, ["one"]);
    routes.release("one");
    assert.equal(routes.find("a"), "two");
    assert.equal(routes.find("b"), "two");
    routes.release("two");
    routes.release("two");
    assert.equal(routes.size, 0);
  });

  it("a denied alias leaves with its owner only", () => {
    const routes = new Routes<string>();
    routes.claim({ owner: "a", aliases: [], age: AGE }, "one", 0);
    assert.deepEqual(routes.claim({ owner: "b", aliases: ["a", "c"], age: AGE }, "two", 0).denied, ["a"]);
    routes.release("two");
    assert.equal(routes.find("a"), "one");
    assert.equal(routes.find("c"), undefined);
  });

  it("a claim that throws changes nothing", () => {
    const routes = new Routes<string>();
    routes.claim({ owner: "a", aliases: ["b"], age: AGE }, "one", 0);
    assert.throws(() => routes.claim({ owner: "b", aliases: ["d"], age: AGE }, "two", 0), {
      code: "name_taken",
    });
    assert.equal(routes.find("d"), undefined);
    assert.equal(routes.size, 2);
  });

  it("count take-overs within a minute, and forget them", () => {
    const routes = new Routes<number>();
    for (let i = 0; i <= TAKEOVERS_PER_MINUTE_MAX; i++) {
      routes.claim({ owner: "a", aliases: [], age: AGE }, i, i * 1000);
    }
    assert.throws(() => routes.check({ owner: "a", age: AGE }, 60_999), { code: "name_flapping" });
    routes.check({ owner: "a", age: AGE }, 61_000);
    routes.sweep(200_000);
    for (let i = 0; i < TAKEOVERS_PER_MINUTE_MAX; i++) {
      routes.claim({ owner: "a", aliases: [], age: AGE }, 100 + i, 200_000);
    }
    assert.throws(() => routes.claim({ owner: "a", aliases: [], age: AGE }, 999, 200_000), {
      code: "name_flapping",
    });
  });

  it("go to the session with the newer token, however often they were taken over", () => {
    const routes = new Routes<number>();
    const aged = (madeAtS: number, validUntilS = 100) => ({ madeAtS, validUntilS });
    for (let i = 0; i <= TAKEOVERS_PER_MINUTE_MAX; i++) {
      routes.claim({ owner: "a", aliases: [], age: aged(10) }, i, 0);
    }
    assert.throws(() => routes.check({ owner: "a", age: aged(10) }, 1), { code: "name_flapping" });
    assert.throws(() => routes.check({ owner: "a", age: aged(9, 500) }, 1), { code: "name_flapping" });
    routes.check({ owner: "a", age: aged(10, 101) }, 1);
    for (let i = 11; i < 30; i++) {
      assert.deepEqual(routes.claim({ owner: "a", aliases: [], age: aged(i) }, i, 1).replaced, [
        i === 11 ? 5 : i - 1,
      ]);
    }
    // The older one stays damped.
    assert.throws(() => routes.claim({ owner: "a", aliases: [], age: aged(10) }, 99, 2), {
      code: "name_flapping",
    });
    assert.equal(routes.find("a"), 29);
  });
});
