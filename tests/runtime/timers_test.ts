/** Timers in bulk, against a native clock that the test moves. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import fc from "fast-check";
import { seedOf } from "../support/seeded.ts";
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

  it("fire in time when a callback adds to the list that is firing", () => {
    const timers = new Timers();
    const fired: number[] = [];
    timers.after(2500, () => timers.after(2500, () => fired.push(nowMs)));
    advance(1000);
    const dueMs = nowMs + 2500;
    timers.after(2500, () => fired.push(nowMs));
    advance(2600);
    assert.equal(fired.length, 1, "the second timer doesn't wait for the one that the first one added");
    assert.ok(fired[0]! - dueMs <= 64, `${fired[0]! - dueMs} ms late`);
  });

  it("fire in time whatever callbacks add and cancel, over random sets", () => {
    // A step: how long to wait, the delay of the timer to set, what its callback sets, and which earlier one to cancel.
    const step = fc.record({
      waitMs: fc.integer({ min: 0, max: 3000 }),
      delayMs: fc.oneof(fc.integer({ min: 900, max: 12_000 }), fc.constantFrom(1000, 1024, 5000)),
      then: fc.array(fc.constantFrom(1000, 1024, 2500, 5000, 8000), { maxLength: 3 }),
      cancel: fc.option(fc.nat(40), { nil: undefined }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        native = [];
        const timers = new Timers();
        const set: { dueMs: number; firedMs?: number; cancelled?: boolean; cancel: () => void }[] = [];
        const add = (delayMs: number, then: readonly number[]) => {
          const entry: (typeof set)[number] = { dueMs: nowMs + delayMs, cancel: () => timer.cancel() };
          const timer = timers.after(delayMs, () => {
            assert.ok(entry.firedMs === undefined && entry.cancelled !== true);
            entry.firedMs = nowMs;
            for (const next of then) add(next, []);
          });
          set.push(entry);
        };
        for (const { waitMs, delayMs, then, cancel } of steps) {
          advance(waitMs);
          add(delayMs, then);
          const victim = cancel === undefined ? undefined : set[cancel];
          if (victim !== undefined && victim.firedMs === undefined) {
            victim.cancelled = true;
            victim.cancel();
          }
        }
        advance(60_000);
        for (const { dueMs, firedMs, cancelled } of set) {
          if (cancelled === true) continue;
          assert.ok(firedMs !== undefined, `one due at ${dueMs} never fired`);
          const lateMs = firedMs - dueMs;
          assert.ok(lateMs >= 0 && lateMs <= 65, `one due at ${dueMs} fired ${lateMs} ms late`);
        }
        assert.equal(native.length, 0);
      }),
      { seed: seedOf(52), numRuns: 100 },
    );
  });
});
