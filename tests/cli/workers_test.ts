/** `--workers`: real processes that share a port, with agents and visitors at both of them. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, describe, it } from "node:test";
import { type Agent, currentRuntime, masterGrants, tcpConnector } from "../../mod.ts";
import { SallyportError } from "../../src/errors.ts";
import { connectedAgent, openSession } from "../support/connected_agent.ts";
import { denoFlags } from "../support/deno_flags.ts";
import { type SiteAnswer, siteAnswers, startTlsSite, type TlsSite, visitSite } from "../support/tls_site.ts";
import { until } from "../support/until.ts";
import { parsePrometheus, sampleValue } from "../telemetry/prometheus.ts";
import { VERSION } from "../../src/version.ts";
import { Program } from "./program.ts";

const timeout = 120_000;
const WORKERS = 2;
/** Enough that both workers get some of them, whatever the kernel draws: all at one has a chance of 1 in 2,000. */
const AGENTS = 12;
const DOWNLOAD_BYTES = 64 * 1024 * 1024;

describe(
  "serve --workers",
  { skip: process.platform !== "linux" && "needs SO_REUSEPORT as Linux has it" },
  () => {
    let folder: string;
    let site: TlsSite;
    let program: Program;
    let port: number;
    let master: string;
    let data: string;
    const agents: Agent[] = [];

    // As a test of its own: hooks have a deadline that a busy machine may miss.
    it("starts workers that share a port, and takes agents", { timeout }, async () => {
      folder = await mkdtemp(join(tmpdir(), "sallyport-workers-"));
      site = await startTlsSite("site.localhost");
      data = join(folder, "data");
      await writeFile(join(folder, "edge.json"), JSON.stringify({ workers: WORKERS }));
      const args = [
        ...["serve", "--config", join(folder, "edge.json"), "--data-dir", data, "--drain-timeout", "30s"],
        ...["--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0"],
      ];
      const flags = process.versions.deno === undefined ? [] : [...denoFlags(args), "--allow-run=deno"];
      program = new Program(args, {}, undefined, { command: process.execPath, args: flags });
      const [, at] = await program.seen(/session master +(http:\S+)/);
      master = at!;
      port = Number((await program.seen(/visitors and agents +127\.0\.0\.1:(\d+)/))[1]);
      const runtime = await currentRuntime();
      const credential = (await readFile(join(data, "admin.key"), "utf8")).trim();
      await Promise.all(Array.from({ length: AGENTS }, (_, index) =>
        connectedAgent({
          runtime,
          grants: masterGrants({ master, credential, hostname: nameOf(index) }),
          connector: tcpConnector({ runtime, host: "127.0.0.1", port: site.port }),
        }, agents)));
    });

    after(async () => {
      await Promise.all(agents.map((agent) => agent.close(0)));
      await program.kill();
      await site.stop();
      await rm(folder, { recursive: true, force: true });
    });

    function nameOf(index: number): string {
      return `agent-${index}.localhost`;
    }

    /** What a visitor of an agent gets; a connection of its own, which the kernel gives to either worker. */
    function visit(index: number, path?: string): Promise<SiteAnswer> {
      return visitSite(port, nameOf(index), path);
    }

    async function metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
      const samples = parsePrometheus(await (await fetch(`${master}/metrics`)).text());
      return sampleValue(samples, name, labels) ?? 0;
    }

    /** The process ids of the workers, from the kernel. */
    async function workerPids(): Promise<number[]> {
      const children = await readFile(`/proc/${program.pid}/task/${program.pid}/children`, "utf8");
      return children.trim().split(/\s+/).map(Number);
    }

    /** Tries until every agent answers. */
    async function allAnswer(): Promise<void> {
      for (let index = 0; index < AGENTS; index++) {
        await until(() => siteAnswers(port, nameOf(index)));
      }
    }

    it("serves every agent at whichever worker a visitor arrives, and adds up what the workers measure", {
      timeout,
    }, async () => {
      // An agent is connected a moment before the other worker knows its name.
      await allAnswer();
      for (let round = 0; round < 3; round++) {
        for (let index = 0; index < AGENTS; index++) assert.equal((await visit(index)).text, "sallyport");
      }
      assert.ok(
        await metric("sallyport_forwarded_visitors_total", { direction: "out" }) > 0,
        "none was forwarded",
      );
      const labels = { protocol_version: "2", cipher: "aes-gcm", transport: "snitun" };
      assert.equal(await metric("sallyport_sessions", labels), AGENTS);
      assert.equal((await fetch(`${master}/readyz`)).status, 200);
    });

    it("lets a key open one session, at whichever worker it is shown again", { timeout }, async () => {
      const credential = (await readFile(join(data, "admin.key"), "utf8")).trim();
      const grant = await masterGrants({ master, credential, hostname: "once.localhost" })();
      const refusals = () => metric("sallyport_refusals_total", { what: "agent", reason: "key_reused" });
      const session = await openSession(grant);
      for (let tries = 0; tries < AGENTS; tries++) {
        await assert.rejects(openSession(grant), { code: "session_refused" });
      }
      await until(async () => await refusals() === AGENTS);
      session.close(new SallyportError("shutdown", "The test is over", { side: "local" }));
    });

    it("replaces the workers at SIGUSR2 without cutting a download, and serves visitors meanwhile", {
      timeout,
    }, async () => {
      const before = await workerPids();
      const expected = createHash("sha256").update(Buffer.alloc(DOWNLOAD_BYTES, "s")).digest("hex");
      const downloads = [0, 1, 2, 3].map((index) => visit(index, `/bytes/${DOWNLOAD_BYTES}`));
      program.signal("SIGUSR2");
      await program.seen(/the new workers serve/, "stderr");
      await allAnswer();
      for (const download of downloads) assert.equal((await download).hash, expected);
      const now = await workerPids();
      await until(async () => !(await workerPids()).some((pid) => before.includes(pid)));
      assert.ok(now.some((pid) => !before.includes(pid)));
      await allAnswer();
    });

    it(
      "replaces them when `upgrade` asks, tells how it goes, and waits for the old ones",
      { timeout },
      async () => {
        const before = await workerPids();
        const upgrade = new Program(["upgrade", "--data-dir", data, "--wait"]);
        assert.equal(await upgrade.ended, 0, upgrade.stderr);
        assert.deepEqual(upgrade.stdout.trim().split("\n"), [
          "replacing 2 workers",
          `worker 0 serves (${VERSION})`,
          `worker 1 serves (${VERSION})`,
          "the new workers serve; the old ones let their streams finish",
          "the old workers have ended",
        ]);
        assert.ok((await workerPids()).every((pid) => !before.includes(pid)));
        await allAnswer();
      },
    );

    it(
      "goes on with the old workers where a new one does not start, and `upgrade` ends with 1",
      { timeout },
      async () => {
        const before = await workerPids();
        await writeFile(join(folder, "edge.json"), JSON.stringify({ workers: WORKERS, log_level: "loud" }));
        const upgrade = new Program(["upgrade", "--data-dir", data]);
        assert.equal(await upgrade.ended, 1);
        assert.match(upgrade.stdout, /Cannot upgrade: .*exit code 2.*; the old workers go on/);
        await writeFile(join(folder, "edge.json"), JSON.stringify({ workers: WORKERS }));
        await allAnswer();
        assert.deepEqual(await workerPids(), before);
      },
    );

    it("`upgrade` ends with 2 where no edge with workers runs", { timeout }, async () => {
      const upgrade = new Program(["upgrade", "--data-dir", join(folder, "elsewhere")]);
      assert.equal(await upgrade.ended, 2);
      assert.match(
        upgrade.stderr,
        /^Cannot upgrade: no serve or edge with --workers is running with this data folder/,
      );
    });

    it("starts a worker that was killed again, and its agents come back", { timeout }, async () => {
      const [first] = await workerPids();
      process.kill(first!, "SIGKILL");
      await program.seen(/worker was killed; restarting it/, "stderr");
      await allAnswer();
      await until(async () => (await workerPids()).length >= WORKERS);
      assert.equal((await fetch(`${master}/healthz`)).status, 200);
    });

    it("ends with 0 at SIGTERM, and no worker stays behind", { timeout }, async () => {
      const pids = await workerPids();
      program.signal("SIGTERM");
      assert.equal(await program.ended, 0);
      for (const pid of pids) assert.throws(() => process.kill(pid, 0), { code: "ESRCH" });
    });
  },
);
