/**
 * Bulk each way over 1, 8 and 64 streams, with the processor seconds that edge and agent spend on a gigabyte.
 *
 * @module
 */

import { runLoad } from "../load/load.ts";
import { type Case, type CaseContext, type Figures, type Metric, metric } from "./case.ts";

const STREAMS = [1, 8, 64];
const DIRECTIONS = ["up", "down"] as const;
const GB = 1e9;

/** Case 1. */
export const bulk: Case = {
  name: "bulk",
  title: "Bulk",
  metrics: DIRECTIONS.flatMap((way) =>
    STREAMS.flatMap((streams): Metric[] => {
      const what = `${way === "up" ? "visitor → endpoint" : "endpoint → visitor"}, ${streams} stream${
        streams === 1 ? "" : "s"
      }`;
      return [
        metric(`bulk.${way}.${streams}.mbps`, what, "MB/s", "more"),
        metric(`bulk.${way}.${streams}.edgeCpu`, `${what}: edge`, "CPU s/GB", "less"),
        metric(`bulk.${way}.${streams}.agentCpu`, `${what}: agent`, "CPU s/GB", "less"),
      ];
    })
  ),
  async measure(context: CaseContext): Promise<Figures> {
    const figures: Figures = {};
    for (const way of DIRECTIONS) {
      for (const streams of STREAMS) {
        const done = await transfer(context, way, streams).catch((error) => {
          context.miss(`${way}, ${streams}: ${error instanceof Error ? error.message : error}`);
        });
        if (done === undefined) continue;
        const { mbps, edgeCpu, agentCpu } = done;
        figures[`bulk.${way}.${streams}.mbps`] = mbps;
        if (edgeCpu !== undefined) figures[`bulk.${way}.${streams}.edgeCpu`] = edgeCpu;
        if (agentCpu !== undefined) figures[`bulk.${way}.${streams}.agentCpu`] = agentCpu;
      }
    }
    return figures;
  },
};

/** One transfer's figures; processor seconds only where there is a process. */
export async function transfer(
  { peer, endpoint, scale }: CaseContext,
  way: "up" | "down",
  streams: number,
): Promise<{ mbps: number; edgeCpu?: number; agentCpu?: number }> {
  const [edge, agent] = [peer.edgePids(), peer.agentPids()];
  const result = await runLoad("bulk", {
    ...{ peer, endpoint, streams, upload: way === "up", pids: [...edge, ...agent] },
    ...{ warmupMs: scale.warmupMs, windowMs: scale.windowMs },
  });
  await endpoint.quiet();
  if (Number(result.lost) > 0) throw new Error(`${result.lost} of ${streams} streams broke off`);
  const gigabytes = Number(result.bytes) / GB;
  const cpu = result.cpu as number[];
  const perGigabyte = (from: number, to: number): number =>
    cpu.slice(from, to).reduce((sum, seconds) => sum + seconds, 0) / gigabytes;
  return {
    mbps: Number(result.bytes) / Number(result.seconds) / 1e6,
    ...(edge.length === 0 ? {} : { edgeCpu: perGigabyte(0, edge.length) }),
    ...(agent.length === 0 ? {} : { agentCpu: perGigabyte(edge.length, cpu.length) }),
  };
}
