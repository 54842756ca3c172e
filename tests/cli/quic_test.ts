/** The QUIC transport by the whole program: edge, session master and agent as processes, curl as the visitor. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { makeCertificate } from "../../src/crypto/certificate.ts";
import { skipWithout } from "../support/system_programs.ts";
import { startTlsSite, type TlsSite } from "../support/tls_site.ts";
import { until } from "../support/until.ts";
import { programStarter } from "./program.ts";

const timeout = 90_000;
const NAME = "a.example.org";

let folder: string;
let site: TlsSite;
const start = programStarter();
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-quic-"));
  site = await startTlsSite(NAME);
});
after(async () => {
  await site.stop();
  await rm(folder, { recursive: true, force: true });
});

async function visit(edgePort: string): Promise<string> {
  const { stdout } = await promisify(execFile)("curl", [
    ...["--silent", "--show-error", "--cacert", site.caFile],
    ...["--connect-to", `${NAME}:443:127.0.0.1:${edgePort}`, `https://${NAME}/hello`],
  ], { timeout: 60_000 });
  return stdout;
}

interface Served {
  readonly dataDir: string;
  readonly port: string;
  readonly master: string;
  readonly fingerprint: string;
}

async function serve(name: string, more: readonly string[] = []): Promise<Served> {
  const dataDir = join(folder, name);
  const edge = start([
    ...[
      "--listen",
      "127.0.0.1:0",
      "--master-listen",
      "127.0.0.1:0",
      "--quic-listen",
      "127.0.0.1:0",
      "--quic-on-bun",
      "accept-risk",
    ],
    ...["--data-dir", dataDir, ...more],
  ]);
  const [, port = ""] = await edge.seen(/visitors and agents +127\.0\.0\.1:(\d+)/);
  // One process owns a QUIC port, which the start message tells.
  await edge.seen(
    more.includes("--workers")
      ? /QUIC agents \(UDP\) +127\.0\.0\.1:\d+, all at the first worker/
      : /QUIC agents \(UDP\) +127\.0\.0\.1:\d+\n/,
  );
  const [, master = ""] = await edge.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
  const [, fingerprint = ""] = await edge.seen(/edge's certificate +([0-9A-F:]{95})/);
  return { dataDir, port, master, fingerprint };
}

function agentArgs({ dataDir, master }: Served): string[] {
  return [
    ...["agent", "--master", master, "--credential-file", join(dataDir, "admin.key"), "--hostname", NAME],
    ...["--to", `127.0.0.1:${site.port}`, "--transport", "quic", "--data-dir", join(folder, "agent")],
  ];
}

describe("agent --transport quic", { skip: await skipWithout("curl") }, () => {
  it("serve tells agents all they need: certificate, port, transport", { timeout }, async () => {
    const served = await serve("first");
    const agent = start(agentArgs(served));
    await agent.seen(/connected to the edge/, "stderr");
    assert.match(await visit(served.port), /./);
    const kept = await readFile(join(served.dataDir, "edge.pem"), "utf8");
    assert.match(kept, /BEGIN CERTIFICATE[\s\S]+BEGIN PRIVATE KEY/);
  });

  it("a key whose certificate has expired serves agents all the same", { timeout }, async () => {
    const dataDir = join(folder, "expired");
    const request = { commonName: "own", names: ["own.test"], validDays: 10 };
    const own = await makeCertificate({ ...request, wallMs: Date.now() - 100 * 86_400_000 });
    await mkdir(dataDir);
    await writeFile(join(dataDir, "edge.pem"), own.certificatePem + own.keyPem);
    const served = await serve("expired");
    const agent = start(agentArgs(served));
    await agent.seen(/connected to the edge/, "stderr");
    assert.match(await visit(served.port), /./);
  });

  it("a worker that is replaced leaves its port to the new one", { timeout }, async () => {
    const served = await serve("upgraded", ["--workers", "1"]);
    const agent = start(agentArgs(served));
    await agent.seen(/connected to the edge/, "stderr");
    const upgrade = start(["upgrade", "--data-dir", served.dataDir, "--wait"]);
    assert.equal(await upgrade.ended, 0, upgrade.stdout + upgrade.stderr);
    await until(() => visit(served.port).then(() => true, () => false));
  });

  it("an agent that insists on another certificate says so, and stays out", { timeout }, async () => {
    const served = await serve("second");
    const other = served.fingerprint.replace(/^../, (byte) => byte === "00" ? "11" : "00");
    const agent = start([...agentArgs(served), "--edge-certificate-fingerprint", other]);
    await agent.seen(/but it was given as .* by --edge-certificate-fingerprint/, "stderr");
    await assert.rejects(visit(served.port));
  });

  it("an edge on Bun listens for QUIC by consent alone, and says why", { timeout }, async () => {
    const args = ["serve", "--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0"];
    const edge = start([...args, "--quic-listen", "127.0.0.1:0", "--data-dir", join(folder, "third")]);
    if (process.versions.bun === undefined) {
      await edge.seen(/QUIC agents \(UDP\) +127\.0\.0\.1:\d+/);
      return;
    }
    assert.equal(await edge.ended, 2);
    assert.match(edge.stderr, /Cannot use --quic-listen on bun .* --quic-on-bun accept-risk/);
    assert.equal(edge.stdout, "");
  });
});
