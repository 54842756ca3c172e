/** How fast Deno's listeners accept. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ACCEPT_BURST, ACCEPT_BURST_MS, AcceptPace } from "../../src/runtime/deno/accept_pace.ts";

/** Accepts connections, each of which takes so long, for a second; says how many, and the longest time without a pause. */
function accept(eachMs: number): { count: number; longestMs: number; pauses: number } {
  const pace = new AcceptPace();
  let [nowMs, pausedMs, count, longestMs, pauses] = [0, 0, 0, 0, 0];
  while (nowMs < 1000) {
    nowMs += eachMs;
    count++;
    const pauseMs = pace.accepted(() => nowMs);
    longestMs = Math.max(longestMs, nowMs - pausedMs);
    if (pauseMs === 0) continue;
    pauses++;
    nowMs += pauseMs;
    pausedMs = nowMs;
  }
  return { count, longestMs, pauses };
}

describe("AcceptPace", () => {
  it("lets open connections have their turn in a surge", () => {
    const { count, longestMs } = accept(0.02);
    assert.ok(longestMs <= 2 * ACCEPT_BURST_MS, `${longestMs} ms without a pause`);
    assert.ok(count > 10_000, `${count} a second`);
  });

  it("doesn't slow down what comes one by one", () => {
    assert.equal(accept(2 * ACCEPT_BURST_MS / ACCEPT_BURST).pauses, 0);
  });
});
