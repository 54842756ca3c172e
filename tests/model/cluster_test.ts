/**
 * The cluster's model over many seeds: 60 in every run, and with `CLUSTER_SEEDS` those from 1 to a number (`10000`) or a
 * range (`387-387`), with progress on standard error. A failure names its seed.
 */
import { it } from "node:test";
import process from "node:process";
import { seeded } from "../support/seeded.ts";
import { runClusterModel } from "./cluster_model.ts";

/** Progress is told after so many seeds. */
const TOLD_SEEDS = 100;

const asked = process.env.CLUSTER_SEEDS;
const [first, last] = seedRange(asked ?? "60");

const title =
  `a cluster keeps its invariants under seeds ${first} to ${last} of deaths, partitions, slow links ` +
  "and wrong clocks";
it(title, { timeout: 7_200_000 }, async () => {
  const startMs = performance.now();
  for (let seed = first; seed <= last; seed++) {
    try {
      await runClusterModel(seeded(seed));
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
    if (asked !== undefined && (seed === last || seed % TOLD_SEEDS === 0)) {
      const perSecond = 1_000 * (seed - first + 1) / (performance.now() - startMs);
      process.stderr.write(
        `seed ${seed} of ${first} to ${last} done, ${perSecond.toFixed(1)} seeds a second\n`,
      );
    }
  }
});

/** The first and the last seed of `N` or `FROM-TO`. */
function seedRange(text: string): [first: number, last: number] {
  const [from, to] = text.includes("-") ? text.split("-").map(Number) : [1, Number(text)];
  if (!(from! >= 1 && to! >= from!)) {
    throw new Error(`Cannot read CLUSTER_SEEDS: ${text} is neither a number of seeds nor a range FROM-TO`);
  }
  return [from!, to!];
}
