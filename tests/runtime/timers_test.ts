/** Timers in bulk, against a native clock that the test moves. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import { Timers } from "../../src/runtime/timers.ts";

describe("Timers", () => {
  let nowMs = 0;
  const realNow = performance.now;
  const realSet = globalThis.setTimeout;
  const realClear = globalThis.clearTimeout;
  let native: { atMs: number; run: () => void }[] = [];

  beforeEach(() => {
    nowMs = 1000;
    native = [];
    performance.now = () => nowMs;
    globalThis.setTimeout = ((run: () => void, delayMs: number) => {
      const timer = { atMs: nowMs + delayMs, run };
      native.push(timer);
      return timer;
    }) as unknown as typeof setTimeout;
    globalThis.clearTimeout = ((timer: unknown) => {
      native = native.filter((other) => other !== timer);
    }) as unknown as typeof clearTimeout;
  });
  afterEach(() => {
    performance.now = realNow;
    globalThis.setTimeout = realSet;
    globalThis.clearTimeout = realClear;
    mock.reset();
  });

  function advance(ms: number): void {
    const until = nowMs + ms;
    for (;;) {
      native.sort((a, b) => a.atMs - b.atMs);
      if (native.length === 0 || native[0].atMs > until) break;
      const timer = native.shift()!;
      nowMs = Math.max(nowMs, timer.atMs);
      timer.run();
    }
    nowMs = until;
  }

  it("fire once, in order, never early and at most 64 ms late", () => {
    const timers = new Timers();
    const fired: [number, number][] = [];
    for (const delayMs of [5000, 4990, 5010, 1000, 30_000, 5000, 50]) {
      const dueMs = nowMs + delayMs;
      timers.after(delayMs, () => fired.push([dueMs, nowMs]));
      advance(7);
    }
    advance(60_000);
    assert.equal(fired.length, 7);
    for (const [dueMs, atMs] of fired) assert.ok(atMs >= dueMs && atMs <= dueMs + 64, `${dueMs} at ${atMs}`);
    assert.equal(native.length, 0);
  });

  it("share one native timer, and let go of it when all are cancelled", () => {
    const timers = new Timers();
    const all = Array.from({ length: 1000 }, () => timers.after(5000, () => assert.fail("was cancelled")));
    assert.equal(native.length, 1);
    for (const timer of all) timer.cancel();
    assert.equal(native.length, 0);
    for (const timer of all) timer.cancel();
    advance(10_000);
  });

  it("may be cancelled and set from within one that fires, and survive one that throws", async () => {
    const timers = new Timers();
    const fired: string[] = [];
    timers.after(2000, () => {
      fired.push("a");
      b.cancel();
      timers.after(2000, () => fired.push("c"));
    });
    const b = timers.after(2000, () => fired.push("b"));
    timers.after(2000, () => fired.push("d"));
    advance(2100);
    assert.deepEqual(fired, ["a", "d"]);
    advance(2100);
    assert.deepEqual(fired, ["a", "d", "c"]);
    assert.equal(native.length, 0);
    await Promise.resolve();
  });

  it("reach beyond what a native timer can", () => {
    const timers = new Timers();
    let fired = 0;
    timers.after(2 ** 31 + 1000, () => fired++);
    advance(2 ** 31);
    assert.equal(fired, 0);
    advance(2000);
    assert.equal(fired, 1);
  });
});
