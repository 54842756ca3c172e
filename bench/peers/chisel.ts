/**
 * chisel: TCP over SSH inside a WebSocket, built from the Go module proxy. It knows no names.
 *
 * @module
 */
import { join } from "node:path";
import { buildGo, CACHE, exists, freePorts, startChild } from "../machine.ts";
import { type Peer, runningPeer } from "./peer.ts";

const VERSION = "1.10.1";
const PROGRAM = join(CACHE, "chisel", "bin", "chisel");

/** chisel with a reverse tunnel. */
export const chisel: Peer = {
  name: "chisel",
  title: "chisel",
  takesWay: true,
  async prepare(): Promise<string> {
    if (!await exists(PROGRAM)) await buildGo("chisel", `github.com/jpillora/chisel@v${VERSION}`, ["."]);
    return VERSION;
  },
  async start(endpointPort, way) {
    const [control, visitors] = await freePorts(2);
    const server = startChild(PROGRAM, [
      ...["server", "--host", "127.0.0.1", "--port", String(control), "--reverse"],
    ]);
    const dialled = await (way?.(control!) ?? control);
    const client = startChild(PROGRAM, [
      ...["client", `http://127.0.0.1:${dialled}`],
      `R:127.0.0.1:${visitors}:127.0.0.1:${endpointPort}`,
    ]);
    return runningPeer(visitors!, server, client);
  },
};
