/**
 * New visitors: connect, hello, first byte back, close; one after another, and 32 at once.
 *
 * @module
 */

import { runLoad } from "../load/load.ts";
import { type Case, type Figures, metric } from "./case.ts";

const AT_ONCE = [1, 32];
/**
 * A JIT compiler is busy with the first fifteen thousand visitors, for 120 µs each on Bun; an edge serves more. Many at
 * once are soon that many, so all are warmed up that way.
 */
const WARMUP_MS = 4_000;

/** Case 2. */
export const visitors: Case = {
  name: "visitors",
  title: "New visitors",
  metrics: AT_ONCE.flatMap((streams) => [
    metric(`visitors.${streams}.rate`, `${streams} at once`, "1/s", "more"),
    metric(`visitors.${streams}.p50`, `${streams} at once, p50`, "µs", "less"),
    metric(`visitors.${streams}.p99`, `${streams} at once, p99`, "µs", "less"),
    metric(`visitors.${streams}.p999`, `${streams} at once, p99.9`, "µs", "less"),
    metric(`visitors.${streams}.failed`, `${streams} at once, failed`, "", "less"),
  ]),
  async measure({ peer, endpoint, scale }): Promise<Figures> {
    const figures: Figures = {};
    await runLoad("visitors", { peer, endpoint, streams: Math.max(...AT_ONCE), windowMs: WARMUP_MS });
    await endpoint.quiet();
    for (const streams of AT_ONCE) {
      const result = await runLoad("visitors", { peer, endpoint, streams, ...scale });
      await endpoint.quiet();
      figures[`visitors.${streams}.rate`] = Number(result.count) / Number(result.seconds);
      figures[`visitors.${streams}.failed`] = Number(result.failed);
      if (Number(result.count) === 0) continue;
      figures[`visitors.${streams}.p50`] = Number(result.p50Us);
      figures[`visitors.${streams}.p99`] = Number(result.p99Us);
      figures[`visitors.${streams}.p999`] = Number(result.p999Us);
    }
    return figures;
  },
};
