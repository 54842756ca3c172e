import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  FrameBudget,
  IDLE_FRAMES_BURST,
  IDLE_FRAMES_PER_SECOND,
  WASTE_BURST_BYTES,
  WASTE_BYTES_PER_SECOND,
  WASTE_EARNED_MAX_BYTES,
  WasteTurns,
} from "../../../src/protocol/mux/frame_budget.ts";
import { errorCode } from "../../../src/errors.ts";

/** Spends until the budget ends it, at most `count` times; how many it took. */
function spend(budget: FrameBudget, count: number): number {
  for (let taken = 0; taken < count; taken++) {
    try {
      budget.spend();
    } catch (error) {
      if (errorCode(error) !== "limit_exceeded") throw error;
      return taken;
    }
  }
  return count;
}

describe("FrameBudget", () => {
  it("takes a burst at once, and not one frame more", () => {
    assert.equal(spend(new FrameBudget({ nowMs: () => 0 }), 10 * IDLE_FRAMES_BURST), IDLE_FRAMES_BURST);
  });

  it("takes its rate for as long as it lasts", () => {
    let nowMs = 0;
    const budget = new FrameBudget({ nowMs: () => nowMs });
    for (let second = 0; second < 60; second++) {
      assert.equal(spend(budget, IDLE_FRAMES_PER_SECOND), IDLE_FRAMES_PER_SECOND);
      nowMs += 1_000;
    }
  });

  it("ends a peer at ten times the rate within a second", () => {
    let nowMs = 0;
    const budget = new FrameBudget({ nowMs: () => nowMs });
    let taken = 0;
    for (; nowMs < 1_000; nowMs++) {
      const each = IDLE_FRAMES_PER_SECOND / 100;
      const now = spend(budget, each);
      taken += now;
      if (now < each) break;
    }
    assert.ok(nowMs < 1_000 && taken <= 2 * IDLE_FRAMES_BURST, `${taken} frames in ${nowMs} ms`);
  });

  it("spend() earns a frame every 0.1 ms, and never more than a burst", () => {
    for (
      const [waitedMs, frames] of [
        [0.09, 0],
        [0.1, 1],
        [0.2, 2],
        [1, 10],
        [1_999, 19_990],
        [2_000, IDLE_FRAMES_BURST],
        [3_600_000, IDLE_FRAMES_BURST],
      ] as const
    ) {
      let nowMs = 0;
      const budget = new FrameBudget({ nowMs: () => nowMs });
      spend(budget, IDLE_FRAMES_BURST);
      nowMs += waitedMs;
      assert.equal(spend(budget, 2 * IDLE_FRAMES_BURST), frames, `after ${waitedMs} ms`);
    }
  });

  it("spend() counts from the session's start", () => {
    let nowMs = 5_000_000;
    const budget = new FrameBudget({ nowMs: () => nowMs });
    spend(budget, IDLE_FRAMES_BURST);
    nowMs += 1;
    assert.equal(spend(budget, 100), 10);
  });
});

describe("FrameBudget: payload that no stream takes", () => {
  const FRAME_BYTES = 64 * 1024;

  /** Reads wasted frames for a second of virtual time, as often as each session may. Gives the bytes of each. */
  function readFor(seconds: number, sessions: number, turns = new WasteTurns()): number[] {
    let nowMs = 0;
    const budgets = Array.from({ length: sessions }, () => new FrameBudget({ nowMs: () => nowMs }, turns));
    const read = budgets.map(() => 0);
    for (; nowMs < seconds * 1000; nowMs++) {
      for (const [index, budget] of budgets.entries()) {
        for (; !budget.wasteful; read[index]! += FRAME_BYTES) budget.waste(FRAME_BYTES);
      }
    }
    return read;
  }

  it("is read at full speed up to a burst, then at a rate", () => {
    const [read] = readFor(10, 1);
    const most = WASTE_BURST_BYTES + 10 * WASTE_BYTES_PER_SECOND;
    assert.ok(read! <= 1.02 * most && read! >= 0.7 * most, `${read} of ${most}`);
  });

  it("is read at the same rate by all sessions together, each as much", () => {
    const read = readFor(10, 20);
    const most = 20 * WASTE_BURST_BYTES + 10 * WASTE_BYTES_PER_SECOND;
    const sum = read.reduce((all, one) => all + one);
    assert.ok(sum <= 1.02 * most && sum >= 0.9 * most, `${sum} of ${most}`);
    assert.ok(Math.max(...read) <= 1.1 * Math.min(...read), `${read}`);
  });

  it("is earned by payload that streams take, up to what a long, fast path holds", () => {
    const budget = new FrameBudget({ nowMs: () => 0 });
    for (let round = 0; round < 1_000; round++) {
      budget.waste(WASTE_BURST_BYTES);
      assert.equal(budget.wasteful, false, `round ${round}`);
      budget.earn(WASTE_BURST_BYTES);
    }
    budget.earn(1e12);
    budget.waste(WASTE_EARNED_MAX_BYTES);
    assert.equal(budget.wasteful, false);
    budget.waste(WASTE_BURST_BYTES);
    assert.equal(budget.wasteful, true);
  });
});
