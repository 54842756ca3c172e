/**
 * Keys of edges that an agent trusted on first use, in a file of its data folder.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { keyText } from "../transport/edge_key.ts";
import type { EdgePins } from "../transport/agent_transport.ts";
import { SallyportError } from "../errors.ts";
import { DataDir, PINS_FILE } from "./data_dir.ts";

/** The pins of a data folder: a line per edge, `HOST:PORT KEY`, similar to SSH's `known_hosts`. */
export function edgePins(path: string): EdgePins {
  const folder = new DataDir(path);
  const place = folder.file(PINS_FILE);
  return {
    place,
    read: async (edge) => {
      const lines = (await folder.read(PINS_FILE) ?? "").split("\n").map((line) => line.trim().split(/\s+/));
      const key = lines.find(([name]) => name === edge)?.[1];
      if (key === undefined) return undefined;
      if (!/^[\w-]{43}$/.test(key)) {
        const why = `Cannot use ${place}: the key of ${edge} must have 43 characters of base64url`;
        throw new SallyportError("config_invalid", why, { side: "config" });
      }
      return new Uint8Array(Buffer.from(key, "base64url"));
    },
    write: (edge, publicKey) => folder.append(PINS_FILE, `${edge} ${keyText(publicKey)}\n`),
  };
}
