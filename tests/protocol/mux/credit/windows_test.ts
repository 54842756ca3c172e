/** ReceiveWindows: what a credit session lets its peer send. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BlockPool } from "../../../../src/bytes/block_pool.ts";
import { ChunkQueue } from "../../../../src/bytes/chunk_queue.ts";
import {
  CREDIT_SESSION_FIRST_BYTES as SESSION_FIRST,
  CREDIT_STREAM_FIRST_BYTES as FIRST,
  CREDIT_STREAM_WINDOW_BYTES as MOST,
  ReceiveWindows,
  type WindowedStream,
} from "../../../../src/protocol/mux/credit/windows.ts";
import { SESSION_HELD_STALL_MS } from "../../../../src/protocol/mux/stall_watch.ts";

interface Fake extends WindowedStream {
  name: string;
  remoteClosed: boolean;
  dead: boolean;
  movedAtMs: number;
}

function bench(budgetBytes: number) {
  const blocks = new BlockPool();
  const streams: Fake[] = [];
  const due: string[] = [];
  const dropped: [string, string][] = [];
  const clock = { now: 0, armed: Infinity };
  const windows = new ReceiveWindows<Fake>({
    host: { nowMs: () => clock.now, arm: (atMs) => void (clock.armed = Math.min(clock.armed, atMs)) },
    budgetBytes,
    streams,
    grant: (stream) => void due.push(stream?.name ?? "session"),
    drop: (stream, code) => {
      dropped.push([stream.name, code]);
      windows.forget(stream);
    },
  });
  const stream = (name: string): Fake => {
    const made: Fake = {
      name,
      incoming: new ChunkQueue(blocks),
      grantedBytes: FIRST,
      receivedBytes: 0,
      consumedBytes: 0,
      creditQueued: false,
      remoteClosed: false,
      dead: false,
      movedAtMs: 0,
      pooledBytes: 0,
    };
    streams.push(made);
    return made;
  };
  /** Bytes that come and are held. */
  const hold = (to: Fake, byteLength: number) => {
    windows.received(to, byteLength);
    windows.hold(to, new Uint8Array(byteLength));
  };
  /** Bytes that come and are taken at once. */
  const pass = (to: Fake, byteLength: number) => {
    windows.received(to, byteLength);
    windows.taken(to, byteLength);
  };
  /** Bytes that were held and are taken now. */
  const take = (from: Fake, byteLength: number) => {
    from.incoming.drop(byteLength);
    windows.release(from, byteLength);
  };
  return { windows, stream, due, dropped, clock, hold, pass, take };
}

/** A session whose whole budget has been offered. */
function started(budgetBytes: number) {
  const stage = bench(budgetBytes);
  stage.windows.start();
  stage.windows.takeGrant(undefined);
  return stage;
}

describe("ReceiveWindows: the session", () => {
  it("start() offers what the budget has beyond the first bytes, where that is a quarter of it", () => {
    for (
      const [budget, more] of [
        [SESSION_FIRST, undefined],
        [SESSION_FIRST * 4 / 3 - 4, undefined],
        [SESSION_FIRST * 4 / 3 + 4, SESSION_FIRST / 3 + 4],
        [32 * SESSION_FIRST, 31 * SESSION_FIRST],
      ] as const
    ) {
      const { windows, due } = bench(Math.floor(budget));
      windows.start();
      assert.deepEqual(due, more === undefined ? [] : ["session"]);
      assert.equal(due.length === 0 ? undefined : windows.takeGrant(undefined), more && Math.floor(more));
    }
  });

  it("one offer waits at a time, and says all that is true when it goes out", () => {
    const { windows, stream, due, pass } = bench(SESSION_FIRST);
    const a = stream("a");
    a.grantedBytes = 10 * SESSION_FIRST;
    pass(a, SESSION_FIRST / 4);
    pass(a, SESSION_FIRST / 4);
    assert.deepEqual(due.filter((name) => name === "session"), ["session"]);
    assert.equal(windows.takeGrant(undefined), SESSION_FIRST / 2);
    pass(a, SESSION_FIRST / 4);
    assert.equal(due.filter((name) => name === "session").length, 2);
  });

  it("received() counts bytes without a stream as taken", () => {
    const { windows } = bench(SESSION_FIRST);
    windows.received(undefined, SESSION_FIRST);
    assert.throws(() => windows.received(undefined, 1), { code: "frame_invalid", message: /on the session/ });
    const other = bench(SESSION_FIRST);
    other.windows.received(undefined, SESSION_FIRST);
    assert.equal(other.windows.takeGrant(undefined), SESSION_FIRST);
    other.windows.received(undefined, SESSION_FIRST);
  });
});

describe("ReceiveWindows: streams", () => {
  it("a stream that takes bytes gets a window as large as what it took and the first bytes, MOST at most", () => {
    const { windows, stream, pass } = started(64 * MOST);
    const a = stream("a");
    for (
      const [taken, window] of [[FIRST, 2 * FIRST], [2 * FIRST, 3 * FIRST], [31 * FIRST, MOST], [
        60 * FIRST,
        MOST,
      ]]
    ) {
      a.grantedBytes = Math.max(a.grantedBytes, taken!);
      pass(a, taken! - a.consumedBytes);
      const before = a.grantedBytes;
      const more = windows.takeGrant(a);
      assert.equal(before + more - a.consumedBytes, window, `after ${taken}`);
    }
  });

  it("CREDIT is due when half of the window is missing, once until it goes out", () => {
    const { windows, stream, due, pass } = started(64 * MOST);
    due.length = 0;
    const a = stream("a");
    // With t taken the window is FIRST + t and 2t of it are missing: due where 2t ≥ (FIRST + t) / 2.
    pass(a, Math.floor(FIRST / 3) - 1);
    assert.deepEqual(due, []);
    pass(a, 2);
    pass(a, 1000);
    assert.deepEqual(due, ["a"]);
    assert.equal(windows.takeGrant(a), 2 * a.consumedBytes);
    assert.equal(windows.takeGrant(a), 0);
    assert.equal(a.creditQueued, false);
  });

  it("what a stream was granted counts for the others until it has been consumed, or the stream is over", () => {
    const { windows, stream, pass } = started(12 * MOST);
    const grown = (one: Fake) => {
      one.grantedBytes = 2 * MOST;
      pass(one, 2 * MOST);
      windows.takeGrant(undefined);
      return windows.takeGrant(one);
    };
    const [first, ...others] = Array.from({ length: 9 }, (_, i) => stream(`${i}`));
    const whole = grown(first!);
    assert.equal(whole, MOST / 2 + MOST / 2);
    const granted = others.map(grown);
    granted.forEach((bytes, at) =>
      assert.ok(bytes < (granted[at - 1] ?? whole) && bytes >= FIRST, `${at}: ${bytes}`)
    );
    for (const other of others.slice(0, 7)) windows.ended(other);
    const last = others[7]!;
    const before = granted[7]!;
    pass(last, before);
    const after = windows.takeGrant(last);
    assert.ok(after > 2 * before && after < whole, `${before}, then ${after}`);
  });

  it("received() beyond what was granted throws frame_invalid", () => {
    const { windows, stream } = started(MOST);
    const a = stream("a");
    windows.received(a, FIRST);
    assert.throws(() => windows.received(a, 1), {
      code: "frame_invalid",
      message: /on the stream than the 131072 /,
    });
  });

  it("no CREDIT for a stream that has ended, either way", () => {
    for (const flag of ["remoteClosed", "dead"] as const) {
      const { windows, stream, due, pass } = bench(64 * MOST);
      const a = stream("a");
      a[flag] = true;
      pass(a, FIRST);
      assert.deepEqual(due.filter((name) => name === "a"), [], flag);
      assert.equal(windows.takeGrant(a), 0, flag);
    }
  });

  it("release() and forget() give back what was held", () => {
    const { windows, stream, hold, take, due } = bench(SESSION_FIRST);
    const a = stream("a");
    const b = stream("b");
    hold(a, FIRST);
    hold(b, FIRST);
    take(a, FIRST);
    assert.deepEqual([a.consumedBytes, due.includes("a")], [FIRST, true]);
    windows.forget(b);
    assert.deepEqual([b.consumedBytes, b.incoming.byteLength], [FIRST, 0]);
    windows.forget(b);
    assert.equal(b.consumedBytes, FIRST);
    assert.deepEqual(due.filter((name) => name === "session"), ["session"]);
    assert.equal(windows.takeGrant(undefined), 2 * FIRST);
  });
});

describe("ReceiveWindows: a budget that is used up", () => {
  it("streams that take nothing are dropped after SESSION_HELD_STALL_MS from seven eighths on, down to six", () => {
    const { windows, stream, hold, clock, dropped } = started(16 * FIRST);
    const streams = Array.from({ length: 14 }, (_, i) => stream(`${i}`));
    for (const one of streams.slice(0, 13)) hold(one, FIRST);
    hold(streams[13]!, FIRST - 1);
    assert.equal(clock.armed, Infinity);
    hold(streams[13]!, 1);
    assert.equal(clock.armed, 0);
    assert.equal(windows.tick(0), SESSION_HELD_STALL_MS / 10);
    const dueMs = SESSION_HELD_STALL_MS - 1 + SESSION_HELD_STALL_MS / 10;
    assert.equal(windows.tick(SESSION_HELD_STALL_MS - 1), dueMs);
    assert.deepEqual(dropped, []);
    windows.tick(dueMs);
    assert.deepEqual(dropped, [["0", "stream_overflow"], ["1", "stream_overflow"]]);
    assert.equal(windows.tick(1e9), Infinity);
  });

  it("streams that have taken nothing for SESSION_HELD_STALL_MS by then are dropped at once", () => {
    const { windows, stream, hold, clock, dropped } = started(16 * FIRST);
    for (let i = 0; i < 10; i++) hold(stream(`${i}`), FIRST);
    clock.now = SESSION_HELD_STALL_MS;
    for (let i = 10; i < 14; i++) hold(stream(`${i}`), FIRST);
    windows.tick(SESSION_HELD_STALL_MS);
    assert.deepEqual(dropped.map(([name]) => name), ["0", "1"]);
  });

  it("taking down to six eighths of the budget ends the watch, a byte more doesn't", () => {
    const { windows, stream, hold, take } = started(16 * FIRST);
    const streams = Array.from({ length: 14 }, (_, i) => stream(`${i}`));
    for (const one of streams) hold(one, FIRST);
    take(streams[0]!, FIRST);
    take(streams[1]!, FIRST - 1);
    assert.equal(windows.tick(1), 1 + SESSION_HELD_STALL_MS / 10);
    take(streams[1]!, 1);
    assert.equal(windows.tick(1), Infinity);
  });
});
