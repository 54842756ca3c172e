/**
 * Resident memory: after the start, and for idle streams.
 *
 * @module
 */

import { startLoad } from "../load/load.ts";
import { pause, residentBytes } from "../machine.ts";
import { type Case, type Figures, metric } from "./case.ts";

const MB = 1e6;
const SETTLE_STEPS = 6;
const SETTLE_STEP_MS = 400;
const HOLD_LIMIT_MS = 60_000;

/** Case 4, without sessions (see {@link sessions}). */
export const memory: Case = {
  name: "memory",
  title: "Memory",
  fresh: true,
  metrics: [
    metric("memory.start.edge", "edge after the start", "MB", "less"),
    metric("memory.start.agent", "agent after the start", "MB", "less"),
    metric("memory.stream.edge", "edge, an idle stream", "KB", "less"),
    metric("memory.stream.agent", "agent, an idle stream", "KB", "less"),
  ],
  async measure({ peer, endpoint, scale }): Promise<Figures> {
    const [edge, agent] = [peer.edgePids(), peer.agentPids()];
    const before = [await settledBytes(edge), await settledBytes(agent)] as const;
    const streams = scale.idleStreams;
    const hold = await startLoad("hold", { peer, endpoint, streams, windowMs: HOLD_LIMIT_MS });
    const during = [await settledBytes(edge), await settledBytes(agent)] as const;
    await hold.stop();
    await endpoint.quiet();
    return {
      ...(edge.length === 0 ? {} : {
        "memory.start.edge": before[0] / MB,
        "memory.stream.edge": (during[0] - before[0]) / streams / 1000,
      }),
      ...(agent.length === 0 ? {} : {
        "memory.start.agent": before[1] / MB,
        "memory.stream.agent": (during[1] - before[1]) / streams / 1000,
      }),
    };
  },
};

/** The least of some looks over a few seconds: a collector may come in between. */
export async function settledBytes(pids: readonly number[]): Promise<number> {
  if (pids.length === 0) return 0;
  let least = Infinity;
  for (let i = 0; i < SETTLE_STEPS; i++) {
    await pause(SETTLE_STEP_MS);
    least = Math.min(least, residentBytes(pids));
  }
  return least;
}
