/** Heartbeat: what counts as life, pings, peers that don't read (docs/protocols/snitun.md, Behaviour). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { Heartbeat, type Patience } from "../../../src/protocol/mux/heartbeat.ts";
import { pattern, seededSource } from "../../support/seeded.ts";

const START_MS = 1000;

function bench(patience?: Patience) {
  const sent: [string, Bytes, number][] = [];
  const clock = { now: START_MS };
  const heartbeat = new Heartbeat(
    { nowMs: () => clock.now, arm() {} },
    seededSource(1),
    {
      sendPing: (which, id) => {
        sent.push([which, id, clock.now - START_MS]);
        heartbeat.said(true);
      },
    },
    patience,
  );
  let due = heartbeat.start();
  /** Lets time pass with every deadline in between, as its session would; says what ended it. */
  const until = (ms: number): string | undefined => {
    while (due <= START_MS + ms) {
      clock.now = Math.max(clock.now, due);
      try {
        due = heartbeat.tick(clock.now);
      } catch (error) {
        return `${(error as { code: string }).code} at ${clock.now - START_MS}`;
      }
    }
    clock.now = START_MS + ms;
    return undefined;
  };
  return { heartbeat, sent, clock, started: due, until };
}

describe("Heartbeat: pings", () => {
  it("start() says when the first ping is due", () => {
    assert.equal(bench().started, START_MS + 5_000);
    assert.equal(bench({ pingIntervalMs: 700 }).started, START_MS + 700);
  });

  it("pings 5 s after the last that it heard, however much it says itself", () => {
    const { heartbeat, sent, until } = bench();
    until(2_000);
    heartbeat.heard();
    for (let at = 2_000; at <= 6_500; at += 500) {
      until(at);
      heartbeat.said(true);
    }
    assert.equal(sent.length, 0);
    until(7_000);
    assert.deepEqual(sent.map(([which, , at]) => [which, at]), [["ping", 7_000]]);
  });

  it("pings 5 s after the last that it said, however much it hears: the peer must hear of it", () => {
    const { heartbeat, sent, until } = bench();
    until(1_000);
    heartbeat.said(true);
    for (let at = 1_000; at <= 5_500; at += 500) {
      until(at);
      heartbeat.heard();
    }
    assert.equal(sent.length, 0);
    until(6_000);
    assert.deepEqual(sent.map(([, , at]) => at), [6_000]);
  });

  it("pings at most every 5 s, with another id each time", () => {
    const { sent, until } = bench();
    until(14_000);
    assert.deepEqual(sent.map(([, , at]) => at), [5_000, 10_000]);
    assert.notDeepEqual(sent[0]![1], sent[1]![1]);
  });

  it("received(): answers a ping with its id, takes the last ping's pong for the round trip, and no other", () => {
    const { heartbeat, sent, clock, until } = bench();
    assert.equal(heartbeat.received("ping", pattern(16, 3)), true);
    assert.deepEqual(sent[0]!.slice(0, 2), ["pong", pattern(16, 3)]);
    until(5_000);
    const [, id] = sent.at(-1)!;
    clock.now += 40;
    assert.equal(heartbeat.received("pong", pattern(16, 9)), false);
    assert.equal(heartbeat.rttMs, undefined);
    assert.equal(heartbeat.received("pong", id), true);
    assert.equal(heartbeat.rttMs, 40);
    assert.equal(heartbeat.received("pong", id), false, "once");
    assert.equal(heartbeat.received(undefined, id), false);
  });
});

describe("Heartbeat: silence", () => {
  it("ends the session with pong_missing 15 s after the last that was heard", () => {
    const { heartbeat, until } = bench();
    assert.equal(until(9_000), undefined);
    heartbeat.heard();
    assert.equal(until(30_000), "pong_missing at 24000");
    assert.equal(bench({ silenceMaxMs: 4_000 }).until(30_000), "pong_missing at 4000");
  });

  it("doesn't count what it says itself", () => {
    const { heartbeat, until } = bench();
    let ended: string | undefined;
    for (let at = 0; ended === undefined; at += 500) {
      heartbeat.said(true);
      ended = until(at);
    }
    assert.equal(ended, "pong_missing at 15000");
  });

  it("hold() stops the count while this side doesn't read, and restarts it afterwards", () => {
    const { heartbeat, until } = bench();
    heartbeat.hold(true);
    assert.equal(until(100_000), undefined);
    heartbeat.hold(false);
    assert.equal(until(200_000), "pong_missing at 115000");
  });

  it("hold() of a side that reads, or that holds already, is no life", () => {
    const { heartbeat, until } = bench();
    until(10_000);
    heartbeat.hold(false);
    assert.equal(until(200_000), "pong_missing at 15000");
    const other = bench();
    other.heartbeat.hold(true);
    other.until(10_000);
    other.heartbeat.hold(false);
    other.until(20_000);
    other.heartbeat.hold(false);
    assert.equal(other.until(200_000), "pong_missing at 25000");
  });

  it("unblocked() is life: the peer's system has taken bytes", () => {
    const { heartbeat, until } = bench();
    heartbeat.said(false);
    until(10_000);
    heartbeat.unblocked();
    assert.equal(until(200_000), "pong_missing at 25000");
  });

  it("gives a process that was stopped one more interval to read what has come", () => {
    const { heartbeat, clock } = bench();
    clock.now += 100_000;
    assert.equal(heartbeat.tick(clock.now), clock.now + 5_000);
    clock.now += 5_000;
    assert.throws(() => heartbeat.tick(clock.now), { code: "pong_missing" });
  });
});

describe("Heartbeat: peers that don't read", () => {
  it("ends the session with session_stalled 90 s after the write that wasn't taken", () => {
    const { heartbeat, until } = bench();
    until(1_000);
    assert.equal(heartbeat.said(false), START_MS + 91_000);
    let ended: string | undefined;
    for (let at = 1_000; ended === undefined; at += 1_000) {
      heartbeat.heard();
      ended = until(at);
    }
    assert.equal(ended, "session_stalled at 91000");
  });

  it("doesn't end it where the peer reads again in time", () => {
    const { heartbeat, until } = bench();
    heartbeat.said(false);
    for (let at = 0; at < 300_000; at += 1_000) {
      if (at === 80_000) heartbeat.unblocked();
      heartbeat.heard();
      assert.equal(until(at), undefined);
    }
  });
});
