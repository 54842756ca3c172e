/**
 * A soak: worlds that nothing is done to but visits at a low rate, and the curve of their memory.
 *
 * @module
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type RuntimeName, World } from "./world.ts";

/** Memory may grow by this much in an hour, once it is warm. */
export const SLOPE_MAX_MIB_PER_HOUR = 1;

const SAMPLE_MS = 10_000;
/** A visit's pause at each of the visitors. */
const PAUSE_MS = 500;
/** The same while it warms up: twice as many visits come before the judged part as in it. */
const WARM_UP_PAUSE_MS = 125;
/** Stretches of which the lowest sample counts. */
const LOWEST = 10;
/** The part of a soak that isn't judged: both runtimes compile, collect and keep for later meanwhile. */
const WARM_UP_SHARE = 1 / 3;
/** Characters of each part's log that are shown where a visit failed. */
const LOG_SHOWN = 2_000;
/** Below this, noise is taller than any slope that matters. */
const JUDGED_FROM_MINUTES = 30;

/** The resident memory at a time. */
export interface Sample {
  readonly minute: number;
  readonly mebibytes: number;
}

/** Runs worlds of these runtimes at the same time, prints their curves, and gives what went wrong. */
export async function soak(runtimes: readonly RuntimeName[], minutes: number): Promise<string[]> {
  return (await Promise.all(runtimes.map((runtime) => soakOne(runtime, minutes)))).flat();
}

async function soakOne(runtime: RuntimeName, minutes: number): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), "sallyport-soak-"));
  const world = new World(runtime, folder, true);
  const wrong: string[] = [];
  try {
    await world.start();
    world.load(WARM_UP_PAUSE_MS);
    const curves = { edge: [] as Sample[], agent: [] as Sample[] };
    const startMs = performance.now();
    for (let at = 0; at <= minutes; at = (performance.now() - startMs) / 60_000) {
      if (at >= minutes * WARM_UP_SHARE) world.pauseMs = PAUSE_MS;
      for (const part of ["edge", "agent"] as const) {
        curves[part].push({ minute: at, mebibytes: await world.mebibytes(part) });
      }
      await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS));
    }
    const { served, refused, hung, wrong: garbled, failures } = await world.unload();
    console.log(`${runtime}: ${served} visits served, ${refused} refused, ${hung} hung, ${garbled} wrong`);
    if (failures.length > 0) {
      wrong.push(`${runtime}: not every visit was served`);
      for (const failure of failures) console.log(`${runtime}: ${failure}`);
      for (const [part, program] of world.programs) {
        console.log(`${runtime} ${part}: ${program.stderr.slice(-LOG_SHOWN)}`);
      }
    }
    for (const part of ["edge", "agent"] as const) {
      const slope = slopePerHour(curves[part], minutes);
      console.log(`${runtime} ${part}: ${curve(curves[part])}; ${slope.toFixed(2)} MiB/h after warm-up`);
      if (minutes >= JUDGED_FROM_MINUTES && slope > SLOPE_MAX_MIB_PER_HOUR) {
        wrong.push(`${runtime} ${part}: memory grows by ${slope.toFixed(2)} MiB/h`);
      }
    }
    wrong.push(...(await world.stop()).map((fault) => `${runtime}: ${fault}`));
  } catch (error) {
    wrong.push(`${runtime}: ${error instanceof Error ? error.message : error}`);
  } finally {
    await world.clear();
    await rm(folder, { recursive: true, force: true });
  }
  return wrong;
}

/** The lowest sample of each stretch: between two collections memory rises, which is no growth. */
function lowest(samples: readonly Sample[], stretchMinutes: number): Sample[] {
  const found = new Map<number, Sample>();
  for (const sample of samples) {
    const stretch = Math.floor((sample.minute - samples[0]!.minute) / stretchMinutes);
    const before = found.get(stretch);
    if (before === undefined || sample.mebibytes < before.mebibytes) found.set(stretch, sample);
  }
  return [...found.values()];
}

/**
 * The growth of a soak of so many minutes once it is warm, in MiB an hour: the line through the lowest samples with the
 * least squares, where the largest rise from one to the next counts as much as the median one. An allocator takes a MiB
 * at a time, and one such step would count as growth of up to 2 MiB an hour; a leak goes on.
 */
export function slopePerHour(samples: readonly Sample[], minutes: number): number {
  const warm = samples.filter(({ minute }) => minute >= minutes * WARM_UP_SHARE);
  const low = lowest(warm, minutes * (1 - WARM_UP_SHARE) / LOWEST);
  const rises = low.slice(1).map(({ mebibytes }, index) => mebibytes - low[index]!.mebibytes);
  const sorted = rises.toSorted((a, b) => a - b);
  const largest = sorted.at(-1) ?? 0;
  const step = largest - (sorted[rises.length >> 1] ?? 0);
  const stepAt = rises.indexOf(largest);
  const steady = low.map(({ minute, mebibytes }, index) => ({
    minute,
    mebibytes: index <= stepAt ? mebibytes : mebibytes - step,
  }));
  const count = steady.length;
  const meanMinute = steady.reduce((sum, { minute }) => sum + minute, 0) / count;
  const mean = steady.reduce((sum, { mebibytes }) => sum + mebibytes, 0) / count;
  let over = 0;
  let under = 0;
  for (const { minute, mebibytes } of steady) {
    over += (minute - meanMinute) * (mebibytes - mean);
    under += (minute - meanMinute) ** 2;
  }
  return under === 0 ? 0 : over / under * 60;
}

/** A dozen points of a curve, in MiB. */
function curve(samples: readonly Sample[]): string {
  const step = Math.max(1, Math.floor(samples.length / 12));
  return samples.filter((_, index) => index % step === 0).map(({ mebibytes }) => mebibytes.toFixed(0)).join(
    " ",
  );
}
