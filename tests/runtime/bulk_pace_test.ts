import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  BULK_MIN_BYTES,
  BulkPace,
  CROWD,
  CROWDED_PACE_BYTES,
  PACE_BYTES,
  RESTS_MAX,
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
    pace.wait(CHUNK_BYTES, {}, () => gone++);
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
    for (let at = 0; at < waiting; at++) pace.wait(CHUNK_BYTES, undefined, () => turns.push(at));
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
    const sessions = Array.from({ length: 2 * CROWD }, () => ({}));
    let gone = 0;
    const move = (session?: object) => {
      pace.mayGoOn(CHUNK_BYTES, session);
      pace.wait(CHUNK_BYTES, session, () => gone++);
    };
    sessions.forEach(move);
    endRest();
    assert.equal(gone * CHUNK_BYTES, CROWDED_PACE_BYTES);
    endRest();
    assert.equal(gone, 2 * CROWD);
    sessions.slice(1, CROWD).forEach(move);
    for (let at = CROWD - 1; at < CHUNKS; at++) move();
    endRest();
    endRest();
    assert.equal(gone, 2 * CROWD + CHUNKS);
    move(sessions[0]);
    assert.deepEqual(rests, [false, true, true, true, false]);
  });

  it("counts the sessions that have moved bytes, not only those that wait", () => {
    const { pace, rests, endRest } = startPace();
    for (let at = 0; at < CROWD; at++) assert.ok(pace.mayGoOn(BULK_MIN_BYTES, {}));
    pace.wait(CHUNK_BYTES, undefined, () => {});
    endRest();
    pace.wait(CHUNK_BYTES, undefined, () => {});
    assert.deepEqual(rests, [false, true]);
  });

  it("takes a rest again in which somebody moved bytes while sessions crowd, but not for ever", () => {
    const { pace, rests, endRest } = startPace();
    const crowd = () => {
      for (let at = 0; at < CROWD; at++) pace.mayGoOn(BULK_MIN_BYTES, {});
    };
    crowd();
    pace.wait(CHUNK_BYTES, undefined, () => {});
    endRest();
    let gone = 0;
    crowd();
    pace.wait(CHUNK_BYTES, undefined, () => gone++);
    pace.mayGoOn(BULK_MIN_BYTES);
    endRest();
    assert.equal(gone, 0, "disturbed");
    endRest();
    assert.equal(gone, 1, "undisturbed");
    crowd();
    pace.wait(CHUNK_BYTES, undefined, () => gone++);
    for (let at = 1; at < RESTS_MAX; at++) {
      pace.mayGoOn(BULK_MIN_BYTES);
      endRest();
      assert.equal(gone, 1);
    }
    pace.mayGoOn(BULK_MIN_BYTES);
    endRest();
    assert.equal(gone, 2);
    assert.equal(rests.length, 3 + RESTS_MAX);
  });
});
