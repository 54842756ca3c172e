import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BURST_MS, TokenBucket } from "../../../src/edge/ledger/token_bucket.ts";
import { VirtualClock } from "../../support/virtual_clock.ts";

describe("TokenBucket", () => {
  it("take() lets BURST_MS of the rate through at once, and then asks for the time of the debt", () => {
    const bucket = new TokenBucket(new VirtualClock(), 10_000);
    assert.equal(BURST_MS, 50);
    assert.equal(bucket.take(500), 0);
    assert.equal(bucket.take(10), 1);
    assert.equal(bucket.take(990), 100);
  });

  it("waitMs is whole milliseconds, rounded up, and falls as time passes", () => {
    const clock = new VirtualClock();
    const bucket = new TokenBucket(clock, 10_000);
    bucket.take(501);
    assert.equal(bucket.waitMs, 1);
    bucket.take(10);
    assert.equal(bucket.waitMs, 2);
    clock.run(1);
    assert.equal(bucket.waitMs, 1);
    clock.run(1);
    assert.equal(bucket.waitMs, 0);
  });

  it("take() after a quiet time finds a burst and no more", () => {
    const clock = new VirtualClock();
    const bucket = new TokenBucket(clock, 1_000, 50);
    clock.run(3_600_000);
    assert.equal(bucket.take(60), 10);
  });

  it("fills up to its burst and no further", () => {
    const clock = new VirtualClock();
    const bucket = new TokenBucket(clock, 1_000, 3);
    clock.run(3_600_000);
    assert.deepEqual([1, 1, 1, 1].map((one) => bucket.tryTake(one)), [true, true, true, false]);
    clock.run(2);
    assert.deepEqual([2, 1].map((some) => bucket.tryTake(some)), [true, false]);
  });

  it("tryTake() takes exactly what is there, and nothing where it isn't enough", () => {
    const bucket = new TokenBucket(new VirtualClock(), 1_000, 10);
    assert.equal(bucket.tryTake(11), false);
    assert.equal(bucket.tryTake(10), true);
    assert.equal(bucket.tryTake(1), false);
    assert.equal(bucket.waitMs, 0);
  });

  it("setRate() holds from now on: what has been earned was earned at the old rate", () => {
    const clock = new VirtualClock();
    const bucket = new TokenBucket(clock, 1_000, 100);
    bucket.take(100);
    clock.run(50);
    bucket.setRate(2_000, 100);
    assert.equal(bucket.tryTake(51), false);
    assert.equal(bucket.tryTake(50), true);
    clock.run(10);
    assert.equal(bucket.tryTake(20), true);
    assert.equal(bucket.tryTake(1), false);
  });

  it("setRate() with a smaller burst leaves no more than that", () => {
    const clock = new VirtualClock();
    const bucket = new TokenBucket(clock, 1_000, 100);
    bucket.setRate(1_000, 7);
    assert.equal(bucket.tryTake(8), false);
    assert.equal(bucket.tryTake(7), true);
    clock.run(1_000);
    assert.equal(bucket.tryTake(8), false);
    const other = new TokenBucket(new VirtualClock(), 100_000);
    other.setRate(1_000);
    assert.equal(other.tryTake(51), false);
    assert.equal(other.tryTake(50), true);
  });
});
