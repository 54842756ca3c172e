/**
 * Nanoseconds of the small steps, on the runtime that runs this: `deno task bench:micro`, `bun run bench:micro`. Each
 * step runs for a while to be compiled, then in several slices, of which the median counts.
 *
 * With `ratios`, the steps of a visitor as multiples of a yardstick, which are compared with `ratios.json`; `--write`
 * keeps the new ones.
 *
 * @module
 */

import { readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { median } from "../machine.ts";
import { RatioMeter, type Ratios, slower } from "./ratios.ts";
import { sealedSteps, type Step, visitorSteps } from "./steps.ts";

const BASELINE = join(dirname(fileURLToPath(import.meta.url)), "ratios.json");
const SLICES = 9;
const SLICE_MS = 60;

/** Keeps results alive, so that no step is optimised away. */
let sink = 0;

/** Median nanoseconds of one of the things that a call does. */
function measure({ run, per = 1 }: Step): number {
  const slice = (): number => {
    const start = performance.now();
    let calls = 0;
    let elapsed = 0;
    while (elapsed < SLICE_MS) {
      for (let i = 0; i < 32; i++) sink ^= run();
      calls += 32;
      elapsed = performance.now() - start;
    }
    return elapsed * 1e6 / calls / per;
  };
  slice();
  return median(Array.from({ length: SLICES }, slice));
}

const runtime = await currentRuntime();
if (process.argv[2] === "ratios") {
  const ratios = new RatioMeter(visitorSteps()).measure();
  const baseline = JSON.parse(await readFile(BASELINE, "utf8")) as Record<string, Ratios>;
  const kept = baseline[runtime.name] ?? {};
  console.log(`| ${runtime.name} ${runtime.version} | now | kept |\n| --- | ---: | ---: |`);
  for (const [name, ratio] of Object.entries(ratios)) {
    console.log(`| ${name} | ${ratio.toPrecision(3)} | ${kept[name]?.toPrecision(3) ?? "—"} |`);
  }
  if (process.argv.includes("--write")) {
    const rounded = Object.entries(ratios).map(([name, ratio]) => [name, Number(ratio.toPrecision(3))]);
    baseline[runtime.name] = Object.fromEntries(rounded);
    await writeFile(BASELINE, JSON.stringify(baseline, null, 2) + "\n");
  } else {
    const found = slower(ratios, kept);
    for (const line of found) console.error(line);
    process.exit(found.length === 0 ? 0 : 1);
  }
} else {
  console.log(`| ${runtime.name} ${runtime.version} | ns |\n| --- | ---: |`);
  for (const step of [...visitorSteps(), ...await sealedSteps(runtime)]) {
    const ns = measure(step);
    console.log(`| ${step.name} | ${ns < 1000 ? ns.toFixed(0) : ns.toPrecision(4)} |`);
  }
  if (sink === Infinity) console.log(sink);
}
