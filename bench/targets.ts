/**
 * What Sallyport wants to reach, as ratios within one run.
 *
 * @module
 */

import { medianOf, type Results } from "./results.ts";

/** One comparison. */
export interface Target {
  readonly what: string;
  readonly runtime: "Bun" | "Deno";
  readonly reached: number;
  readonly wanted: number;
  readonly atMost: boolean;
  readonly unit: string;
}

const OWN = [
  { runtime: "Bun", peer: "sallyport-bun" },
  { runtime: "Deno", peer: "sallyport-deno" },
] as const;

/** All comparisons whose figures are there. */
export function judge(results: Results): Target[] {
  const targets: Target[] = [];
  const of = (metric: string, peer: string): number | undefined => medianOf(results, metric, peer);

  for (const { runtime, peer } of OWN) {
    const add = (
      what: string,
      reached: number | undefined,
      wanted: readonly [number, number],
      atMost = false,
      unit = "×",
    ): void => {
      if (reached === undefined || !Number.isFinite(reached)) return;
      targets.push({ what, runtime, reached, wanted: wanted[runtime === "Bun" ? 0 : 1], atMost, unit });
    };
    const against = (metric: string, other: string, own: string = peer): number | undefined => {
      const [mine, theirs] = [of(metric, own), of(metric, other)];
      return mine === undefined || theirs === undefined ? undefined : mine / theirs;
    };
    for (const way of ["up", "down"]) {
      for (const streams of [1, 8]) {
        const metric = `bulk.${way}.${streams}.mbps`;
        add(`bulk ${way}, ${streams}, against the reference`, against(metric, "reference"), [5, 4]);
        add(`bulk ${way}, ${streams}, against rathole`, against(metric, "rathole"), [1, 0.8]);
        add(`bulk ${way}, ${streams}, against frp`, against(metric, "frp"), [1, 1]);
        add(`bulk ${way}, ${streams}, aes-gcm against aes-cbc`, against(metric, peer, `${peer}-gcm`), [
          0.9,
          0.9,
        ]);
      }
    }
    for (const streams of [1, 32]) {
      const metric = `visitors.${streams}.rate`;
      add(`new visitors, ${streams} at once, against the reference`, against(metric, "reference"), [2.5, 2]);
      add(`new visitors, ${streams} at once, against rathole`, against(metric, "rathole"), [1, 0.8]);
    }
    const direct = of("pingpong.alone.p50", "direct") ?? NaN;
    const added = (name: string): number => (of("pingpong.alone.p50", name) ?? NaN) - direct;
    add(
      "ping-pong p50 added to direct, against the reference",
      added(peer) / added("reference"),
      [0.4, 0.6],
      true,
    );
    for (const [situation, way] of [["besideUp", "an upload"], ["besideDown", "a download"]] as const) {
      const metric = `pingpong.${situation}.p99`;
      const [mine, alone] = [of(metric, peer), of("pingpong.alone.p99", peer)];
      add(`ping-pong p99 beside ${way}, against alone`, (mine ?? NaN) / (alone ?? NaN), [3, 3], true);
      add(`ping-pong p99 beside ${way}, against the reference`, against(metric, "reference"), [1, 1], true);
      add(`ping-pong p99 beside ${way}, against frp`, against(metric, "frp"), [1, 1], true);
    }
    add("memory of an idle session at the edge", of("sessions.memory", peer), [6, 12], true, "KB");
    add("edge's memory over idle with 100 stalled visitors", of("slow.edge", peer), [64, 64], true, "MB");
  }
  return targets;
}

/** Whether a target is reached. */
export function met(target: Target): boolean {
  return target.atMost ? target.reached <= target.wanted : target.reached >= target.wanted;
}
