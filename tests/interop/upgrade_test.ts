/**
 * An upgrade with agents that can't be told to move: clients of the reference. They are disconnected last, and come back
 * by themselves, as an integration of the reference does.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, describe, it } from "node:test";
import { type Agent, currentRuntime, masterGrants, tcpConnector } from "../../mod.ts";
import { Program } from "../cli/program.ts";
import { connectedAgent } from "../support/connected_agent.ts";
import { denoFlags } from "../support/deno_flags.ts";
import { siteAnswers, startTlsSite, type TlsSite, visitSite } from "../support/tls_site.ts";
import { fernetKey, issueToken } from "../support/tokens.ts";
import { until } from "../support/until.ts";
import { type ReferenceClient, type ReferenceSession, startReferenceClient } from "./reference.ts";
import { skipInterop } from "./reference_env.ts";

const timeout = 120_000;
const OURS = "ours.localhost";
const PYTHON = ["python-1.localhost", "python-2.localhost", "python-3.localhost"];
const DOWNLOAD_BYTES = 32 * 1024 * 1024;
const skip = process.platform !== "linux" ? "needs SO_REUSEPORT as Linux has it" : await skipInterop();

describe("serve --workers with agents of the reference", { skip }, () => {
  const key = fernetKey();
  const agents: Agent[] = [];
  const sessions = new Map<string, ReferenceSession>();
  let folder: string;
  let site: TlsSite;
  let program: Program;
  let client: ReferenceClient;
  let port: number;

  async function connectPython(hostname: string): Promise<void> {
    sessions.set(
      hostname,
      await client.connect({
        edge: { host: "127.0.0.1", port },
        endpointPort: site.port,
        token: issueToken(key, { hostname }),
      }),
    );
  }

  it("starts, with one agent of ours and three of the reference", { timeout }, async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-upgrade-"));
    site = await startTlsSite("site.localhost");
    await writeFile(join(folder, "edge.json"), JSON.stringify({ workers: 1, log_format: "json" }));
    const data = join(folder, "data");
    const args = [
      ...["serve", "--config", join(folder, "edge.json"), "--data-dir", data, "--fernet-keys", key],
      ...["--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0", "--drain-timeout", "60s"],
    ];
    const flags = process.versions.deno === undefined ? [] : [...denoFlags(args), "--allow-run=deno"];
    program = new Program(args, {}, undefined, { command: process.execPath, args: flags });
    const [, master = ""] = await program.seen(/session master +(http:\S+)/);
    port = Number((await program.seen(/visitors and agents +127\.0\.0\.1:(\d+)/))[1]);
    const runtime = await currentRuntime();
    const credential = (await readFile(join(data, "admin.key"), "utf8")).trim();
    await connectedAgent({
      runtime,
      grants: masterGrants({ master, credential, hostname: OURS }),
      connector: tcpConnector({ runtime, host: "127.0.0.1", port: site.port }),
    }, agents);
    client = await startReferenceClient();
    for (const hostname of PYTHON) await connectPython(hostname);
    for (const hostname of [OURS, ...PYTHON]) {
      assert.equal((await visitSite(port, hostname)).text, "sallyport");
    }
  });

  after(async () => {
    await Promise.all(agents.map((agent) => agent.close(0)));
    await client.stop();
    await program.kill();
    await site.stop();
    await rm(folder, { recursive: true, force: true });
  });

  it(
    "disconnects the reference's agents last, and lets a download of theirs finish",
    { timeout },
    async () => {
      const expected = createHash("sha256").update(Buffer.alloc(DOWNLOAD_BYTES, "s")).digest("hex");
      const download = visitSite(port, PYTHON[0]!, `/bytes/${DOWNLOAD_BYTES}`);
      program.signal("SIGUSR2");
      await program.seen(/the new workers serve/, "stderr");
      // Until they are disconnected, the new worker forwards their visitors to the old one. (A visitor that waited in the
      // queue of the socket that was closed is reset, and tries again.)
      for (const hostname of [OURS, ...PYTHON]) await until(() => siteAnswers(port, hostname));
      await Promise.all(PYTHON.map(async (hostname) => {
        await sessions.get(hostname)!.disconnected();
        await connectPython(hostname);
      }));
      assert.equal((await download).hash, expected);
      for (const hostname of [OURS, ...PYTHON]) await until(() => siteAnswers(port, hostname));
      const events = [...program.stderr.matchAll(/^\{.*"agent (?:connected|disconnected).*$/gm)]
        .map(([line]) => JSON.parse(line) as { hostname: string; msg: string });
      const cut = events.filter(({ msg }) => msg.startsWith("agent disconnected"))
        .filter(({ hostname }) => hostname !== OURS);
      const moved = events.findLastIndex(({ hostname, msg }) =>
        hostname === OURS && msg === "agent connected"
      );
      assert.ok(moved > PYTHON.length, "our agent has no second session");
      assert.ok(moved < events.indexOf(cut[0]!), "one was disconnected before our agent had moved");
      // The order is not fixed: one may still have its download to finish.
      assert.deepEqual(cut.map(({ hostname }) => hostname).sort(), PYTHON);
    },
  );

  it("ends with 0 at SIGTERM", { timeout }, async () => {
    await Promise.all(agents.map((agent) => agent.close(0)));
    for (const session of sessions.values()) session.disconnect();
    program.signal("SIGTERM");
    assert.equal(await program.ended, 0);
  });
});
