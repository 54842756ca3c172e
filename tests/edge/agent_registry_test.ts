/** AgentRegistry: sessions of agents, which names they serve, and how they move away from an edge that drains. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { SessionClaim } from "../../src/cluster/node.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import type { EdgeTunnels } from "../../src/edge/agent_request.ts";
import { AgentRegistry, LEFT_MS, MOVE_PATIENCE_MS, REPLACED_GRACE_MS } from "../../src/edge/agents.ts";
import { EdgeLedger } from "../../src/edge/ledger/ledger.ts";
import { PENALTY_REMEMBERED_MS } from "../../src/edge/offenders.ts";
import { SallyportError } from "../../src/errors.ts";
import { createToken } from "../../src/protocol/token/token.ts";
import { LogSampler } from "../../src/telemetry/log_sampler.ts";
import type { Metrics } from "../../src/telemetry/metrics.ts";
import type { Session, SessionHandler } from "../../src/transport/port.ts";
import { createRouter } from "../../src/tunnel/requests/router.ts";
import type { TokenClaims } from "../../src/wire/token/token_payload.ts";
import { codeOf } from "../support/code_of.ts";
import { FERNET_KEY, type LogLine, recordingLogger } from "../support/tunnel.ts";
import { VirtualClock } from "../support/virtual_clock.ts";

const REMOTE = { host: "192.0.2.1", port: 1 };

/** An agent's session whose streams the test counts. */
class FakeSession {
  readonly transport: string = "sealed";
  readonly remote = REMOTE;
  readonly protocolVersion = undefined;
  readonly cipher: string = "aes-gcm";
  readonly halfClose = true;
  streams = 0;
  readonly bytesSent = 0;
  readonly bytesReceived = 0;
  readonly rttMs = undefined;
  readonly calls: string[] = [];
  handler!: SessionHandler;
  moves = () => {};

  askToMove() {
    this.calls.push("askToMove");
    this.moves();
  }
  goAway({ code }: SallyportError) {
    this.calls.push(`goAway ${code}`);
  }
  close(reason: SallyportError) {
    this.calls.push(`close ${reason.code}`);
    this.handler.ended(reason);
  }
  /** One of its streams is over. */
  streamEnds() {
    this.streams--;
    this.handler.streamClosed();
  }
}

function bench(options: { cluster?: { last: boolean }; tunnels?: EdgeTunnels } = {}) {
  const clock = new VirtualClock();
  const ring = new FernetRing([FERNET_KEY]);
  const lines: LogLine[] = [];
  const counted: string[] = [];
  const claims: SessionClaim[] = [];
  const released: string[] = [];
  const log = recordingLogger(lines);
  const registry = new AgentRegistry({
    clock,
    ring,
    log,
    sampler: new LogSampler({ log, clock }),
    ledger: new EdgeLedger({ clock, ring }),
    metrics: {
      refused: (what: string, code: string) => void counted.push(`${what} ${code}`),
      sessionOpened: () => void counted.push("opened"),
      sessionClosed: () => void counted.push("closed"),
      sessionEnded: (code: string) => void counted.push(`ended ${code}`),
    } as unknown as Metrics,
    ...options.tunnels === undefined ? {} : { tunnels: options.tunnels },
    ...options.cluster === undefined ? {} : {
      cluster: {
        last: options.cluster.last,
        register: (claim) => void claims.push(claim),
        release: (session) => void released.push(session),
        find: () => undefined,
        stale: () => {},
      },
    },
  });
  const admission = registry.admission("sealed");
  const token = (hostname: string, more: Partial<TokenClaims> = {}, ttlSeconds = 3_600) => {
    const { token, claims } = createToken(ring, {
      hostname,
      ttlSeconds,
      nowMs: clock.wallMs(),
      ...more as object,
    });
    return { token: new TextEncoder().encode(token), claims };
  };
  return {
    ...{ clock, ring, registry, admission, token, lines, claims, released },
    counted: () => counted.splice(0),
    /** An agent whose session stands. */
    opens: (hostname: string, more: Partial<TokenClaims> = {}, ttlSeconds?: number) => {
      const session = new FakeSession();
      const opened = token(hostname, more, ttlSeconds);
      session.handler = admission.admit(opened, session as unknown as Session, REMOTE);
      return session;
    },
  };
}

/** Whether the promise has settled by now. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  void promise.then(() => settled = true);
  await turns();
  return settled;
}

async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

describe("AgentRegistry: agents that break the protocol", () => {
  const offence = new SallyportError("frame_invalid", "Cannot read session", { side: "peer" });

  function court() {
    const test = bench();
    const { admission, token, clock } = test;
    const opens = (hostname: string, more: Partial<TokenClaims> = {}) =>
      codeOf(() => admission.authorize(token(hostname, more), REMOTE));
    /** How long the agent has to wait, in steps of half a second. */
    const waits = (hostname: string): number => {
      let ms = 0;
      for (; opens(hostname) !== "none"; ms += 500) clock.run(500);
      return ms;
    };
    return { ...test, opened: opens, waits };
  }

  it("are refused for a second, and twice as long each time they do it again, up to a minute", () => {
    const { opens, waits, lines, counted } = court();
    const waited: number[] = [];
    for (let times = 0; times < 8; times++) {
      opens("a.test").handler.ended(offence);
      waited.push(waits("a.test") / 1000);
    }
    assert.deepEqual(waited, [1, 2, 4, 8, 16, 32, 60, 60]);
    const told = lines.filter(({ level }) => level === "warn").map(({ message }) => message);
    assert.match(told[0]!, /refused for 1 s/);
    assert.equal(told.filter((message) => /broke the protocol/.test(message)).length, 8);
    assert.equal(counted().filter((one) => one === "ended frame_invalid").length, 8);
  });

  it("start anew after a minute without", () => {
    const { opens, waits, clock, registry } = court();
    for (const sweeps of [false, true]) {
      for (const expected of [1_000, 2_000]) {
        opens("a.test").handler.ended(offence);
        assert.equal(waits("a.test"), expected);
      }
      clock.run(PENALTY_REMEMBERED_MS);
      if (sweeps) registry.sweep();
    }
  });

  it("don't keep others out, nor those that share their name", () => {
    const { opens, opened } = court();
    const shared = (instance: string) => ({ extra: { shared: instance } });
    opens("a.test", shared("agent-one")).handler.ended(offence);
    assert.equal(opened("a.test", shared("agent-one")), "limit_exceeded");
    assert.deepEqual([opened("a.test", shared("agent-two")), opened("b.test")], ["none", "none"]);
  });

  it("aren't those whose session ends in another way", () => {
    const { opens, opened } = court();
    for (
      const [code, side] of [
        ["connection_lost", "network"],
        ["session_stalled", "peer"],
        ["pong_missing", "network"],
        ["token_expired", "peer"],
        ["limit_exceeded", "local"],
        ["internal", "local"],
      ] as const
    ) {
      opens("a.test").handler.ended(new SallyportError(code, "Session ended", { side }));
      assert.equal(opened("a.test"), "none", code);
    }
  });
});

describe("AgentRegistry: tokens", () => {
  it("openToken() takes a token up to its very second", () => {
    const { admission, token, clock } = bench();
    const { token: bytes, claims } = token("a.test", {}, 10);
    clock.run(10_000);
    assert.equal((admission.openToken(bytes) as TokenClaims).hostname, claims.hostname);
    clock.run(1_000);
    assert.equal(codeOf(() => admission.openToken(bytes)), "token_expired");
  });

  it("authorize() refuses an aes-gcm token of before the edge's start over SniTun, and none over others", () => {
    const { registry, ring, clock } = bench();
    const codeFor = (transport: string, agoMs: number) => {
      const { token, claims } = createToken(ring, {
        hostname: "a.test",
        ttlSeconds: 3_600,
        nowMs: clock.wallMs() - agoMs,
      });
      const opened = { token: new TextEncoder().encode(token), claims };
      return codeOf(() => registry.admission(transport).authorize(opened, REMOTE));
    };
    assert.deepEqual([codeFor("snitun", 0), codeFor("snitun", 1_000)], ["none", "token_stale"]);
    assert.equal(codeFor("sealed", 1_000), "none");
  });

  it("sweep() ends sessions whose token has expired, and no others", () => {
    const { registry, opens, clock } = bench();
    const [short, long] = [opens("a.test", {}, 10), opens("b.test", {}, 20)];
    clock.run(10_000);
    registry.sweep();
    assert.deepEqual(short.calls, []);
    clock.run(1_000);
    registry.sweep();
    assert.deepEqual([short.calls, long.calls], [["close token_expired"], []]);
    assert.deepEqual([registry.sessions, registry.find("a.test")], [1, undefined]);
  });

  it("a clock that is set ahead or back ends no session, and forgets no key", () => {
    const { registry, opens, token, ring, clock } = bench();
    const session = opens("a.test", {}, 600);
    const { authorize } = registry.admission("sealed");
    const { token: bytes, claims } = token("b.test", {}, 600);
    const copied = { token: bytes, claims: claims as TokenClaims };
    void authorize(copied, REMOTE);
    for (const hours of [3, -6, 3]) {
      clock.setAhead(hours * 3_600_000);
      registry.sweep();
      assert.deepEqual(session.calls, [], `${hours} h`);
    }
    assert.equal(codeOf(() => authorize(copied, REMOTE)), "key_reused");
    clock.setAhead(-3 * 3_600_000);
    const snitun = registry.admission("snitun");
    const { token: made, claims: fresh } = createToken(ring, {
      hostname: "a.test",
      ttlSeconds: 60,
      nowMs: clock.wallMs(),
    });
    const late = { token: new TextEncoder().encode(made), claims: fresh };
    assert.equal(codeOf(() => snitun.authorize(late, REMOTE)), "none", "made since the start");
    clock.run(601_000);
    registry.sweep();
    assert.deepEqual(session.calls, ["close token_expired"]);
  });
});

describe("AgentRegistry: a session", () => {
  it("is counted, found by its names and logged, until it ends", () => {
    const { registry, opens, counted, lines } = bench();
    const session = opens("a.test", { aliases: ["b.test"] });
    for (const name of ["a.test", "b.test"]) assert.equal(registry.find(name)?.cipher, "aes-gcm");
    assert.equal(registry.find("c.test"), undefined);
    assert.deepEqual([registry.sessions, counted()], [1, ["opened"]]);
    session.close(new SallyportError("shutdown", "over", { side: "peer" }));
    assert.deepEqual([registry.sessions, registry.find("a.test"), registry.find("b.test")], [
      0,
      undefined,
      undefined,
    ]);
    assert.deepEqual(counted(), ["closed", "ended shutdown"]);
    assert.deepEqual(lines.map(({ message }) => message), [
      "agent connected",
      "agent disconnected: over",
    ]);
  });

  it("that a newer one replaces has its grace, or until its streams are over", () => {
    const { registry, opens, clock } = bench();
    const [idle, slow, stuck] = ["a.test", "b.test", "c.test"].map((name) => opens(name));
    slow!.streams = 2;
    stuck!.streams = 1;
    for (const name of ["a.test", "b.test", "c.test"]) opens(name);
    assert.deepEqual([idle!.calls, slow!.calls], [["close replaced"], []]);
    slow!.streamEnds();
    assert.deepEqual(slow!.calls, []);
    slow!.streamEnds();
    assert.deepEqual(slow!.calls, ["close replaced"]);
    clock.run(REPLACED_GRACE_MS - 1);
    assert.deepEqual(stuck!.calls, []);
    clock.run(1);
    assert.deepEqual(stuck!.calls, ["close replaced"]);
    assert.equal(registry.sessions, 3);
  });

  it("that goes away serves no names, and lives on", () => {
    const { registry, opens } = bench();
    const session = opens("a.test");
    session.handler.goingAway!("shutdown");
    assert.deepEqual([registry.find("a.test"), registry.sessions, session.calls], [undefined, 1, []]);
  });

  it("may open no stream where the edge accepts no requests", () => {
    const { opens, counted } = bench();
    const { handler } = opens("a.test");
    counted();
    let code: unknown;
    handler.stream({ abort: (error: SallyportError) => code = error.code } as never);
    assert.equal(code, "access_denied");
    handler.streamRefused("stream_overflow");
    assert.deepEqual(counted(), ["stream access_denied", "stream stream_overflow"]);
  });

  it("tells the operator of its tunnel: when it opens, and when it gets no visitors any more", () => {
    const heard: string[] = [];
    const { registry, opens } = bench({
      tunnels: {
        router: ({ hostname }) => hostname === "none.test" ? undefined : createRouter({}),
        opened: (_, { hostname }) => void heard.push(`opened ${hostname}`),
        left: (_, why) => void heard.push(`left: ${why}`),
      },
    });
    opens("none.test");
    assert.deepEqual([heard.splice(0), registry.findTunnel("none.test")], [[], undefined]);
    const first = opens("a.test");
    assert.notEqual(registry.findTunnel("a.test"), undefined);
    assert.deepEqual(heard.splice(0), ["opened a.test"]);
    first.streams = 1;
    opens("a.test");
    assert.deepEqual(heard.splice(0), ["opened a.test", "left: Session ended: a newer one serves its names"]);
    opens("b.test").handler.goingAway!("shutdown");
    assert.deepEqual(heard.splice(0), ["opened b.test", "left: the agent is leaving"]);
  });
});

describe("AgentRegistry: a carrier that the operator adopts", () => {
  it("hears of the agent's streams, of quiet, and of the end", async () => {
    const heard: string[] = [];
    let carrier: { quiet?(): Promise<void> } | undefined;
    const { registry, opens, counted } = bench({
      tunnels: {
        adopt: (given) => {
          carrier = given;
          given.attach({
            stream: () => void heard.push("stream"),
            ended: ({ code }) => void heard.push(`ended ${code}`),
          });
          return true;
        },
        router: () => assert.fail("the edge has no tunnel of its own then"),
      },
    });
    const session = opens("a.test");
    assert.equal(registry.findTunnel("a.test"), undefined);
    counted();
    session.handler.stream({} as never);
    assert.deepEqual([heard.splice(0), counted()], [["stream"], []]);
    session.streams = 2;
    const quiet = carrier!.quiet!();
    session.streamEnds();
    assert.equal(await isSettled(quiet), false);
    session.streamEnds();
    assert.equal(await isSettled(quiet), true);
    session.close(new SallyportError("shutdown", "over", { side: "peer" }));
    assert.deepEqual(heard, ["ended shutdown"]);
  });

  it("ends with an agent whose name another has taken meanwhile, and so does a tunnel", () => {
    const heard: string[] = [];
    let adopts = false;
    const { opens } = bench({
      tunnels: {
        adopt: (given) => {
          if (adopts) {
            given.attach({
              stream: () => {},
              ended: ({ code }) => void heard.push(`ended ${code}`),
            });
          }
          return adopts;
        },
        router: () => createRouter({}),
        opened: (_, { hostname }) => void heard.push(`opened ${hostname}`),
        left: () => void heard.push("left"),
      },
    });
    opens("a.test", { aliases: ["b.test"] });
    assert.deepEqual(heard.splice(0), ["opened a.test"]);
    assert.equal(codeOf(() => opens("b.test")), "name_taken");
    assert.deepEqual(heard.splice(0), ["opened b.test", "left"]);
    adopts = true;
    assert.equal(codeOf(() => opens("b.test")), "name_taken");
    assert.deepEqual(heard.splice(0), ["ended name_taken"]);
  });

  it("an operator's callback that throws keeps the agent out, and counts as its fault", () => {
    for (const call of ["adopt", "router"] as const) {
      const throws = () => {
        throw new TypeError("the operator's fault");
      };
      const { registry, opens } = bench({ tunnels: { router: () => undefined, [call]: throws } });
      assert.equal(codeOf(() => opens("a.test")), "internal");
      assert.deepEqual([registry.sessions, registry.find("a.test")], [0, undefined]);
    }
  });
});

describe("AgentRegistry: close()", () => {
  it("asks each session to go away, and is over when the last has ended", async () => {
    const { registry, opens, clock } = bench();
    const [idle, busy] = [opens("a.test"), opens("b.test")];
    busy.streams = 1;
    const closing = registry.close(1_000);
    await turns();
    assert.deepEqual([idle.calls, busy.calls], [["goAway shutdown", "close shutdown"], ["goAway shutdown"]]);
    assert.equal(await isSettled(closing), false);
    clock.run(1_000);
    assert.deepEqual(busy.calls, ["goAway shutdown", "close shutdown"]);
    assert.equal(await isSettled(closing), true);
  });

  it("ends streams at once without a grace, and waits a century for the last one", async () => {
    const { registry, opens, clock } = bench();
    const session = opens("a.test");
    session.streams = 1;
    const closing = registry.close(36_500 * 86_400_000);
    clock.run(30 * 86_400_000);
    assert.equal(await isSettled(closing), false);
    session.streamEnds();
    assert.equal(await isSettled(closing), true);

    const other = bench();
    const cut = other.opens("a.test");
    cut.streams = 1;
    const atOnce = other.registry.close(0);
    other.clock.run(0);
    assert.equal(await isSettled(atOnce), true);
    assert.deepEqual(cut.calls, ["goAway shutdown", "close shutdown"]);
  });

  it("close() again shortens the grace for both callers", async () => {
    const { registry, opens, clock } = bench();
    opens("a.test").streams = 1;
    const first = registry.close(60_000);
    const second = registry.close(0);
    clock.run(0);
    assert.deepEqual([await isSettled(first), await isSettled(second)], [true, true]);
  });
});

describe("AgentRegistry: in a cluster", () => {
  it("claims a session's names, without those that are another's, and gives them up", () => {
    const { opens, claims, released, clock } = bench({ cluster: { last: false } });
    opens("x.test");
    const session = opens("a.test", { aliases: ["b.test", "x.test"] });
    const [, claim] = claims;
    assert.deepEqual([claim!.owner, claim!.names, claim!.group === claim!.session], [
      "a.test",
      ["a.test", "b.test"],
      false,
    ]);
    assert.equal(claim!.madeAtMs, Math.floor(clock.wallMs() / 1000) * 1000);
    session.close(new SallyportError("shutdown", "over", { side: "peer" }));
    assert.deepEqual(released, [claim!.session]);
    opens("c.test").handler.goingAway!("shutdown");
    assert.deepEqual(released, [claim!.session, claims[2]!.session]);
  });

  it("a session that loses its own name there retires, one that loses an alias goes on without it", () => {
    for (const reason of ["replaced", "name_taken"] as const) {
      const { registry, opens, claims, clock } = bench({ cluster: { last: false } });
      const session = opens("a.test", { aliases: ["b.test"] });
      session.streams = 1;
      claims[0]!.lost(["b.test"], reason);
      assert.deepEqual([registry.find("b.test"), registry.find("a.test") !== undefined], [undefined, true]);
      claims[0]!.lost(["a.test"], reason);
      assert.equal(registry.find("a.test"), undefined);
      clock.run(REPLACED_GRACE_MS);
      assert.deepEqual(session.calls, [`close ${reason}`]);
    }
  });

  it("an edge that drains asks twenty agents at a time to move, and waits until they have", async () => {
    const { registry, opens, claims, clock } = bench({ cluster: { last: false } });
    const sessions = Array.from({ length: 50 }, (_, i) => opens(`${i}.test`));
    for (const session of sessions) session.streams = 1;
    const asked = () => sessions.filter(({ calls }) => calls.includes("askToMove")).length;
    const closing = registry.close(60_000);
    for (const count of [20, 40, 50]) {
      await turns();
      assert.equal(asked(), count);
      clock.run(20);
    }
    // They come back elsewhere: their names are lost here.
    for (const claim of claims) claim.lost([claim.owner], "replaced");
    clock.run(20);
    await turns();
    // Other nodes may still send visitors here.
    clock.run(LEFT_MS - 1);
    await turns();
    assert.ok(sessions.every(({ calls }) => calls.length === 1));
    clock.run(1);
    await turns();
    for (const session of sessions) assert.deepEqual(session.calls, ["askToMove", "goAway shutdown"]);
    clock.run(REPLACED_GRACE_MS);
    assert.equal(await isSettled(closing), false, "their streams have the whole grace");
    clock.run(60_000 - REPLACED_GRACE_MS - LEFT_MS - 81);
    assert.equal(await isSettled(closing), false);
    clock.run(100);
    assert.equal(await isSettled(closing), true);
  });

  it("cuts those that can't be told to move, one by one, when its patience ends", async () => {
    const { registry, opens, clock } = bench({ cluster: { last: false } });
    const sessions = ["a.test", "b.test"].map((name) => opens(name));
    const closing = registry.close(60_000);
    for (let ms = 0; ms < MOVE_PATIENCE_MS - 20; ms += 20) {
      await turns();
      clock.run(20);
    }
    assert.deepEqual(sessions.map(({ calls }) => calls), [["askToMove"], ["askToMove"]]);
    await turns();
    clock.run(20);
    await turns();
    const cut = ["askToMove", "goAway shutdown", "close shutdown"];
    assert.deepEqual(sessions.map(({ calls }) => calls), [cut, ["askToMove"]]);
    clock.run(5);
    await turns();
    assert.deepEqual(sessions.map(({ calls }) => calls), [cut, cut]);
    clock.run(5);
    await turns();
    clock.run(LEFT_MS);
    assert.equal(await isSettled(closing), true);
  });

  it(
    "leaves those asked last as much time as the first, of more than 5,000 agents",
    { timeout: 60_000 },
    async () => {
      const { registry, admission, token, claims, clock } = bench({ cluster: { last: false } });
      // One token with changed names: to make thousands takes seconds.
      const made = token("any.test");
      const sessions = Array.from({ length: 5_500 }, (_, i) => {
        const session = new FakeSession();
        const opened = { ...made, claims: { ...made.claims, hostname: `${i}.test` } };
        session.handler = admission.admit(opened, session as unknown as Session, REMOTE);
        return session;
      });
      const calls = (call: string) => sessions.filter((session) => session.calls.includes(call)).length;
      const pass = async (durationMs: number) => {
        for (let ms = 0; ms < durationMs; ms += 20) {
          await turns();
          clock.run(20);
        }
        await turns();
      };
      const closing = registry.close(600_000);
      await pass(MOVE_PATIENCE_MS);
      assert.equal(calls("askToMove"), 5_020);
      assert.equal(calls("goAway shutdown"), 0, "the first are cut before the last are asked");
      await pass(480);
      assert.equal(calls("askToMove"), 5_500);
      // All move but two of those asked last; they are cut when their time is over, and no sooner.
      for (const claim of claims.slice(0, -2)) claim.lost([claim.owner], "replaced");
      await pass(MOVE_PATIENCE_MS - 40);
      assert.equal(calls("goAway shutdown"), 0);
      await pass(80);
      assert.equal(calls("goAway shutdown"), 2);
      await pass(LEFT_MS + 40);
      assert.equal(await isSettled(closing), true);
      assert.equal(calls("close shutdown"), 5_500);
    },
  );

  it("waits for the other nodes no longer than the grace", async () => {
    const { registry, opens, claims, clock } = bench({ cluster: { last: false } });
    opens("a.test");
    const graceMs = LEFT_MS / 2;
    const closing = registry.close(graceMs);
    claims[0]!.lost(["a.test"], "replaced");
    for (let ms = 0; ms < graceMs; ms += 20) {
      await turns();
      clock.run(20);
    }
    assert.equal(await isSettled(closing), true);
  });

  it("nobody is asked to move by the last edge, or where there is no time", async () => {
    for (const [last, graceMs] of [[true, 60_000], [false, 0]] as const) {
      const { registry, opens } = bench({ cluster: { last } });
      const session = opens("a.test");
      assert.equal(await isSettled(registry.close(graceMs)), true);
      assert.deepEqual(session.calls, ["goAway shutdown", "close shutdown"]);
    }
  });
});
