/**
 * Remembers which transport connected an agent, by edge and network, in a file of its data folder.
 *
 * @module
 */
import type { TransportMemory } from "../agent/transport_choice.ts";
import { DataDir, TRANSPORTS_FILE } from "./data_dir.ts";
import { NETWORKS_REMEMBERED_MAX } from "../agent/transport_choice.ts";

/** The memory of a data folder: a line per place, `EDGE/NETWORKS TRANSPORT UNTIL`, the last in Unix seconds. */
export function transportMemory(path: string): TransportMemory {
  const folder = new DataDir(path);
  const lines = async () =>
    (await folder.read(TRANSPORTS_FILE) ?? "").split("\n").filter((line) => line !== "");
  return {
    read: async (place) => {
      const line = (await lines()).find((line) => line.startsWith(`${place} `));
      const [, transport = "", until] = line?.split(" ") ?? [];
      // Lines in any other format are ignored.
      return line === undefined ? undefined : { transport, untilMs: Number(until) * 1000 };
    },
    write: async (place, { transport, untilMs }) => {
      const others = (await lines()).filter((line) => !line.startsWith(`${place} `));
      const own = `${place} ${transport} ${Math.round(untilMs / 1000)}`;
      await folder.replace(
        TRANSPORTS_FILE,
        `${[...others, own].slice(-NETWORKS_REMEMBERED_MAX).join("\n")}\n`,
      );
    },
  };
}
