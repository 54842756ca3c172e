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
  const pace = new BulkPace((callback, long) => {
    assert.equal(done, undefined, "one rest at a time");
    done = callback;
    rests.push(long);
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
    assert.deepEqual(rests, [false, false, true]);
    endRest();
    assert.equal(gone, 2 * CROWD);
    for (let at = 0; at < CHUNKS; at++) move();
    for (let rest = 0; rest < 3; rest++) endRest();
    assert.deepEqual(rests.splice(0), [false, false, true, false, false, true]);
    assert.equal(gone, 2 * CROWD + CHUNKS);
    move(sessions[0]);
    endRest();
    assert.deepEqual([gone, rests], [2 * CROWD + CHUNKS + 1, [false]]);
  });

  it("counts the sessions that have moved bytes, not only those that wait", () => {
    const { pace, rests, endRest } = startPace();
    for (let at = 0; at < CROWD; at++) assert.ok(pace.mayGoOn(BULK_MIN_BYTES, {}));
    pace.wait(CHUNK_BYTES, undefined, () => {});
    endRest();
    pace.wait(CHUNK_BYTES, undefined, () => {});
    endRest();
    assert.deepEqual(rests, [false, false, true]);
  });

  it("takes a rest again in which somebody moved bytes while sessions crowd, but not for ever", () => {
    const { pace, rests, endRest } = startPace();
    let gone = 0;
    const crowd = () => {
      for (let at = 0; at < CROWD; at++) pace.mayGoOn(BULK_MIN_BYTES, {});
      pace.wait(CHUNK_BYTES, undefined, () => gone++);
    };
    const endDisturbed = () => {
      pace.mayGoOn(BULK_MIN_BYTES);
      endRest();
    };
    crowd();
    endRest();
    assert.equal(gone, 1, "they were no crowd yet");
    crowd();
    endDisturbed();
    endRest();
    endDisturbed();
    endRest();
    assert.equal(gone, 1);
    endRest();
    assert.equal(gone, 2);
    assert.deepEqual(rests.splice(0), [false, false, false, true, false, true]);
    crowd();
    for (let at = 1; at < RESTS_MAX; at++) endDisturbed();
    assert.equal(gone, 2);
    endDisturbed();
    assert.equal(gone, 3);
    assert.equal(rests.length, RESTS_MAX);
  });
});
