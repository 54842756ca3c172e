/**
 * rathole over plain TCP, built from crates.io.
 *
 * @module
 */

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build, CACHE, cacheFolder, exists, freePorts, startChild } from "../machine.ts";
import { type Peer, runningPeer } from "./peer.ts";

const VERSION = "0.5.0";
const PROGRAM = join(CACHE, "rathole", "bin", "rathole");

/** rathole with a TCP service; it knows no names. */
export const rathole: Peer = {
  name: "rathole",
  title: "rathole",
  async prepare(): Promise<string> {
    if (!await exists(PROGRAM)) {
      const folder = await cacheFolder("rathole");
      const target = `${folder}-target`;
      await build("rathole", "cargo", [
        ...["install", "rathole", "--version", VERSION, "--root", folder],
        // Plain TCP is what is measured; TLS, Noise and WebSocket would need OpenSSL's headers. Without --locked: the
        // lock file of 0.5.0 names a crate that today's compiler refuses.
        ...["--no-default-features", "--features", "server,client", "--target-dir", target],
      ]);
      await rm(target, { recursive: true, force: true });
    }
    return VERSION;
  },
  takesWay: true,
  async start(endpointPort, way) {
    const folder = await mkdtemp(join(await cacheFolder("run"), "rathole-"));
    const [control, visitors] = await freePorts(2);
    const [serverFile, clientFile] = [join(folder, "server.toml"), join(folder, "client.toml")];
    await writeFile(
      serverFile,
      `[server]
bind_addr = "127.0.0.1:${control}"
default_token = "bench"
[server.transport]
type = "tcp"
[server.transport.tcp]
nodelay = true
[server.services.bench]
type = "tcp"
nodelay = true
bind_addr = "127.0.0.1:${visitors}"
`,
    );
    await writeFile(
      clientFile,
      `[client]
remote_addr = "127.0.0.1:${await (way?.(control!) ?? control)}"
default_token = "bench"
[client.transport]
type = "tcp"
[client.transport.tcp]
nodelay = true
[client.services.bench]
type = "tcp"
nodelay = true
local_addr = "127.0.0.1:${endpointPort}"
`,
    );
    const env = { RUST_LOG: "error" };
    const server = startChild(PROGRAM, ["--server", serverFile], { env });
    const client = startChild(PROGRAM, ["--client", clientFile], { env });
    return runningPeer(visitors!, server, client);
  },
};
