/**
 * 64 bytes there and back: alone, and beside a bulk transfer in another stream of the same session.
 *
 * @module
 */

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
  ]),
  async measure({ peer, endpoint, scale }): Promise<Figures> {
    const figures: Figures = {};
    for (const name of Object.keys(SITUATIONS)) {
      const background = name === "alone" ? undefined : await startLoad("bulk", {
        ...{ peer, endpoint, upload: name === "besideUp", windowMs: BACKGROUND_LIMIT_MS },
      });
      try {
        const result = await runLoad("pingpong", { peer, endpoint, ...scale });
        for (const point of ["p50", "p99", "p999"]) {
          figures[`pingpong.${name}.${point}`] = Number(result[`${point}Us`]);
        }
      } finally {
        await background?.stop();
      }
      await endpoint.quiet();
    }
    return figures;
  },
};
