import assert from "node:assert/strict";
import { test } from "node:test";
import { PACKET_NUMBER_MAX, REPLAY_WINDOW, ReplayWindow } from "../../../src/protocol/curve/replay_window.ts";
import { seeded, seedOf } from "../../support/seeded.ts";

const W = REPLAY_WINDOW;

/** After WireGuard's table: each line one number, and whether it is taken. */
const TABLES: Record<string, [number, boolean][]> = {
  "from zero": [[0, true], [1, true], [1, false], [9, true], [8, true], [7, true], [7, false], [0, false]],
  "zero after a later one": [[3, true], [0, true], [0, false], [-1, false], [NaN, false]],
  "a word's edges": [[31, true], [32, true], [31, false], [63, true], [64, true], [33, true], [32, false], [
    64,
    false,
  ]],
  "the window's edges": [
    [W, true],
    [1, true],
    [1, false],
    [0, false],
    [W + 1, true],
    [1, false],
    [2, true],
    [2 * W + 1, true],
    [W + 1, false],
    [W + 2, true],
    [W + 2, false],
  ],
  "a step of exactly the window": [[5, true], [5 + W, true], [5, false], [6, true], [6, false]],
  "a jump past the window": [[3, true], [10 * W + 3, true], [3, false], [9 * W + 4, true], [
    9 * W + 3,
    false,
  ]],
  "backwards": [
    [W - 1, true],
    ...Array.from({ length: 40 }, (_, i): [number, boolean] => [W - 2 - i, true]),
    [W - 5, false],
  ],
  "the largest": [[PACKET_NUMBER_MAX, true], [PACKET_NUMBER_MAX, false], [PACKET_NUMBER_MAX + 1, false], [
    0,
    false,
  ]],
  "nonsense": [[-1, false], [NaN, false], [0, true]],
};

for (const [name, table] of Object.entries(TABLES)) {
  test(`replay window: ${name}`, () => {
    const window = new ReplayWindow();
    for (const [number, taken] of table) {
      assert.equal(window.check(number), taken, `${number}`);
      if (taken) window.mark(number);
    }
  });
}

test("replay window: looking doesn't mark", () => {
  const window = new ReplayWindow();
  assert.ok(window.check(7) && window.check(7));
  assert.equal(window.highest, -1);
  window.mark(7);
  assert.equal(window.highest, 7);
  assert.ok(!window.check(7));
});

test("replay window: the same as a set that remembers everything", () => {
  const window = new ReplayWindow();
  const seen = new Set<number>();
  let highest = -1;
  const random = seeded(seedOf(12345));
  let at = 0;
  for (let i = 0; i < 60_000; i++) {
    const kind = random();
    if (kind < 0.7) at++;
    else if (kind < 0.72) at += Math.floor(random() * (W + 100));
    const number = kind < 0.9 ? at : Math.max(0, at - Math.floor(random() * (W + 200)));
    const expected = !seen.has(number) && number > highest - W;
    assert.equal(window.check(number), expected, `${number} at ${highest}`);
    if (!expected) continue;
    window.mark(number);
    seen.add(number);
    highest = Math.max(highest, number);
  }
});
