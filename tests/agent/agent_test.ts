import assert from "node:assert/strict";
import { AlertDescription } from "../../src/wire/tls/tls_alert.ts";
import { describe, it } from "node:test";
import {
  type Agent,
  type AgentOptions,
  createAgent,
  GRANT_UNUSED_KEPT_MS,
  TOKEN_HELD_MS,
} from "../../src/agent/agent.ts";
import type { Connector } from "../../src/agent/connector.ts";
import type { Grant } from "../../src/transport/grant.ts";
import { SallyportError } from "../../src/errors.ts";
import type { CreatedToken } from "../../src/protocol/token/token.ts";
import type { Runtime } from "../../src/runtime/port.ts";
import type { SessionStream } from "../../src/transport/port.ts";
import { bytesOf, pattern } from "../conformance/runtime_helpers.ts";
import {
  AGENT_HOST,
  assertAlert,
  bytesFrom,
  EDGE_HOST,
  EDGE_PORT,
  type LogLine,
  NOTHING,
  recordingLogger,
  TestEdge,
  type TestEdgeOptions,
  WatchedStream,
} from "../support/tunnel.ts";
import { TOKEN_RENEW_AT } from "../../src/agent/agent_session.ts";
import {
  QUICK_ATTEMPTS,
  QUICK_DELAY_MS,
  RECONNECT_MAX_MS,
  SESSION_SETTLED_MS,
} from "../../src/agent/backoff.ts";
import { DIAL_TIMEOUT_MS } from "../../src/runtime/port.ts";
import { SHUTDOWN_GRACE_MS } from "../../src/transport/port.ts";

function grantOf(created: CreatedToken, more: Partial<Grant> = {}): Grant {
  return { token: created.token, ...created.claims, edge: { host: EDGE_HOST, port: EDGE_PORT }, ...more };
}

/** An agent and the world around it. */
interface Site {
  readonly test: TestEdge;
  readonly agent: Agent;
  /** What run() has come to. */
  readonly outcome: { done: boolean; error: unknown };
  readonly lines: LogLine[];
  /** When each grant was asked for, and when an edge was dialled, in virtual milliseconds. */
  readonly asked: number[];
  readonly dialled: number[];
  readonly streams: WatchedStream[];
  readonly sessions: unknown[];
}

interface SiteOptions extends Partial<Omit<AgentOptions, "runtime">> {
  readonly edgeOptions?: TestEdgeOptions;
  readonly ttlSeconds?: number;
  /** How far the agent's wall clock is off. */
  readonly wallOffMs?: number;
  /** Called before each grant with its number from 0; may throw, or wait. */
  readonly before?: (attempt: number) => void | Promise<void>;
  /** Changes the grant. */
  readonly change?: Partial<Grant>;
}

async function site(options: SiteOptions = {}): Promise<Site> {
  const { edgeOptions, ttlSeconds = 3600, wallOffMs = 0, before, change, ...more } = options;
  // Its endpoints answer when a test wants it.
  const test = await TestEdge.start({ answerTimeoutMs: 0, ...edgeOptions });
  const lines: LogLine[] = [];
  const asked: number[] = [];
  const dialled: number[] = [];
  const streams: WatchedStream[] = [];
  const sessions: unknown[] = [];
  const inner = test.runtime(AGENT_HOST);
  const runtime: Runtime = {
    ...inner,
    dial: (to) => {
      dialled.push(inner.clock.nowMs());
      return inner.dial(to);
    },
    clock: { ...inner.clock, wallMs: () => inner.clock.wallMs() + wallOffMs },
  };
  const agent = createAgent({
    runtime,
    grants: async () => {
      asked.push(test.network.clock.nowMs());
      await before?.(asked.length - 1);
      return grantOf(test.token({ ttlSeconds }), change);
    },
    connector: (stream) => void streams.push(new WatchedStream(stream)),
    log: recordingLogger(lines),
    random: () => 0.5,
    connected: (session) => void sessions.push(session),
    ...more,
  });
  const outcome = { done: false, error: undefined as unknown };
  agent.run().then(() => outcome.done = true, (error) => {
    outcome.done = true;
    outcome.error = error;
  });
  await test.advance(20);
  return { test, agent, outcome, lines, asked, dialled, streams, sessions };
}

/** Closes the agent, then the edge, and fails where something is left to happen. */
async function finish({ test, agent, outcome }: Site, withinMs?: number): Promise<void> {
  await test.network.settle(agent.close(0));
  await test.advance(0);
  assert.equal(outcome.done, true, "run() has settled");
  assert.equal(agent.session, undefined);
  await test.assertNothingLeft(withinMs);
}

function reasons(lines: readonly LogLine[]): unknown[] {
  return lines.filter(({ level }) => level === "warn").map(({ fields }) => fields.reason);
}

describe("createAgent: connecting", () => {
  it("asks for a grant, serves visitors, and says so", async () => {
    const s = await site();
    assert.equal(s.agent.session, s.sessions[0]);
    assert.notEqual(s.agent.session, undefined);
    const { conn, hello } = await s.test.visit();
    assert.deepEqual(bytesFrom(s.streams[0]!), hello);
    s.streams[0]!.write(pattern(1_000));
    await s.test.advance(10);
    assert.deepEqual(bytesFrom(conn), pattern(1_000));
    const [line] = s.lines;
    assert.equal(line!.message, "connected to the edge");
    assert.deepEqual(line!.fields, {
      hostname: "a.test",
      edge: "10.0.0.1:8443",
      transport: "snitun",
      protocol_version: 2,
      cipher: "aes-gcm",
    });
    s.test.assertNoSecretLogged();
    await finish(s);
  });

  it("again after a loss takes a fresh grant each time, and waits with jitter", async () => {
    const draws = [0.5, 0, 0.9];
    const s = await site({ random: () => draws.shift() ?? 0 });
    for (let i = 0; i < 3; i++) {
      await s.test.advance(SESSION_SETTLED_MS + 1_000);
      const lostMs = s.test.network.clock.nowMs();
      s.test.network.reset(EDGE_HOST, AGENT_HOST);
      await s.test.advance(600);
      assert.equal(s.asked.length, i + 2);
      assert.equal(s.asked[i + 1]! - lostMs, [250, 0, 450][i]);
      assert.equal(s.sessions.length, i + 2);
      assert.ok(s.test.edge.serves("a.test"));
    }
    // aes-gcm: the edge would have refused key material that it had seen before.
    assert.equal(await s.test.refusals("agent", "key_reused"), 0);
    assert.deepEqual(reasons(s.lines), ["connection_lost", "connection_lost", "connection_lost"]);
    await finish(s);
  });

  it("asks again within a second while no edge is there, so that its return is noticed, and then more seldom", async () => {
    const s = await site({ edgeOptions: { listen: [] }, random: () => 0.999 });
    await s.test.advance(30_000);
    const quick = s.dialled.slice(1).map((at, i) => at - s.dialled[i]!);
    // The master may limit how many grants an agent gets.
    assert.ok(s.asked.length <= 1 + 30_000 / GRANT_UNUSED_KEPT_MS, `${s.asked.length} grants`);
    assert.ok(quick.length > 30 && quick.every((ms) => ms < 2 * QUICK_DELAY_MS + 10), `${quick}`);
    const upMs = s.test.network.clock.nowMs();
    await s.test.edge.listen({ host: EDGE_HOST, port: EDGE_PORT });
    await s.test.advance(1_000);
    const { conn } = await s.test.visit();
    assert.equal(
      conn.closes,
      0,
      `served ${s.test.network.clock.nowMs() - upMs} ms after the listener was up`,
    );
    assert.equal(s.streams.length, 1);
    await finish(s);
  });

  it("asks within a second too while a proxy accepts for an edge that is down, and shows it no tokens", async () => {
    let refused = 0;
    const authorize = () => {
      // The edge may have started after the token was made.
      if (refused++ === 0) throw new SallyportError("token_stale", "Cannot let agent in", { side: "peer" });
    };
    const s = await site({ edgeOptions: { listen: [], authorize }, random: () => 0.999 });
    let heard = 0;
    const proxy = await s.test.runtime(EDGE_HOST).listen({
      host: EDGE_HOST,
      port: EDGE_PORT,
      accept: (conn) => {
        conn.attach({ data: () => heard++, end() {}, drain() {}, close() {} });
        conn.release();
      },
    });
    await s.test.advance(1_000);
    const [dialled, shown] = [s.dialled.length, heard];
    await s.test.advance(30_000);
    const times = s.dialled.slice(dialled + 1);
    const quick = times.slice(1).map((at, i) => at - times[i]!);
    assert.ok(quick.length > 30 && quick.every((ms) => ms < 2 * QUICK_DELAY_MS + 10), `${quick}`);
    assert.ok(shown <= 2 && heard === shown, `${heard} tokens were shown`);
    assert.equal(refused, 0);
    proxy.close();
    await s.test.edge.listen({ host: EDGE_HOST, port: EDGE_PORT });
    await s.test.advance(1_000);
    const { conn } = await s.test.visit();
    assert.equal(conn.closes, 0);
    assert.equal(s.streams.length, 1);
    await finish(s);
  });

  it("fails with delays that double up to a minute, drawn from zero", async () => {
    const s = await site({ edgeOptions: { listen: [] }, random: () => 0.999 });
    await s.test.advance(1_000);
    await s.test.advance(400_000);
    const dialMs = 2;
    const delays = s.dialled.slice(1).map((at, i) => at - s.dialled[i]! - dialMs);
    delays.splice(1, QUICK_ATTEMPTS);
    const expected = [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]
      .map((ceiling) => Math.floor(0.999 * ceiling));
    assert.deepEqual(delays.slice(0, expected.length), expected);
    assert.ok(expected.every((delay) => delay < RECONNECT_MAX_MS));
    assert.ok(s.lines.every(({ fields }) => fields.reason === "edge_unreachable"));
    assert.match(s.lines[0]!.message, /^Cannot reach edge 10\.0\.0\.1:8443: /);
    assert.equal(s.lines[0]!.fields.next_attempt_seconds, 0.5);
    // The edge comes up: the agent finds it.
    await s.test.edge.listen({ host: EDGE_HOST, port: EDGE_PORT });
    await s.test.advance(60_000);
    assert.ok(s.test.edge.serves("a.test"));
    await finish(s);
  });

  it("that leads to sessions which end at once counts as failing; one that lasts doesn't", async () => {
    const s = await site({ random: () => 0.999 });
    const delays: number[] = [];
    for (let i = 0; i < 4; i++) {
      const lostMs = s.test.network.clock.nowMs();
      s.test.network.reset(EDGE_HOST, AGENT_HOST);
      const before = s.asked.length;
      for (let t = 0; s.asked.length === before && t < 100; t++) await s.test.advance(100);
      delays.push(s.asked.at(-1)! - lostMs);
      await s.test.advance(20);
    }
    assert.deepEqual(delays, [499, 999, 1998, 3996]);
    await s.test.advance(SESSION_SETTLED_MS);
    const lostMs = s.test.network.clock.nowMs();
    s.test.network.reset(EDGE_HOST, AGENT_HOST);
    await s.test.advance(600);
    assert.equal(s.asked.at(-1)! - lostMs, 499);
    const losses = s.lines.map(({ message }) => message).filter((message) =>
      message.startsWith("Session lost")
    );
    assert.match(
      losses[0] ?? "",
      /; does another agent serve a\.test\? An edge keeps only the newest session of a name$/,
    );
    assert.doesNotMatch(losses.at(-1) ?? "", /another agent/);
    await finish(s);
  });

  it("dials another edge than the grant names where it is told to", async () => {
    const s = await site({
      edge: { host: EDGE_HOST, port: EDGE_PORT },
      change: { edge: { host: "10.99.99.99", port: 1 } },
    });
    assert.ok(s.test.edge.serves("a.test"));
    await finish(s);
  });

  it("survives an embedder's callback that throws", async () => {
    const s = await site({
      connected: () => {
        throw new Error("callback");
      },
    });
    await s.test.advance(30_000);
    assert.equal(s.asked.length, 1);
    assert.ok(s.test.edge.serves("a.test"));
    await finish(s);
  });

  it("is begun once, however often run is called", async () => {
    const s = await site();
    assert.equal(s.agent.run(), s.agent.run());
    await s.test.advance(1_000);
    assert.equal(s.asked.length, 1);
    await finish(s);
  });
});

describe("createAgent: messages about failed connections", () => {
  const refused = new SallyportError("credential_refused", "Cannot get token: credential refused", {
    side: "config",
  });
  const unreachable = new SallyportError("master_unreachable", "Cannot get token: no answer", {
    side: "network",
    retryable: true,
  });

  it("a refused credential ends the first attempt, and the agent", async () => {
    const s = await site({ before: () => Promise.reject(refused) });
    assert.equal(s.outcome.error, refused);
    await s.test.advance(600_000);
    assert.equal(s.asked.length, 1);
    await finish(s);
  });

  it("so does a request that the master can't make sense of", async () => {
    const invalid = new SallyportError("config_invalid", "Cannot get token: 422", { side: "config" });
    const s = await site({ before: () => Promise.reject(invalid) });
    assert.equal(s.outcome.error, invalid);
    await finish(s);
  });

  it("a credential that is refused later is tried again: it may be a mistake that is mended", async () => {
    const s = await site({
      before: (attempt) => attempt >= 1 && attempt <= 3 ? Promise.reject(refused) : undefined,
    });
    await s.test.advance(SESSION_SETTLED_MS);
    s.test.network.reset(EDGE_HOST, AGENT_HOST);
    await s.test.advance(10_000);
    assert.equal(s.outcome.done, false);
    assert.ok(s.test.edge.serves("a.test"));
    assert.deepEqual(reasons(s.lines).slice(1), Array(3).fill("credential_refused"));
    await finish(s);
  });

  it("an unreachable master is tried again from the first attempt on", async () => {
    const s = await site({ before: (attempt) => attempt < 3 ? Promise.reject(unreachable) : undefined });
    await s.test.advance(10_000);
    assert.deepEqual(reasons(s.lines), Array(3).fill("master_unreachable"));
    assert.equal(s.lines[0]!.message, unreachable.message);
    assert.ok(s.test.edge.serves("a.test"));
    await finish(s);
  });

  it("a grant source may throw anything", async () => {
    const s = await site({
      before: (attempt) => {
        if (attempt < 2) throw "broken";
      },
    });
    await s.test.advance(10_000);
    const told = ["Internal error (callback): broken", "broken"];
    assert.deepEqual(s.lines.slice(0, 4).map(({ message }) => message), [...told, ...told]);
    assert.ok(s.test.edge.serves("a.test"));
    await finish(s);
  });

  it("an expired token is called that", async () => {
    const s = await site({ ttlSeconds: -60 });
    assert.deepEqual(reasons(s.lines), ["token_expired"]);
    assert.match(s.lines[0]!.message, /by this machine's clock the token has expired/);
    await finish(s);
  });

  it("an edge that doesn't let it in, likewise", async () => {
    const denied = new SallyportError("unauthorized", "Cannot let agent in", { side: "peer" });
    const s = await site({ edgeOptions: { authorize: () => Promise.reject(denied) } });
    // The first refusal has it ask for a fresh token.
    await s.test.advance(TOKEN_HELD_MS);
    assert.deepEqual(reasons(s.lines), ["session_refused"]);
    assert.match(s.lines[0]!.message, /edge 10\.0\.0\.1:8443 closed without a challenge/);
    await finish(s);
  });

  it("nothing of a failed attempt is left to happen", async () => {
    const s = await site({ edgeOptions: { listen: [] }, ttlSeconds: 7 * 86_400 });
    await s.test.advance(1_000);
    await finish(s);
  });
});

describe("createAgent: renewal", () => {
  for (
    const [clock, wallOffMs] of [["right", 0], ["a year ahead", 3e10], ["a year behind", -3e10]] as const
  ) {
    it(`comes when 80 % of the token's life are over, with a wall clock that is ${clock}`, async () => {
      const ttlSeconds = 1_000;
      const s = await site({ ttlSeconds, wallOffMs });
      await s.test.advance(ttlSeconds * 1000 * TOKEN_RENEW_AT - 2_000);
      assert.equal(s.asked.length, 1);
      await s.test.advance(4_000);
      assert.equal(s.asked.length, 2);
      await s.test.advance(2_000_000);
      assert.equal(s.asked.length, 4);
      assert.deepEqual(reasons(s.lines), []);
      await finish(s);
    });
  }

  it("loses no visitor: the new session stands before the old one goes", async () => {
    const s = await site({ ttlSeconds: 60 });
    const { conn } = await s.test.visit();
    await s.test.advance(47_000);
    assert.equal(s.sessions.length, 1);
    let missed = 0;
    for (let i = 0; i < 40; i++) {
      await s.test.advance(50);
      if (!s.test.edge.serves("a.test")) missed++;
      s.streams[0]!.write(pattern(1_000, i + 1));
    }
    assert.equal(missed, 0);
    assert.equal(s.sessions.length, 2);
    assert.equal(s.agent.session, s.sessions[1]);
    assert.equal(s.test.edge.sessions, 2, "the old session finishes its stream");
    const visitor = await s.test.visit();
    s.streams[1]!.write(bytesOf("new"));
    s.streams[0]!.closeWrite();
    await s.test.advance(50);
    assert.equal(conn.byteLength, 40_000);
    assert.equal(conn.ended, true);
    assert.equal(visitor.conn.text, "new");
    assert.equal(s.test.edge.sessions, 1);
    assert.deepEqual(reasons(s.lines), []);
    await finish(s);
  });

  it("that fails is tried again while the old session serves, and after it has gone", async () => {
    let broken = false;
    const s = await site({
      ttlSeconds: 100,
      before: () => {
        if (broken) {
          throw new SallyportError("master_unreachable", "Cannot get token", {
            side: "peer",
            retryable: true,
          });
        }
      },
    });
    broken = true;
    await s.test.advance(99_000);
    assert.ok(s.asked.length > 3);
    assert.ok(s.test.edge.serves("a.test"));
    assert.notEqual(s.agent.session, undefined);
    await s.test.advance(10_000);
    assert.equal(s.test.edge.serves("a.test"), false, "the token has expired");
    assert.equal(s.agent.session, undefined);
    assert.ok(reasons(s.lines).includes("connection_lost"));
    broken = false;
    await s.test.advance(60_000);
    assert.ok(s.test.edge.serves("a.test"));
    await finish(s);
  });
});

describe("Agent.online", () => {
  it("waits for a session, for a new one after a loss, and for other names after renew", async () => {
    let away = true;
    const s = await site({
      before: () => {
        const why = "Cannot get token";
        if (away) throw new SallyportError("master_unreachable", why, { side: "peer", retryable: true });
      },
    });
    const seen: string[] = [];
    const wait = async (name: string) => {
      void s.agent.online().then(() => void seen.push(name));
      await s.test.advance(0);
    };
    await wait("start");
    await wait("start too");
    assert.deepEqual(seen, []);
    away = false;
    await s.test.advance(60_000);
    assert.deepEqual(seen.splice(0), ["start", "start too"]);
    await wait("connected");
    assert.deepEqual(seen.splice(0), ["connected"]);
    away = true;
    s.agent.renew();
    await wait("renewing");
    // The old session stands, and serves the old names.
    assert.notEqual(s.agent.session, undefined);
    assert.deepEqual(seen, []);
    away = false;
    await s.test.advance(60_000);
    assert.deepEqual(seen.splice(0), ["renewing"]);
    away = true;
    s.agent.session!.close(new SallyportError("connection_lost", "it broke", { side: "network" }));
    await s.test.advance(0);
    await wait("lost");
    assert.deepEqual(seen, []);
    away = false;
    await s.test.advance(120_000);
    assert.deepEqual(seen, ["lost"]);
    await finish(s);
  });
});

describe("Agent.close", () => {
  it("before run lets run resolve at once", async () => {
    const test = await TestEdge.start();
    const agent = createAgent({
      runtime: test.runtime(AGENT_HOST),
      grants: () => assert.fail("nobody asks"),
      connector: () => {},
    });
    await agent.close();
    await agent.run();
    await test.assertNothingLeft(0);
  });

  it("gives up a grant that it waits for, whatever comes of it", async () => {
    for (const late of ["resolve", "reject"] as const) {
      const grant = Promise.withResolvers<void>();
      const s = await site({ before: () => grant.promise });
      const closing = s.agent.close();
      await s.test.advance(0);
      await closing;
      assert.equal(s.outcome.done, true);
      grant[late](undefined);
      await s.test.advance(1_000);
      assert.equal(s.test.edge.sessions, 0);
      assert.equal(s.outcome.error, undefined);
      await finish(s);
    }
  });

  it("gives up a dial", async () => {
    const s = await site({ change: { edge: { host: "10.77.77.77", port: 1 } } });
    await s.agent.close();
    await s.test.advance(0);
    assert.equal(s.outcome.done, true);
    assert.equal(s.outcome.error, undefined);
    // A runtime can't take a dial back; its own deadline ends it.
    await finish(s, DIAL_TIMEOUT_MS);
  });

  it("gives up a challenge", async () => {
    const s = await site({ edgeOptions: { authorize: () => new Promise(() => {}) } });
    await s.agent.close();
    await s.test.advance(10);
    assert.equal(s.outcome.done, true);
    assert.equal(await s.test.refusals("agent", "connection_lost"), 1);
    await finish(s);
  });

  it("gives up waiting for the next attempt", async () => {
    const s = await site({ edgeOptions: { listen: [] }, random: () => 0.999 });
    await s.test.advance(100_000);
    const beganMs = s.test.network.clock.nowMs();
    await s.agent.close();
    await s.test.advance(0);
    assert.equal(s.outcome.done, true);
    await s.test.network.settle(s.test.edge.close(0));
    await s.test.network.runUntilIdle();
    assert.equal(s.test.network.clock.nowMs(), beganMs);
    await finish(s);
  });

  it("is done at once where there are no streams, whatever the grace", async () => {
    const s = await site();
    await s.test.network.settle(s.agent.close(60_000), s.test.network.clock.nowMs() + 10);
    await finish(s);
  });

  it("lets streams finish within the grace, run resolving after them", async () => {
    const s = await site();
    const { conn } = await s.test.visit();
    const closing = s.agent.close(20_000);
    await s.test.advance(5_000);
    assert.equal(s.outcome.done, false);
    s.streams[0]!.write(pattern(200_000));
    s.streams[0]!.closeWrite();
    await s.test.network.settle(closing, s.test.network.clock.nowMs() + 1_000);
    await s.test.advance(20);
    assert.equal(s.outcome.done, true);
    assert.deepEqual(bytesFrom(conn), pattern(200_000));
    assert.equal(conn.ended, true);
    assert.deepEqual(reasons(s.lines), []);
    await finish(s);
  });

  it("ends streams that go on beyond the grace", async () => {
    const s = await site();
    const { conn } = await s.test.visit();
    const closing = s.agent.close();
    await s.test.advance(SHUTDOWN_GRACE_MS - 100);
    assert.equal(conn.closes, 0);
    await s.test.advance(200);
    await closing;
    assertAlert(conn, AlertDescription.internal_error);
    s.streams[0]!.assertOver("shutdown");
    await finish(s);
  });

  it("ends both sessions of a renewal", async () => {
    const s = await site({ ttlSeconds: 60 });
    await s.test.visit();
    await s.test.advance(49_000);
    assert.equal(s.test.edge.sessions, 2);
    await s.test.network.settle(s.agent.close(1_000));
    await s.test.advance(50);
    assert.equal(s.test.edge.sessions, 0);
    await finish(s);
  });
});

describe("createAgent: a connector that fails", () => {
  const cases: readonly [string, Connector][] = [
    ["throws", () => {
      throw new Error("no room");
    }],
    ["rejects", () => Promise.reject(new Error("no room"))],
    ["throws what isn't an error", () => {
      throw "no room";
    }],
    ["rejects after it has attached", (stream) => {
      stream.attach(NOTHING);
      return Promise.reject(new Error("no room"));
    }],
  ];
  for (const [how, connector] of cases) {
    it(`loses its visitor alone where it ${how}`, async () => {
      const kept: SessionStream[] = [];
      let calls = 0;
      const s = await site({
        connector: (stream) => {
          if (++calls === 2) return connector(stream);
          kept.push(stream);
          stream.attach(NOTHING);
        },
      });
      const first = await s.test.visit();
      const lost = await s.test.visit();
      await s.test.advance(100);
      assert.equal(lost.conn.ended, true);
      lost.conn.closeWrite();
      await s.test.advance(10);
      assert.equal(first.conn.ended, false);
      assert.ok(s.lines.some(({ message }) => message === "Cannot serve visitor: no room"));
      assert.equal(await s.test.metric("streams"), 1);
      kept[0]!.write(bytesOf("fine"));
      await s.test.advance(10);
      assert.equal(first.conn.text, "fine");
      assert.equal(s.test.edge.sessions, 1);
      await finish(s);
    });
  }

  it("may return what isn't a promise", async () => {
    const streams: SessionStream[] = [];
    const s = await site({
      connector: ((stream: SessionStream) => streams.push(stream)) as unknown as Connector,
    });
    const { conn } = await s.test.visit();
    streams[0]!.attach(NOTHING);
    streams[0]!.write(bytesOf("fine"));
    await s.test.advance(10);
    assert.equal(conn.text, "fine");
    await finish(s);
  });

  it("may keep a stream unread for as long as it likes: nothing is lost", async () => {
    const streams: SessionStream[] = [];
    const s = await site({ connector: (stream) => void streams.push(stream) });
    const { conn, hello } = await s.test.visit();
    conn.write(pattern(300_000));
    await s.test.advance(60_000);
    const watched = new WatchedStream(streams[0]!);
    await s.test.advance(1_000);
    assert.equal(watched.byteLength, hello.length + 300_000);
    await finish(s);
  });
});
