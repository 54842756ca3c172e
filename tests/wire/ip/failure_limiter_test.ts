import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FailureLimiter } from "../../../src/wire/ip/failure_limiter.ts";

describe("FailureLimiter", () => {
  it("are too many at the limit, for a minute", () => {
    const limiter = new FailureLimiter(3);
    assert.deepEqual([0, 1, 2].map((ms) => limiter.failed("192.0.2.1", ms)), [false, false, true]);
    assert.equal(limiter.over("192.0.2.1", 3), true);
    assert.equal(limiter.over("192.0.2.2", 3), false);
    assert.equal(limiter.over("192.0.2.1", 60_000), false);
    assert.equal(limiter.failed("192.0.2.1", 60_000), false);
    assert.equal(limiter.over("192.0.2.1", 60_001), false);
  });

  it("count for a minute from the first, whenever that is, and are forgotten by clear()", () => {
    const limiter = new FailureLimiter(2);
    const startMs = 1_000_000;
    assert.equal(limiter.failed("192.0.2.1", startMs), false);
    assert.equal(limiter.failed("192.0.2.1", startMs + 59_999), true);
    assert.equal(limiter.over("192.0.2.1", startMs + 59_999), true);
    assert.equal(limiter.over("192.0.2.1", startMs + 60_000), false);
    limiter.failed("192.0.2.2", startMs);
    limiter.failed("192.0.2.2", startMs);
    limiter.clear("192.0.2.2");
    assert.equal(limiter.over("192.0.2.2", startMs), false);
    assert.equal(limiter.failed("192.0.2.2", startMs), false);
  });

  it("count together for an IPv6 /64, of which one host has all", () => {
    const limiter = new FailureLimiter(2);
    limiter.failed("2001:db8::1", 0);
    assert.equal(limiter.failed("2001:db8::ffff:2", 0), true);
    assert.equal(limiter.over("2001:db8:0:0:abcd::", 0), true);
    assert.equal(limiter.over("2001:db8:0:1::1", 0), false);
  });

  it("are remembered for so many sources, the latest", () => {
    const limiter = new FailureLimiter(1);
    for (let i = 0; i <= 4096; i++) limiter.failed(`10.0.${i >> 8}.${i & 255}`, 0);
    assert.equal(limiter.over("10.0.0.0", 0), false);
    assert.equal(limiter.over("10.0.0.1", 0), true);
    assert.equal(limiter.over("10.0.16.0", 0), true);
  });
});
