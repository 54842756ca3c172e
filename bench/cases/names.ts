/**
 * A thousand names on a hundred agents at one edge, and visitors who ask for them in turn. For tunnels that speak SniTun;
 * the agents are the bench's own, in one process.
 *
 * @module
 */
import { runLoad } from "../load/load.ts";
import { stopChild } from "../machine.ts";
import { startScript } from "../peers/sallyport.ts";
import { type Case, type Figures, metric } from "./case.ts";

const AGENTS = 100;
const NAMES_EACH = 10;
const AT_ONCE = [1, 32];
const START_LIMIT_MS = 60_000;

/** Case 9. */
export const names: Case = {
  name: "names",
  title: `New visitors of ${AGENTS * NAMES_EACH} names on ${AGENTS} agents`,
  fresh: true,
  snitun: true,
  metrics: AT_ONCE.flatMap((streams) => [
    metric(`names.${streams}.rate`, `${streams} at once`, "1/s", "more"),
    metric(`names.${streams}.p50`, `${streams} at once, p50`, "µs", "less"),
    metric(`names.${streams}.p99`, `${streams} at once, p99`, "µs", "less"),
    metric(`names.${streams}.failed`, `${streams} at once, failed`, "", "less"),
  ]),
  async measure({ peer, endpoint, scale }): Promise<Figures> {
    if (peer.sessions === undefined) return {};
    const agents = startScript("load/agents.ts", [
      ...[peer.sessions.port, endpoint.port, AGENTS, NAMES_EACH].map(String),
    ], { SNITUN_FERNET_KEY: peer.sessions.fernetKey });
    try {
      await agents.event("all", undefined, START_LIMIT_MS);
      const figures: Figures = {};
      for (const streams of AT_ONCE) {
        const result = await runLoad("visitors", {
          ...{ peer, endpoint, streams, ...scale },
          names: AGENTS * NAMES_EACH,
        });
        await endpoint.quiet();
        figures[`names.${streams}.rate`] = Number(result.count) / Number(result.seconds);
        figures[`names.${streams}.failed`] = Number(result.failed);
        if (Number(result.count) === 0) continue;
        figures[`names.${streams}.p50`] = Number(result.p50Us);
        figures[`names.${streams}.p99`] = Number(result.p99Us);
      }
      return figures;
    } finally {
      await stopChild(agents);
    }
  },
};
