/** Pacer: a window spread over its round trip (RFC 9002, 7.7). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { CongestionControl } from "../../../../src/protocol/curve/congestion/congestion.ts";
import { Pacer } from "../../../../src/protocol/curve/congestion/pacer.ts";

const control = (windowBytes: number, slowStart: boolean) =>
  ({ windowBytes, slowStart }) as Partial<CongestionControl> as CongestionControl;

/** Sends whole datagrams as the pacer lets them go; says when each went. */
function times(pacer: Pacer, until: number, window: CongestionControl, rttMs: number, size = 1000): number[] {
  const sent: number[] = [];
  let nowMs = 0;
  while (sent.length < until) {
    pacer.update(nowMs, window, rttMs, size);
    while (pacer.open && sent.length < until) {
      pacer.spend(size);
      sent.push(nowMs);
    }
    nowMs = Math.max(nowMs, pacer.openAtMs());
  }
  return sent;
}

describe("Pacer", () => {
  it("lets ten datagrams go at once, and the rest at 5/4 of the window a round trip", () => {
    // 100 KB a 100 ms: 1,250 bytes a ms.
    const sent = times(new Pacer(), 210, control(100_000, false), 100);
    assert.deepEqual(sent.slice(0, 10), new Array(10).fill(0));
    assert.ok(sent[10]! > 0);
    const rate = 200 * 1000 / (sent[209]! - sent[9]!);
    assert.ok(Math.abs(rate - 1250) < 15, `${rate}`);
  });

  it("goes at twice the window a round trip in slow start", () => {
    const sent = times(new Pacer(), 210, control(100_000, true), 100);
    const rate = 200 * 1000 / (sent[209]! - sent[9]!);
    assert.ok(Math.abs(rate - 2000) < 25, `${rate}`);
  });

  it("lets go at once what is due within 2 ms, 64 KiB at most", () => {
    const burst = (window: number) => {
      const pacer = new Pacer();
      pacer.update(0, control(window, false), 10, 1000);
      let count = 0;
      for (; pacer.open; count++) pacer.spend(1000);
      return count;
    };
    // 16 KB a ms make 32 KB.
    assert.equal(burst(128_000), 32);
    assert.equal(burst(8_000_000), 66);
    assert.equal(burst(8_000), 10);
  });

  it("openAtMs() is when one byte is there again, and a little later at least", () => {
    const pacer = new Pacer();
    pacer.update(1000, control(80_000, false), 100, 1000);
    for (let i = 0; i < 10; i++) pacer.spend(1000);
    // 1,000 bytes a ms; nothing left.
    assert.ok(Math.abs(pacer.openAtMs() - 1000.05) < 1e-9, `${pacer.openAtMs()}`);
    pacer.spend(1000);
    assert.ok(Math.abs(pacer.openAtMs() - 1001.001) < 1e-9, `${pacer.openAtMs()}`);
  });

  it("time that passes unused fills no more than a burst, and time that runs back nothing", () => {
    const pacer = new Pacer();
    pacer.update(0, control(80_000, false), 100, 1000);
    pacer.update(1e6, control(80_000, false), 100, 1000);
    for (let i = 0; i < 10; i++) pacer.spend(1000);
    assert.equal(pacer.open, false);
    pacer.update(1e6 - 5, control(80_000, false), 100, 1000);
    assert.equal(pacer.open, false);
  });

  it("a round trip of nothing gives no infinite rate", () => {
    const pacer = new Pacer();
    pacer.update(0, control(1000, false), 0, 1000);
    for (let i = 0; i < 100; i++) pacer.spend(1000);
    // 1.25 × 1000 / 0.05 = 25,000 bytes a ms, a burst of 50,000: 50,000 in debt.
    assert.ok(Math.abs(pacer.openAtMs() - 2.00004) < 1e-9, `${pacer.openAtMs()}`);
  });
});
