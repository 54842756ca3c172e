/** Whether a small step has become slower. See bench/micro. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { RatioMeter, type Ratios, slower } from "../../bench/micro/ratios.ts";
import { type Step, visitorSteps } from "../../bench/micro/steps.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";

const TRIES_MAX = 6;

describe("the steps of a visitor, as multiples of a yardstick", () => {
  it("take at most twice what was kept", { timeout: 120_000 }, async () => {
    const folder = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "bench", "micro");
    const kept = JSON.parse(await readFile(join(folder, "ratios.json"), "utf8")) as Record<string, Ratios>;
    const { name } = await currentRuntime();
    const meter = new RatioMeter(visitorSteps());
    let found: string[] = [];
    // What is slower stays so however often it is measured; a slice beside other processes only seems to be.
    for (let tries = 0; tries < TRIES_MAX; tries++) {
      found = slower(meter.measure(), kept[name]!);
      if (found.length === 0) break;
    }
    assert.deepEqual(found, []);
  });

  it("would not pass if they took three times as long", { timeout: 120_000 }, () => {
    const steps = visitorSteps().filter(({ name }) => /^(frame|ClientHello|HTTP|token: refuse)/.test(name));
    const thrice = steps.map(({ name, per = 1, run }): Step => ({
      name: `${name}, thrice`,
      per,
      run: () => run() ^ run() ^ run(),
    }));
    // All in one meter: whatever else the machine does slows a step and its triple alike.
    const ratios = new RatioMeter(steps.flatMap((step, index) => [step, thrice[index]!])).measure();
    const once = Object.fromEntries(thrice.map(({ name }, index) => [name, ratios[steps[index]!.name]!]));
    const tripled = Object.fromEntries(thrice.map(({ name }) => [name, ratios[name]!]));
    const found = slower(tripled, once);
    assert.equal(found.length, steps.length, JSON.stringify(ratios, null, 2));
  });

  it("are named if they are slower or not kept", () => {
    const advice = "Make it faster, or keep it with bench:micro --write and say why";
    assert.deepEqual(slower({ a: 1.9, b: 2.1, c: 1 }, { a: 1, b: 1 }), [
      `b: 2.10 of the yardstick's time, was 1.00. ${advice}`,
      `c: 1.00 of the yardstick's time, isn't kept. ${advice}`,
    ]);
  });
});
