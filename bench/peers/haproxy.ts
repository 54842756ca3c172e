/**
 * haproxy passing TLS through by SNI: one hop instead of two, a bound for what only an edge costs.
 *
 * @module
 */

import { mkdtemp, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { CACHE, cacheFolder, exists, freePorts, run, startChild, Unavailable } from "../machine.ts";
import { type Peer, runningPeer, SERVER_NAME } from "./peer.ts";

const UNPACKED = join(CACHE, "haproxy");
const LIBRARIES = join(UNPACKED, "usr", "lib", "x86_64-linux-gnu");
/** Those of its libraries that a small Debian lacks. */
const PACKAGES = ["haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"];

let program = "haproxy";
const env = { LD_LIBRARY_PATH: LIBRARIES };

/** haproxy with one SNI rule. */
export const haproxy: Peer = {
  name: "haproxy",
  title: "haproxy (one hop)",
  async prepare(): Promise<string> {
    const own = join(UNPACKED, "usr", "sbin", "haproxy");
    if (await run("haproxy", ["-v"]).catch(() => "") === "") {
      if (!await exists(own)) await unpack();
      program = own;
    }
    const text = await run(program, ["-v"], { env });
    return /version (\S+)/.exec(text)?.[1] ?? "unknown";
  },
  async start(endpointPort) {
    const folder = await mkdtemp(join(await cacheFolder("run"), "haproxy-"));
    const [visitors] = await freePorts(1);
    const file = join(folder, "haproxy.cfg");
    await writeFile(
      file,
      `global
  maxconn 8000
defaults
  mode tcp
  timeout connect 10s
  timeout client 120s
  timeout server 120s
frontend visitors
  bind 127.0.0.1:${visitors}
  tcp-request inspect-delay 5s
  tcp-request content accept if { req_ssl_hello_type 1 }
  use_backend bench if { req_ssl_sni -i ${SERVER_NAME} }
backend bench
  server endpoint 127.0.0.1:${endpointPort}
`,
    );
    return runningPeer(visitors!, startChild(program, ["-db", "-f", file], { env }), undefined);
  },
};

/** Fetches the packages by apt and unpacks them in the cache: nothing is installed, nobody needs to be root. */
async function unpack(): Promise<void> {
  const folder = await cacheFolder("haproxy");
  try {
    await run("apt-get", ["download", ...PACKAGES], { cwd: folder });
    for (const name of await readdir(folder)) {
      if (name.endsWith(".deb")) await run("dpkg", ["-x", name, "."], { cwd: folder });
    }
  } catch (error) {
    throw new Unavailable(`there is no haproxy here, and apt can't fetch it: ${(error as Error).message}`);
  }
}
