import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CLOSE_BURST, CLOSE_BURST_MS, ClosePace } from "../../src/runtime/close_pace.ts";

function startPace() {
  const state = { nowMs: 0, closed: [] as number[], turns: [] as (() => void)[] };
  const pace = new ClosePace(() => state.nowMs, (run) => void state.turns.push(run));
  const close = (from: number, to: number) => {
    for (let i = from; i < to; i++) pace.soon({ closeNow: () => void state.closed.push(i) });
  };
  const turn = () => {
    for (const run of state.turns.splice(0)) run();
  };
  return { state, close, turn };
}

describe("ClosePace", () => {
  it("closes few connections at once", () => {
    const { state, close } = startPace();
    close(0, CLOSE_BURST);
    state.nowMs += CLOSE_BURST_MS;
    close(CLOSE_BURST, 2 * CLOSE_BURST);
    assert.deepEqual([state.closed.length, state.turns.length], [2 * CLOSE_BURST, 0]);
  });

  it("closes many in order, some in each turn, and asks for no turn after the last", () => {
    const { state, close, turn } = startPace();
    const count = 3 * CLOSE_BURST + 1;
    close(0, count);
    for (const closed of [1, 2, 3].map((bursts) => bursts * CLOSE_BURST).concat(count)) {
      assert.equal(state.closed.length, closed);
      turn();
    }
    assert.deepEqual([state.closed, state.turns.length], [Array.from({ length: count }, (_, i) => i), 0]);
  });

  it("closes none ahead of those that wait, however late", () => {
    const { state, close, turn } = startPace();
    close(0, CLOSE_BURST + 2);
    state.nowMs += 10 * CLOSE_BURST_MS;
    close(CLOSE_BURST + 2, CLOSE_BURST + 3);
    assert.equal(state.closed.length, CLOSE_BURST);
    turn();
    assert.deepEqual(state.closed.slice(CLOSE_BURST), [0, 1, 2].map((i) => CLOSE_BURST + i));
  });
});
