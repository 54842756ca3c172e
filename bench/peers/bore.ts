/**
 * bore, built from crates.io: a connection for each visitor, and no names. Its server's port is always the same.
 *
 * @module
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { build, CACHE, cacheFolder, exists, freePorts, listens, startChild } from "../machine.ts";
import { type Peer, runningPeer } from "./peer.ts";

const VERSION = "0.6.0";
/** Where bore's server always listens for clients. */
const SERVER_PORT = 7835;
const PROGRAM = join(CACHE, "bore", "bin", "bore");

/** bore with one port. */
export const bore: Peer = {
  name: "bore",
  title: "bore",
  async prepare(): Promise<string> {
    if (!await exists(PROGRAM)) {
      const folder = await cacheFolder("bore");
      const target = `${folder}-target`;
      await build("bore", "cargo", [
        ...["install", "bore-cli", "--version", VERSION, "--root", folder, "--target-dir", target],
      ]);
      await rm(target, { recursive: true, force: true });
    }
    return VERSION;
  },
  async start(endpointPort) {
    const [visitors] = await freePorts(1);
    const server = startChild(PROGRAM, ["server", "--min-port", "1024", "--bind-addr", "127.0.0.1"]);
    // A client that finds no server ends.
    await listens(SERVER_PORT);
    const client = startChild(PROGRAM, [
      ...["local", String(endpointPort), "--to", "127.0.0.1", "--port", String(visitors)],
    ]);
    return runningPeer(visitors!, server, client);
  },
};
