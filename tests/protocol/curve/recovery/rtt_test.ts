/** RttEstimate against RFC 9002, section 5 and appendix A. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { MAX_ACK_DELAY_MS, RttEstimate } from "../../../../src/protocol/curve/recovery/rtt.ts";

const close = (actual: number, expected: number, what?: string) =>
  assert.ok(Math.abs(actual - expected) < 1e-9, `${what ?? "value"}: ${actual}, not ${expected}`);

describe("RttEstimate", () => {
  it("begins with 333 ms and half of it (RFC 9002, 6.2.2 and 5.3)", () => {
    const rtt = new RttEstimate();
    assert.deepEqual([rtt.smoothedMs, rtt.variationMs, rtt.minMs, rtt.measured], [
      333,
      166.5,
      Infinity,
      false,
    ]);
  });

  // sample, the peer's delay, then latest, minimum, adjusted, smoothed and variation after it.
  const table: [number, number, number, number, number, number, number][] = [
    // The first sample is taken as it is (5.3).
    [100, 0, 100, 100, 100, 100, 50],
    // 7/8 and 1/8, 3/4 and 1/4; the variation is measured against the smoothed value before.
    [180, 0, 180, 100, 180, 110, 57.5],
    [110, 0, 110, 100, 110, 110, 43.125],
    // The peer's delay is taken off,
    [130, 10, 130, 100, 120, 111.25, 34.84375],
    // at most MAX_ACK_DELAY_MS of it,
    [171.25, 500, 171.25, 100, 151.25, 116.25, 36.1328125],
    // and not where it would go below the minimum.
    [105, 10, 105, 100, 105, 114.84375, 29.912109375],
    // Exactly the minimum is allowed.
    [110, 10, 110, 100, 100, 112.98828125, 26.14501953125],
    // A new minimum.
    [50, 0, 50, 50, 50, 105.11474609375, 35.3558349609375],
  ];
  it("update() follows the table", () => {
    const rtt = new RttEstimate();
    table.forEach(([sample, delay, latest, min, adjusted, smoothed, variation], i) => {
      rtt.update(sample, delay);
      assert.equal(rtt.measured, true);
      close(rtt.latestMs, latest, `latest ${i}`);
      close(rtt.minMs, min, `min ${i}`);
      close(rtt.adjustedMs, adjusted, `adjusted ${i}`);
      close(rtt.smoothedMs, smoothed, `smoothed ${i}`);
      close(rtt.variationMs, variation, `variation ${i}`);
    });
  });

  it("update() takes the first sample's delay off only above the sample itself, its own minimum", () => {
    const rtt = new RttEstimate();
    rtt.update(100, 15);
    assert.deepEqual([rtt.adjustedMs, rtt.smoothedMs], [100, 100]);
  });

  it("ptoMs() is smoothed + 4 × variation + the peer's delay (6.2.1), doubled after each unanswered probe, 2 s at most", () => {
    const rtt = new RttEstimate();
    rtt.update(100, 0);
    // 100 + 4 × 50 + 20
    assert.deepEqual([0, 1, 2, 3, 4, 10, 11, 40].map((count) => rtt.ptoMs(count)), [
      320,
      640,
      1280,
      2000,
      2000,
      2000,
      2000,
      2000,
    ]);
    assert.equal(MAX_ACK_DELAY_MS, 20);
    const slow = new RttEstimate();
    slow.update(3_000, 0);
    assert.deepEqual(
      [0, 3].map((count) => slow.ptoMs(count)),
      [9_020, 9_020],
      "no probe before an answer can come",
    );
  });

  it("ptoMs() before a measurement is 333 + 4 × 166.5 + 20", () => {
    assert.equal(new RttEstimate().ptoMs(0), 1019);
  });

  it("ptoMs() counts no less than 1 ms of variation, and no more than ten time-outs", () => {
    const rtt = new RttEstimate();
    rtt.update(0.01, 0);
    for (let i = 0; i < 100; i++) rtt.update(0.01, 0);
    close(rtt.ptoMs(0), 0.01 + 1 + MAX_ACK_DELAY_MS);
    close(rtt.ptoMs(6), (0.01 + 1 + MAX_ACK_DELAY_MS) * 64);
  });

  it("lossDelayMs() is 9/8 of the larger of latest and smoothed (6.1.2), 1 ms at least", () => {
    const rtt = new RttEstimate();
    rtt.update(80, 0);
    assert.equal(rtt.lossDelayMs(), 90);
    rtt.update(160, 0);
    assert.equal(rtt.lossDelayMs(), 180);
    rtt.update(8, 0);
    close(rtt.lossDelayMs(), 1.125 * rtt.smoothedMs);
    const short = new RttEstimate();
    short.update(0.2, 0);
    assert.equal(short.lossDelayMs(), 1);
  });

  it("reset() forgets everything", () => {
    const rtt = new RttEstimate();
    rtt.update(10, 0);
    rtt.update(20, 0);
    rtt.reset();
    assert.deepEqual([rtt.latestMs, rtt.minMs, rtt.smoothedMs, rtt.variationMs, rtt.measured], [
      0,
      Infinity,
      333,
      166.5,
      false,
    ]);
    rtt.update(40, 0);
    assert.deepEqual([rtt.smoothedMs, rtt.variationMs], [40, 20]);
  });
});
