/**
 * 64 bytes there and back: alone, and beside a bulk transfer in another stream of the same session, whose rate is measured
 * as well: a transfer that stands still would make the messages look quick.
 *
 * @module
 */

import type { ChildEvent } from "../../tests/support/child.ts";
import { runLoad, startLoad } from "../load/load.ts";
import { type Case, type Figures, metric } from "./case.ts";

const SITUATIONS = { alone: "alone", besideUp: "beside an upload", besideDown: "beside a download" } as const;
const BACKGROUND_LIMIT_MS = 60_000;

/** Case 3. */
export const pingpong: Case = {
  name: "pingpong",
  title: "Ping-pong of 64 bytes",
  metrics: Object.entries(SITUATIONS).flatMap(([name, title]) => [
    metric(`pingpong.${name}.p50`, `${title}, p50`, "µs", "less"),
    metric(`pingpong.${name}.p99`, `${title}, p99`, "µs", "less"),
    metric(`pingpong.${name}.p999`, `${title}, p99.9`, "µs", "less"),
    ...(name === "alone"
      ? []
      : [metric(`pingpong.${name}.mbps`, `${title}: what that moved`, "MB/s", "more")]),
  ]),
  async measure({ peer, endpoint, scale }): Promise<Figures> {
    const figures: Figures = {};
    for (const name of Object.keys(SITUATIONS) as (keyof typeof SITUATIONS)[]) {
      const background = name === "alone" ? undefined : await startLoad("bulk", {
        ...{ peer, endpoint, upload: name === "besideUp", windowMs: BACKGROUND_LIMIT_MS },
      });
      let moved: ChildEvent | undefined;
      try {
        const result = await runLoad("pingpong", { peer, endpoint, ...scale });
        for (const point of ["p50", "p99", "p999"]) {
          figures[`pingpong.${name}.${point}`] = Number(result[`${point}Us`]);
        }
      } finally {
        moved = await background?.stop();
      }
      if (moved !== undefined) {
        if (Number(moved.lost) > 0) {
          throw new Error(`Cannot measure "${SITUATIONS[name]}": the transfer broke off`);
        }
        figures[`pingpong.${name}.mbps`] = Number(moved.bytes) / Number(moved.seconds) / 1e6;
      }
      await endpoint.quiet();
    }
    return figures;
  },
};
