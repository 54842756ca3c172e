import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  BULK_MIN_BYTES,
  BulkPace,
  CROWD,
  CROWDED_PACE_BYTES,
  PACE_BYTES,
} from "../../src/runtime/bulk_pace.ts";

const CHUNK_BYTES = CROWDED_PACE_BYTES / 4;
const CHUNKS = PACE_BYTES / CHUNK_BYTES;

/** A pace whose rests are ended by the test. */
function startPace(): { pace: BulkPace; rests: boolean[]; endRest(): void } {
  const rests: boolean[] = [];
  let done: (() => void) | undefined;
  const pace = new BulkPace((callback, crowded) => {
    assert.equal(done, undefined, "one rest at a time");
    done = callback;
    rests.push(crowded);
  });
  const endRest = () => {
    const ending = done;
    done = undefined;
    ending!();
  };
  return { pace, rests, endRest };
}

describe("BulkPace", () => {
  it("lets a single connection go on until it has moved the bytes between two rests", () => {
    const { pace, rests, endRest } = startPace();
    for (let moved = 1; moved < CHUNKS; moved++) assert.ok(pace.mayGoOn(CHUNK_BYTES));
    assert.ok(!pace.mayGoOn(CHUNK_BYTES));
    let gone = 0;
    pace.wait(CHUNK_BYTES, true, () => gone++);
    endRest();
    assert.equal(gone, 1);
    assert.deepEqual(rests, [false], "nobody waits, so there is no further rest");
    assert.ok(pace.mayGoOn(CHUNK_BYTES));
  });

  it("never lets a small read or write wait, nor counts it", () => {
    const { pace } = startPace();
    for (let count = 0; count < PACE_BYTES / 64; count++) assert.ok(pace.mayGoOn(BULK_MIN_BYTES - 1));
    assert.ok(pace.mayGoOn(CHUNK_BYTES));
  });

  it("gives those that wait their turns in order, and nobody overtakes them", () => {
    const { pace, endRest } = startPace();
    const turns: number[] = [];
    const waiting = 2 * CHUNKS + 4;
    while (pace.mayGoOn(CHUNK_BYTES));
    for (let at = 0; at < waiting; at++) pace.wait(CHUNK_BYTES, false, () => turns.push(at));
    for (const expected of [CHUNKS, 2 * CHUNKS]) {
      endRest();
      assert.equal(turns.length, expected);
      assert.ok(!pace.mayGoOn(CHUNK_BYTES));
    }
    endRest();
    assert.deepEqual(turns, Array.from({ length: waiting }, (_, at) => at));
  });

  it("rests sooner and longer while sessions crowd, and no more when they don't", () => {
    const { pace, rests, endRest } = startPace();
    let gone = 0;
    const wait = (count: number, isSession: boolean) => {
      for (let at = 0; at < count; at++) pace.wait(CHUNK_BYTES, isSession, () => gone++);
    };
    wait(2 * CROWD, true);
    endRest();
    assert.equal(gone * CHUNK_BYTES, CROWDED_PACE_BYTES);
    endRest();
    assert.equal(gone, 2 * CROWD);
    wait(CROWD - 1, true);
    wait(CHUNKS - CROWD + 1, false);
    endRest();
    assert.equal(gone, 2 * CROWD + CHUNKS);
    wait(1, true);
    assert.deepEqual(rests, [false, true, true, false]);
  });
});
