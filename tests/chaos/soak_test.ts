/** The judgement of a soak: what counts as a leak. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Sample, SLOPE_MAX_MIB_PER_HOUR, slopePerHour } from "./soak.ts";
import { seeded } from "../support/seeded.ts";

const MINUTES = 60;
const SEEDS = 50;

/** An hour's curve: what is in use, and up to 2 MiB that wait for a collection. */
function curve(seed: number, inUse: (minute: number) => number): Sample[] {
  const random = seeded(seed);
  return Array.from({ length: MINUTES * 6 }, (_, index) => {
    const minute = index / 6;
    return { minute, mebibytes: 100 + inUse(minute) + 2 * random() };
  });
}

describe("slopePerHour()", () => {
  const fine: Record<string, (minute: number) => number> = {
    "memory that stays": () => 0,
    "memory that grows while it warms up": (minute) => Math.min(20, minute),
    "a step of 1 MiB in the middle": (minute) => minute < 40 ? 0 : 1,
    "a step of 1 MiB early, and one back": (minute) => minute > 25 && minute < 45 ? 1 : 0,
    "a peak of 10 MiB for five minutes": (minute) => minute > 40 && minute < 45 ? 10 : 0,
    "growth of 0.5 MiB an hour": (minute) => minute / 120,
  };
  for (const [name, inUse] of Object.entries(fine)) {
    it(`${name} is no leak`, () => {
      for (let seed = 0; seed < SEEDS; seed++) {
        const slope = slopePerHour(curve(seed, inUse), MINUTES);
        assert.ok(slope <= SLOPE_MAX_MIB_PER_HOUR, `seed ${seed}: ${slope}`);
      }
    });
  }

  const leaks: Record<string, (minute: number) => number> = {
    "growth of 3 MiB an hour": (minute) => minute / 20,
    "the same in V8's pages of 256 KiB": (minute) => Math.floor(minute / 5) / 4,
    "growth of 6 MiB an hour from the middle on": (minute) => Math.max(0, minute - 40) / 10,
  };
  for (const [name, inUse] of Object.entries(leaks)) {
    it(`${name} is one`, () => {
      for (let seed = 0; seed < SEEDS; seed++) {
        const slope = slopePerHour(curve(seed, inUse), MINUTES);
        assert.ok(slope > SLOPE_MAX_MIB_PER_HOUR, `seed ${seed}: ${slope}`);
      }
    });
  }
});
