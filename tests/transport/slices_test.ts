/** Handshakes in slices of the event loop's turns. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { HANDSHAKE_REST_MS, HANDSHAKE_SLICE_MS, Slices } from "../../src/transport/slices.ts";

/** A clock that the work moves, and turns that are taken one by one. */
function bench() {
  let nowMs = 0;
  let soon: (() => void)[] = [];
  let later: (() => void)[] = [];
  const slices = new Slices({
    nowMs: () => nowMs,
    wallMs: () => nowMs,
    after: (delayMs, run) => {
      assert.equal(delayMs, HANDSHAKE_REST_MS);
      later.push(run);
      return { cancel() {} };
    },
    soon: (run) => void soon.push(run),
  });
  const done: string[] = [];
  const work = (name: string, tookMs: number) => (): void => {
    nowMs += tookMs;
    done.push(name);
  };
  const turn = (): boolean => {
    const runs = soon;
    soon = [];
    for (const run of runs) run();
    return runs.length > 0;
  };
  /** Lets the pause pass. */
  const rest = (): void => {
    const runs = later;
    later = [];
    for (const run of runs) run();
  };
  return { slices, done, work, turn, rest };
}

describe("Slices", () => {
  it("are free until a turn's time is used up, and again in the next turn", () => {
    const { slices, work, turn } = bench();
    assert.equal(slices.free, true);
    slices.work(work("a", HANDSHAKE_SLICE_MS / 2));
    assert.equal(slices.free, true);
    slices.work(work("b", HANDSHAKE_SLICE_MS / 2));
    assert.equal(slices.free, false);
    turn();
    assert.equal(slices.free, true);
    assert.equal(turn(), false, "nothing is asked for where nothing waits");
  });

  it("do what waits in its order, a slice at a time with pauses, and finish what has begun", () => {
    const { slices, done, work, turn, rest } = bench();
    slices.work(work("first", 2 * HANDSHAKE_SLICE_MS));
    for (const name of ["a", "b", "c", "d", "e"]) slices.later(work(name, 0.4 * HANDSHAKE_SLICE_MS));
    assert.deepEqual(done, ["first"]);
    turn();
    assert.deepEqual(done, ["first", "a", "b", "c"]);
    assert.equal(slices.free, false, "others stand before");
    assert.equal(turn(), false, "the network is asked before the next slice");
    rest();
    assert.deepEqual(done, ["first", "a", "b", "c", "d", "e"]);
    turn();
    assert.equal(slices.free, true);
  });

  it("count work that throws", () => {
    const { slices, work, turn } = bench();
    assert.throws(() =>
      slices.work(() => {
        work("a", HANDSHAKE_SLICE_MS)();
        throw new Error("refused");
      }), /refused/);
    assert.equal(slices.free, false);
    turn();
    assert.equal(slices.free, true);
  });
});
