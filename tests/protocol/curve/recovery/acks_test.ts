/** AckTracker: what is acknowledged, and when (RFC 9000, 13.2; docs/protocols/curve.md, Acknowledgements). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ACK_RANGES_MAX } from "../../../../src/wire/curve/curve_frame.ts";
import { AckTracker } from "../../../../src/protocol/curve/recovery/acks.ts";
import { MAX_ACK_DELAY_MS } from "../../../../src/protocol/curve/recovery/rtt.ts";

function tracker(...numbers: number[]): AckTracker {
  const acks = new AckTracker();
  for (const number of numbers) acks.received(number, true, 100);
  return acks;
}

describe("AckTracker", () => {
  it("has nothing to say at first", () => {
    const acks = tracker();
    assert.deepEqual([acks.pending, acks.due(1e9), acks.dueMs, acks.largest], [false, false, Infinity, -1]);
  });

  it("one packet in order waits MAX_ACK_DELAY_MS", () => {
    const acks = tracker(0);
    assert.deepEqual([acks.pending, acks.dueMs], [true, 100 + MAX_ACK_DELAY_MS]);
    assert.deepEqual([acks.due(100 + MAX_ACK_DELAY_MS - 0.1), acks.due(100 + MAX_ACK_DELAY_MS)], [
      false,
      true,
    ]);
  });

  it("the second packet is acknowledged at once", () => {
    const acks = tracker(0, 1);
    assert.deepEqual([acks.due(100), acks.dueMs], [true, -Infinity]);
  });

  it("the delay counts from the first packet that waits", () => {
    const acks = tracker();
    acks.received(0, true, 100);
    acks.received(1, false, 110);
    assert.equal(acks.dueMs, 100 + MAX_ACK_DELAY_MS);
  });

  it("a gap, and what fills it, is acknowledged at once and counted as reordered where it is late", () => {
    const gap = tracker(0);
    gap.written(false);
    gap.received(2, true, 100);
    assert.deepEqual([gap.due(100), gap.reordered], [true, 0]);
    gap.written(false);
    gap.received(1, true, 100);
    assert.deepEqual([gap.due(100), gap.reordered, gap.largest], [true, 1, 2]);
  });

  it("packets that ask for nothing are kept and not acknowledged by themselves", () => {
    const acks = tracker();
    for (let number = 0; number < 5; number++) acks.received(number, false, 100);
    assert.deepEqual([acks.pending, acks.due(1e9), acks.dueMs, acks.largest], [false, false, Infinity, 4]);
  });

  it("written() begins anew", () => {
    const acks = tracker(0, 1);
    acks.written(false);
    assert.deepEqual([acks.pending, acks.due(1e9), acks.dueMs], [false, false, Infinity]);
    acks.received(2, true, 200);
    assert.equal(acks.dueMs, 200 + MAX_ACK_DELAY_MS);
  });

  it("delayUs() is how long the largest number has waited, in whole µs", () => {
    const acks = tracker();
    acks.received(5, true, 100);
    acks.received(3, true, 140);
    assert.deepEqual([acks.delayUs(150.0004), acks.delayUs(100), acks.delayUs(90)], [50_000, 0, 0]);
    acks.received(6, true, 149);
    assert.equal(acks.delayUs(150.0016), 1002);
  });

  it("confirmed() drops what the peer knows of", () => {
    const acks = tracker(0, 1, 2, 5, 6);
    acks.confirmed(1);
    assert.deepEqual([acks.ranges.size, acks.ranges.start(0), acks.ranges.end(0)], [2, 2, 3]);
    acks.confirmed(6);
    assert.deepEqual([acks.ranges.size, acks.largest, acks.pending], [0, -1, false]);
  });

  it("no more than ACK_RANGES_MAX ranges are kept; the lowest go", () => {
    const acks = tracker();
    for (let i = 0; i <= ACK_RANGES_MAX; i++) acks.received(2 * i, true, 100);
    assert.deepEqual([acks.ranges.size, acks.ranges.start(0)], [ACK_RANGES_MAX, 2]);
  });

  it("every 16th ACK in a row that goes alone with eight ranges or more asks for one in return", () => {
    const asks = (ranges: number, alone: (i: number) => boolean) => {
      const acks = tracker();
      for (let i = 0; i < ranges; i++) acks.received(2 * i, true, 100);
      return Array.from({ length: 33 }, (_, i) => acks.written(alone(i + 1)) ? i + 1 : 0).filter((i) =>
        i > 0
      );
    };
    assert.deepEqual(asks(8, () => true), [16, 32]);
    assert.deepEqual(asks(7, () => true), []);
    // One that goes along with data has itself acknowledged anyway: the count begins again.
    assert.deepEqual(asks(8, (i) => i !== 10), [26]);
  });
});
