/** WindowPool: streams that stall, in any order and after any reading, leave room in their session for the others. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type PooledStream, WindowPool } from "../../../src/protocol/mux/window_pool.ts";

const FIRST = 128 * 1024;
const MOST = 4 * 1024 * 1024;
const BUDGET = 48 * 1024 * 1024;

interface Fake extends PooledStream {
  incoming: { byteLength: number };
  movedAtMs: number;
  grantedBytes: number;
  consumedBytes: number;
}

/** A session whose streams are granted what the pool says, as those of the transports are. */
class Session {
  nowMs = 0;
  readonly streams: Fake[] = [];
  readonly dropped: Fake[] = [];
  readonly pool = new WindowPool<Fake>(
    { nowMs: () => this.nowMs, arm: () => {} },
    this.streams,
    (stream) => {
      this.dropped.push(stream);
      stream.incoming = { byteLength: 0 };
      this.pool.granted(stream, 0);
      this.pool.check(BUDGET, this.unreadBytes);
    },
    FIRST,
    MOST,
  );

  get unreadBytes(): number {
    return this.streams.reduce((sum, { incoming }) => sum + incoming.byteLength, 0);
  }

  open(): Fake {
    const incoming = { byteLength: 0 };
    const stream = { incoming, movedAtMs: this.nowMs, pooledBytes: 0, grantedBytes: FIRST, consumedBytes: 0 };
    this.streams.push(stream);
    return stream;
  }

  windowOf(stream: Fake): number {
    return this.pool.windowOf(stream, stream.consumedBytes, BUDGET, this.unreadBytes);
  }

  /** The peer sends as much, and the reader takes it at once. */
  read(stream: Fake, byteLength: number): void {
    for (let left = byteLength; left > 0;) {
      const piece = Math.min(left, stream.grantedBytes - stream.consumedBytes);
      stream.consumedBytes += piece;
      left -= piece;
      const outstanding = stream.grantedBytes - stream.consumedBytes;
      this.pool.granted(stream, outstanding);
      const window = this.windowOf(stream);
      if (outstanding > window / 2) continue;
      stream.grantedBytes = stream.consumedBytes + window;
      this.pool.granted(stream, window);
    }
  }

  /** The reader stops, and the peer sends all that was granted. */
  stall(stream: Fake): void {
    stream.movedAtMs = this.nowMs;
    stream.incoming = { byteLength: stream.grantedBytes - stream.consumedBytes };
    this.pool.check(BUDGET, this.unreadBytes);
  }
}

describe("WindowPool", () => {
  it("streams that have been read and stall hold half of the budget, and their first bytes, at most", () => {
    const reading = fc.record({
      reads: fc.array(fc.nat(16 * MOST), { maxLength: 4 }),
      stallsAt: fc.nat(3),
    });
    fc.assert(fc.property(fc.array(reading, { minLength: 1, maxLength: 140, size: "max" }), (plans) => {
      const session = new Session();
      const streams = plans.map((plan) => ({ ...plan, stream: session.open() }));
      for (let round = 0; round < 4; round++) {
        for (const { stream, reads, stallsAt } of streams) {
          if (stallsAt < round) continue;
          session.read(stream, reads[round] ?? 0);
          if (stallsAt === round) session.stall(stream);
        }
      }
      assert.ok(session.unreadBytes <= BUDGET / 2 + plans.length * FIRST, `${session.unreadBytes}`);
      assert.deepEqual(session.dropped, []);
      assert.ok(session.unreadBytes + FIRST <= BUDGET, "a new stream finds room");
    }));
  });

  it("one stream alone gets the largest window, readers share, and a late one gets its part", () => {
    const session = new Session();
    const one = session.open();
    session.read(one, 4 * MOST);
    assert.equal(session.windowOf(one), MOST);
    const eight = [one, ...Array.from({ length: 7 }, () => session.open())];
    for (let round = 0; round < 20; round++) for (const stream of eight) session.read(stream, MOST);
    const windows = eight.map((stream) => session.windowOf(stream));
    assert.ok(Math.min(...windows) > MOST / 3, `${windows}`);
    assert.ok(Math.max(...windows) < 1.2 * Math.min(...windows), `${windows}`);
  });

  it("600 streams that stall one after another leave an eighth of the budget, and none is reset", () => {
    const session = new Session();
    for (let count = 0; count < 600; count++) {
      const stream = session.open();
      session.read(stream, 2 * FIRST);
      session.stall(stream);
    }
    assert.ok(session.unreadBytes <= BUDGET * 7 / 8, `${session.unreadBytes}`);
    assert.deepEqual(session.dropped, []);
  });

  it("streams that stall with their first bytes are reset after a second, once there is no other room", () => {
    const session = new Session();
    const fill = () => {
      while (session.unreadBytes < BUDGET * 7 / 8) session.stall(session.open());
    };
    fill();
    assert.equal(session.pool.tick(999), 1_099);
    assert.equal(session.dropped.length, 0);
    session.nowMs = 1_099;
    assert.equal(session.pool.tick(1_099), Infinity);
    assert.equal(session.dropped.length, BUDGET / 8 / FIRST);
    assert.equal(session.pool.tick(2_000), Infinity);
  });

  it("what a stream was granted is free again once it is over", () => {
    const session = new Session();
    const whole = Array.from({ length: 40 }, () => session.open());
    for (const stream of whole) session.read(stream, 4 * MOST);
    const late = session.open();
    session.read(late, 4 * MOST);
    assert.ok(session.windowOf(late) < 2 * FIRST, `${session.windowOf(late)}`);
    for (const stream of whole) session.pool.granted(stream, 0);
    session.read(late, MOST);
    assert.equal(session.windowOf(late), MOST);
  });
});
