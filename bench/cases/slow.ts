/**
 * A hundred visitors of one agent who ask for bytes and read none, beside fast ones.
 *
 * @module
 */

import { startLoad } from "../load/load.ts";
import { residentBytes } from "../machine.ts";
import { transfer } from "./bulk.ts";
import { type Case, type Figures, metric } from "./case.ts";

const STALLED = 100;
const FAST = 8;
const HOLD_LIMIT_MS = 60_000;

/** Case 6. */
export const slow: Case = {
  name: "slow",
  title: `${STALLED} stalled visitors beside ${FAST} fast streams`,
  fresh: true,
  metrics: [
    metric("slow.before", "download of the fast ones before", "MB/s", "more"),
    metric("slow.beside", "download of the fast ones beside the stalled", "MB/s", "more"),
    metric("slow.edge", "edge, memory over idle", "MB", "less"),
    metric("slow.agent", "agent, memory over idle", "MB", "less"),
  ],
  async measure(context): Promise<Figures> {
    const { peer, endpoint } = context;
    const [edge, agent] = [peer.edgePids(), peer.agentPids()];
    const before = await transfer(context, "down", FAST);
    const idle = [residentBytes(edge), residentBytes(agent)] as const;
    const hold = await startLoad("hold", {
      peer,
      endpoint,
      streams: STALLED,
      stalled: true,
      windowMs: HOLD_LIMIT_MS,
    });
    const peak: [number, number] = [0, 0];
    const look = (): void => {
      peak[0] = Math.max(peak[0], residentBytes(edge));
      peak[1] = Math.max(peak[1], residentBytes(agent));
    };
    const watch = setInterval(look, 50);
    try {
      const beside = await transferBeside(context).catch((error) => {
        context.miss(`beside the stalled: ${error instanceof Error ? error.message : error}`);
        return 0;
      });
      look();
      return {
        "slow.before": before.mbps,
        "slow.beside": beside,
        ...(edge.length === 0 ? {} : { "slow.edge": (peak[0] - idle[0]) / 1e6 }),
        ...(agent.length === 0 ? {} : { "slow.agent": (peak[1] - idle[1]) / 1e6 }),
      };
    } finally {
      clearInterval(watch);
      await hold.stop();
      await endpoint.quiet();
    }
  },
};

/** A transfer that leaves the endpoint with the stalled ones. */
async function transferBeside(context: Parameters<Case["measure"]>[0]): Promise<number> {
  const endpoint = { ...context.endpoint, quiet: () => Promise.resolve() };
  return (await transfer({ ...context, endpoint }, "down", FAST)).mbps;
}
