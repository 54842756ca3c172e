/**
 * frp, built from the Go module proxy: a proxy of type https, which routes by SNI as an edge does.
 *
 * @module
 */

import { mkdtemp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeCertificate } from "../../src/crypto/certificate.ts";
import { buildGo, CACHE, cacheFolder, exists, freePorts, run, startChild } from "../machine.ts";
import { type Peer, type RunningPeer, runningPeer, SERVER_NAME, type Way } from "./peer.ts";

const VERSION = "0.65.0";
const BIN = join(CACHE, "frp", "bin");

/** frp's server and client over plain TCP. */
export const frp: Peer = {
  ...peerOver("tcp", "frp", "frp"),
  takesWay: true,
  // Where its visitors' TLS ends in the client.
  startHttps: (endpointPort) => startFrp("tcp", endpointPort, undefined, true),
};

/** The same over another transport, which is encrypted in the case of QUIC. */
export function frpOver(protocol: "kcp" | "quic"): Peer {
  return {
    ...peerOver(protocol, `frp-${protocol}`, `frp, ${protocol.toUpperCase()}`),
    cases: OVER_UDP_CASES,
  };
}

const OVER_UDP_CASES = ["bulk", "visitors", "pingpong"];

type Protocol = "tcp" | "kcp" | "quic";

function peerOver(protocol: Protocol, name: string, title: string): Peer {
  return {
    name,
    title,
    prepare: prepareFrp,
    start: (endpointPort, way) => startFrp(protocol, endpointPort, way, false),
  };
}

async function prepareFrp(): Promise<string> {
  if (!await exists(join(BIN, "frpc"))) {
    // Built inside a copy of its own module: `go install` would leave out the module's replacements.
    await buildGo("frp", `github.com/fatedier/frp@v${VERSION}`, ["./cmd/frps", "./cmd/frpc"]);
  }
  return await run(join(BIN, "frps"), ["--version"]);
}

async function startFrp(
  protocol: Protocol,
  endpointPort: number,
  way: Way | undefined,
  endsTls: boolean,
): Promise<RunningPeer> {
  const folder = await mkdtemp(join(await cacheFolder("run"), "frp-"));
  // The same numbers are free over UDP as far as anybody on this machine knows.
  const [control, visitors, udp] = await freePorts(3);
  const [serverFile, clientFile] = [join(folder, "frps.toml"), join(folder, "frpc.toml")];
  await writeFile(
    serverFile,
    `bindAddr = "127.0.0.1"
bindPort = ${control}
${protocol === "tcp" ? "" : `${protocol}BindPort = ${udp}`}
proxyBindAddr = "127.0.0.1"
vhostHTTPSPort = ${visitors}
log.level = "error"
`,
  );
  const dialled = protocol === "tcp" ? await (way?.(control!) ?? control) : udp;
  await writeFile(
    clientFile,
    `serverAddr = "127.0.0.1"
serverPort = ${dialled}
loginFailExit = false
transport.protocol = "${protocol}"
transport.tls.enable = false
log.level = "error"
[[proxies]]
name = "bench"
type = "https"
customDomains = ["${SERVER_NAME}"]
${endsTls ? await plugin(folder, endpointPort) : `localIP = "127.0.0.1"\nlocalPort = ${endpointPort}`}
`,
  );
  const server = startChild(join(BIN, "frps"), ["-c", serverFile]);
  const client = startChild(join(BIN, "frpc"), ["-c", clientFile]);
  return runningPeer(visitors!, server, client);
}

/** Has the client end TLS, with a certificate of the bench's. */
async function plugin(folder: string, endpointPort: number): Promise<string> {
  const request = { commonName: SERVER_NAME, names: [SERVER_NAME], validDays: 1, wallMs: Date.now() };
  const { certificatePem, keyPem } = await makeCertificate(request);
  await writeFile(join(folder, "tls.crt"), certificatePem);
  await writeFile(join(folder, "tls.key"), keyPem, { mode: 0o600 });
  return `[proxies.plugin]
type = "https2http"
localAddr = "127.0.0.1:${endpointPort}"
crtPath = "${join(folder, "tls.crt")}"
keyPath = "${join(folder, "tls.key")}"`;
}
