/**
 * The cluster's model over many seeds: 60 in every run, more with `CLUSTER_SEEDS=10000`. A failure names its seed;
 * `CLUSTER_SEED=n` runs that one alone.
 */
import { it } from "node:test";
import process from "node:process";
import { seeded } from "../support/seeded.ts";
import { runClusterModel } from "./cluster_model.ts";

const only = process.env.CLUSTER_SEED;
const seeds = only === undefined ? Number(process.env.CLUSTER_SEEDS ?? 60) : 1;

const title =
  `a cluster keeps its invariants under ${seeds} seeds of deaths, partitions, slow links and wrong clocks`;
it(title, { timeout: 3_600_000 }, async () => {
  for (let index = 0; index < seeds; index++) {
    const seed = only === undefined ? index + 1 : Number(only);
    try {
      await runClusterModel(seeded(seed));
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
});
