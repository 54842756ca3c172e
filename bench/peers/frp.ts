/**
 * frp over plain TCP, built from the Go module proxy: a proxy of type https, which routes by SNI as an edge does.
 *
 * @module
 */

import { cp, mkdtemp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { CACHE, cacheFolder, exists, freePorts, run, startChild } from "../machine.ts";
import { type Peer, runningPeer, SERVER_NAME } from "./peer.ts";

const VERSION = "0.65.0";
const BIN = join(CACHE, "frp", "bin");

/** frp's server and client. */
export const frp: Peer = {
  name: "frp",
  title: "frp",
  async prepare(): Promise<string> {
    if (!await exists(join(BIN, "frpc"))) {
      // Built inside a copy of its own module: `go install` would leave out the module's replacements.
      const folder = await cacheFolder("frp");
      const download = await run("go", ["mod", "download", "-json", `github.com/fatedier/frp@v${VERSION}`], {
        cwd: folder,
      });
      const source = join(folder, "source");
      await cp((JSON.parse(download) as { Dir: string }).Dir, source, { recursive: true });
      await run("chmod", ["-R", "u+w", source]);
      await run("nice", ["go", "build", "-trimpath", "-o", `${BIN}/`, "./cmd/frps", "./cmd/frpc"], {
        cwd: source,
        env: { CGO_ENABLED: "0" },
      });
    }
    return await run(join(BIN, "frps"), ["--version"]);
  },
  async start(endpointPort) {
    const folder = await mkdtemp(join(await cacheFolder("run"), "frp-"));
    const [control, visitors] = await freePorts(2);
    const [serverFile, clientFile] = [join(folder, "frps.toml"), join(folder, "frpc.toml")];
    await writeFile(
      serverFile,
      `bindAddr = "127.0.0.1"
bindPort = ${control}
proxyBindAddr = "127.0.0.1"
vhostHTTPSPort = ${visitors}
log.level = "error"
`,
    );
    await writeFile(
      clientFile,
      `serverAddr = "127.0.0.1"
serverPort = ${control}
loginFailExit = false
transport.tls.enable = false
log.level = "error"
[[proxies]]
name = "bench"
type = "https"
localIP = "127.0.0.1"
localPort = ${endpointPort}
customDomains = ["${SERVER_NAME}"]
`,
    );
    const server = startChild(join(BIN, "frps"), ["-c", serverFile]);
    const client = startChild(join(BIN, "frpc"), ["-c", clientFile]);
    return runningPeer(visitors!, server, client);
  },
};
