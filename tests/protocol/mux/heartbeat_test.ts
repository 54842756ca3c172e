/** Heartbeat: pings, idle sessions, peers that don't read (docs/protocols/snitun.md, Behaviour). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { Heartbeat } from "../../../src/protocol/mux/heartbeat.ts";
import { pattern, seededSource } from "../../support/seeded.ts";

const START_MS = 1000;

function bench(role: "agent" | "edge") {
  const sent: [string, Bytes][] = [];
  const clock = { now: START_MS };
  const heartbeat = new Heartbeat(
    { nowMs: () => clock.now, arm() {} },
    seededSource(1),
    { role, sendPing: (which, id) => void sent.push([which, id]) },
  );
  const started = heartbeat.start();
  /** Lets time pass with every deadline in between, as its session would; says what ended it. */
  const until = (ms: number): string | undefined => {
    for (;;) {
      let next = Infinity;
      try {
        next = heartbeat.tick(clock.now);
      } catch (error) {
        return (error as { code: string }).code;
      }
      if (next > START_MS + ms) break;
      clock.now = Math.max(next, clock.now + 1);
    }
    clock.now = START_MS + ms;
    return undefined;
  };
  return { heartbeat, sent, clock, started, until };
}

describe("Heartbeat: pings", () => {
  it("start() says when it is due: an agent's ping or an edge's idle tick, whichever comes first", () => {
    assert.equal(bench("agent").started, START_MS + 30_000);
    assert.equal(bench("edge").started, START_MS + 30_000);
  });

  it("an agent pings every 50 s, with another id each time", () => {
    const { heartbeat, sent, until, clock } = bench("agent");
    for (let at = 25_000; at <= 155_000; at += 5_000) {
      assert.equal(until(at), undefined);
      heartbeat.active = true;
      const last = sent.at(-1);
      if (last !== undefined) heartbeat.received("pong", last[1]);
    }
    assert.deepEqual(sent.map(([which]) => which), ["ping", "ping", "ping"]);
    assert.notDeepEqual(sent[0]![1], sent[1]![1]);
    assert.equal(clock.now, START_MS + 155_000);
  });

  it("an edge doesn't ping", () => {
    const { heartbeat, sent, until } = bench("edge");
    for (let at = 0; at < 300_000; at += 10_000) {
      heartbeat.active = true;
      assert.equal(until(at), undefined);
    }
    assert.deepEqual(sent, []);
  });

  it("received() answers a ping with its own bytes", () => {
    const { heartbeat, sent } = bench("edge");
    assert.equal(heartbeat.received("ping", pattern(16, 4)), true);
    assert.deepEqual(sent, [["pong", pattern(16, 4)]]);
  });

  it("received() measures the round trip by its ping's pong, once", () => {
    const { heartbeat, sent, until, clock } = bench("agent");
    until(50_000);
    clock.now += 37;
    const [, id] = sent[0]!;
    const wrong = id.slice();
    wrong[15]! ^= 1;
    assert.equal(heartbeat.received("pong", wrong), false);
    assert.equal(heartbeat.rttMs, undefined);
    assert.equal(heartbeat.received("pong", id), true);
    assert.equal(heartbeat.rttMs, 37);
    clock.now += 10;
    assert.equal(heartbeat.received("pong", id), false);
    assert.equal(heartbeat.rttMs, 37);
  });

  it("received() knows no pong before a ping, and nothing that is neither", () => {
    const { heartbeat, sent } = bench("agent");
    assert.equal(heartbeat.received("pong", pattern(16)), false);
    assert.equal(heartbeat.received(undefined, pattern(16)), false);
    assert.deepEqual(sent, []);
  });

  it("tick() throws pong_missing 90 s after the first ping without an answer, whatever is asked in between", () => {
    const { heartbeat, sent, until } = bench("agent");
    for (let at = 0; at < 140_000; at += 1000) {
      heartbeat.active = true;
      assert.equal(until(at), undefined, `${at}`);
    }
    assert.equal(sent.length, 2);
    heartbeat.active = true;
    assert.equal(until(140_000), "pong_missing");
  });

  it("a pong takes the deadline away", () => {
    const { heartbeat, sent, until } = bench("agent");
    until(50_000);
    heartbeat.received("pong", sent[0]![1]);
    heartbeat.active = true;
    until(99_000);
    heartbeat.active = true;
    assert.equal(until(101_000), undefined);
    heartbeat.received("pong", sent[1]![1]);
    heartbeat.active = true;
    until(120_000);
    heartbeat.active = true;
    assert.equal(until(149_999), undefined);
  });
});

describe("Heartbeat: idle sessions", () => {
  it("tick() throws session_idle at the third idle tick in a row behind one with traffic", () => {
    const { heartbeat, until } = bench("edge");
    heartbeat.active = true;
    assert.equal(until(30_000), undefined);
    assert.equal(heartbeat.idle, false);
    assert.equal(until(60_000), undefined);
    assert.equal(heartbeat.idle, true);
    assert.equal(until(119_999), undefined);
    assert.equal(until(120_000), "session_idle");
  });

  it("a byte in any tick begins the count anew", () => {
    const { heartbeat, until } = bench("edge");
    until(60_000);
    heartbeat.active = true;
    until(90_000);
    assert.equal(heartbeat.idle, false);
    assert.equal(until(179_999), undefined);
    assert.equal(until(180_000), "session_idle");
  });
});

describe("Heartbeat: peers that don't read", () => {
  it("tick() throws session_stalled 90 s after the connection was full, whatever comes in", () => {
    const { heartbeat, until, clock } = bench("edge");
    until(10_000);
    heartbeat.blockedSinceMs = clock.now;
    for (let at = 10_000; at < 100_000; at += 10_000) {
      heartbeat.active = true;
      assert.equal(until(at), undefined, `${at}`);
    }
    heartbeat.active = true;
    assert.equal(until(99_999), undefined);
    assert.equal(until(100_000), "session_stalled");
  });

  it("tick() says when the next of its deadlines is", () => {
    const { heartbeat, clock } = bench("edge");
    assert.equal(heartbeat.tick(clock.now), START_MS + 30_000);
    heartbeat.blockedSinceMs = START_MS - 70_000;
    assert.equal(heartbeat.tick(clock.now), START_MS + 20_000);
    heartbeat.blockedSinceMs = undefined;
    assert.equal(heartbeat.tick(clock.now), START_MS + 30_000);
  });
});
