/**
 * Sallyport on Bun or on Deno, by its command line. The session master is the bench's own, so that it decides about
 * cipher and version.
 *
 * @module
 */

import { chmod, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import process from "node:process";
import { certificateFingerprint, fingerprintText, makeCertificate } from "../../src/crypto/certificate.ts";
import { loadSodium, makeKeyPair } from "../../src/crypto/sodium.ts";
import { type CipherName, fernetKey, issueToken } from "../../tests/support/tokens.ts";
import type { LineChild } from "../../tests/support/child.ts";
import { portOf } from "../../tests/support/plain_peer.ts";
import { cacheFolder, exists, freePorts, ROOT, run, startChild, Unavailable } from "../machine.ts";
import { type Peer, type RunningPeer, runningPeer, SERVER_NAME, type Way } from "./peer.ts";

/** A JavaScript runtime. */
export type RuntimeName = "bun" | "deno";

const PACKAGES: Record<RuntimeName, string> = { bun: "bun@1.4.5", deno: "deno@2.9.6" };
const programs = new Map<RuntimeName, Promise<string>>();

/**
 * The runtime's own executable, not a script that starts it: from PATH, or else from npm.
 *
 * @throws {Unavailable} where it is neither installed nor to be had.
 */
export function runtimeProgram(runtime: RuntimeName): Promise<string> {
  let program = programs.get(runtime);
  if (program === undefined) programs.set(runtime, program = findRuntime(runtime));
  return program;
}

async function findRuntime(runtime: RuntimeName): Promise<string> {
  const ask = runtime === "bun"
    ? ["-e", "console.log(process.execPath)"]
    : ["eval", "console.log(Deno.execPath())"];
  const installed = await run(runtime, ask).catch(() => "");
  if (installed !== "") return installed;
  const folder = await cacheFolder("runtimes");
  const script = join(folder, "node_modules", ".bin", runtime);
  if (!await exists(script)) await run("npm", ["install", "--prefix", folder, PACKAGES[runtime]]);
  return await run(script, ask);
}

/** Arguments that run a program of this repository. */
export function runtimeArgs(runtime: RuntimeName, file: string): string[] {
  return runtime === "bun" ? [file] : ["run", "-A", "--no-check", file];
}

/** Starts a script of the bench's own on the runtime that the bench runs on. */
export function startScript(file: string, args: readonly string[], env: Record<string, string>): LineChild {
  const runtime = "bun" in process.versions ? "bun" : "deno";
  return startChild(process.execPath, [...runtimeArgs(runtime, join(ROOT, "bench", file)), ...args], { env });
}

/** Which way between edge and agent, where it isn't SniTun's, with options of both for it. */
export interface OtherTransport {
  readonly transport: "sealed" | "curve" | "quic";
  readonly options: readonly string[];
}

/** The edge and the agent of this repository, on two ports, protocol version 2. */
export function sallyport(
  runtime: RuntimeName,
  name: string,
  title: string,
  cipher: CipherName,
  cases?: readonly string[],
  other?: OtherTransport,
): Peer {
  return {
    name,
    title,
    snitun: true,
    ...(cases === undefined ? {} : { cases }),
    async prepare(): Promise<string> {
      const program = await runtimeProgram(runtime);
      const commit = await run("git", ["-C", ROOT, "describe", "--always", "--dirty"]).catch(() => "unknown");
      const version = await run(program, ["--version"]);
      return `commit ${commit}, ${runtime} ${version.split("\n")[0]!.replace(/^deno /, "")}`;
    },
    takesWay: other === undefined || other.transport === "sealed",
    start: (endpointPort, way) => start(`127.0.0.1:${endpointPort}`, way),
    startHttps: (endpointPort) => start(`http://127.0.0.1:${endpointPort}`),
  };

  async function start(target: string, way?: Way): Promise<RunningPeer> {
    const program = await runtimeProgram(runtime);
    const key = fernetKey();
    const [visitors, agents] = await freePorts(2);
    const master = await startMaster(key, cipher, await (way?.(agents!) ?? agents!));
    // The agents of all peers serve one name: each keeps its state in a folder of its own.
    const dataFolder = await cacheFolder("run", `data-${visitors}`);
    const agentFolder = await cacheFolder("run", `data-${agents}`);
    for (const folder of [dataFolder, agentFolder]) await chmod(folder, 0o700);
    const known = other === undefined ? [] : await makeEdgeKey(other.transport, dataFolder);
    const env = {
      SALLYPORT_FERNET_KEYS: key,
      SALLYPORT_LOG_LEVEL: "error",
      SALLYPORT_DATA_DIR: dataFolder,
    };
    const sallyport = runtimeArgs(runtime, join(ROOT, "main.ts"));
    const edge = startChild(program, [
      ...[...sallyport, "edge", "--listen", `127.0.0.1:${visitors}`, "--agent-listen", `127.0.0.1:${agents}`],
      ...other === undefined || other.transport === "sealed"
        ? []
        : [`--${other.transport}-listen`, `127.0.0.1:${agents}`],
      ...other?.transport === "quic" && runtime === "bun" ? ["--quic-on-bun", "accept-risk"] : [],
      ...other?.options ?? [],
    ], { env });
    const agent = startChild(program, [
      ...[...sallyport, "agent", "--master", master.url, "--hostname", SERVER_NAME, "--to", target],
      ...["--cipher", cipher],
      ...other === undefined ? [] : ["--transport", other.transport, ...known, ...other.options],
    ], {
      env: {
        SALLYPORT_CREDENTIAL: "bench-credential",
        SALLYPORT_LOG_LEVEL: "error",
        SALLYPORT_DATA_DIR: agentFolder,
      },
    });
    return runningPeer(visitors!, edge, agent, {
      sessions: { port: agents!, fernetKey: key },
      stop: master.stop,
    });
  }
}

/** Makes what the edge is known by and gives the agent's flag for it. */
async function makeEdgeKey(transport: OtherTransport["transport"], folder: string): Promise<string[]> {
  if (transport === "quic") {
    const request = { commonName: "bench", names: ["edge.invalid"], validDays: "always" } as const;
    const { certificatePem, keyPem } = await makeCertificate({ ...request, wallMs: Date.now() });
    await writeFile(join(folder, "edge.pem"), certificatePem + keyPem, { mode: 0o600 });
    return ["--edge-certificate-fingerprint", fingerprintText(certificateFingerprint(certificatePem))];
  }
  const sodium = await loadSodium();
  const { secretKey, publicKey } = makeKeyPair(sodium);
  await writeFile(join(folder, "edge.key"), Buffer.from(secretKey).toString("base64url"), { mode: 0o600 });
  return ["--edge-public-key", Buffer.from(publicKey).toString("base64url")];
}

/** A session master that gives whoever asks a token. */
function startMaster(
  key: string,
  cipher: CipherName,
  agentPort: number,
): Promise<{ url: string; stop: () => Promise<void> }> {
  const server = createServer((request, response) => {
    request.resume();
    const issued = issueToken(key, { hostname: SERVER_NAME, cipher });
    response.writeHead(201, { "content-type": "application/json", connection: "close" });
    response.end(JSON.stringify({
      token: issued.token,
      hostname: SERVER_NAME,
      alias: [],
      aes_key: issued.aesKey,
      aes_iv: issued.aesIv,
      cipher,
      protocol_version: issued.protocolVersion,
      valid: Date.now() / 1000 + 3600,
      edge: { host: "127.0.0.1", port: agentPort },
    }));
  });
  return new Promise((resolve, reject) => {
    server.on("error", (error) => reject(new Unavailable(error.message)));
    server.listen(0, "127.0.0.1", () =>
      resolve({
        url: `http://127.0.0.1:${portOf(server)}`,
        stop: () => new Promise((done) => server.close(() => done())),
      }));
  });
}
