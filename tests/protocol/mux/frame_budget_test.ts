import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  FrameBudget,
  IDLE_FRAMES_BURST,
  IDLE_FRAMES_PER_SECOND,
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
    assert.equal(spend(new FrameBudget(() => 0), 10 * IDLE_FRAMES_BURST), IDLE_FRAMES_BURST);
  });

  it("takes its rate for as long as it lasts", () => {
    let nowMs = 0;
    const budget = new FrameBudget(() => nowMs);
    for (let second = 0; second < 60; second++) {
      assert.equal(spend(budget, IDLE_FRAMES_PER_SECOND), IDLE_FRAMES_PER_SECOND);
      nowMs += 1_000;
    }
  });

  it("ends a peer at ten times the rate within a second", () => {
    let nowMs = 0;
    const budget = new FrameBudget(() => nowMs);
    let taken = 0;
    for (; nowMs < 1_000; nowMs++) {
      const each = IDLE_FRAMES_PER_SECOND / 100;
      const now = spend(budget, each);
      taken += now;
      if (now < each) break;
    }
    assert.ok(nowMs < 1_000 && taken <= 2 * IDLE_FRAMES_BURST, `${taken} frames in ${nowMs} ms`);
  });
});
