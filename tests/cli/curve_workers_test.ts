/** Curve with `--workers`: real processes that share a UDP port, and agents behind NATs that change their ports. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, describe, it } from "node:test";
import { type Agent, currentRuntime, masterGrants, tcpConnector } from "../../mod.ts";
import { connectedAgent } from "../support/connected_agent.ts";
import { denoFlags } from "../support/deno_flags.ts";
import { startTlsSite, type TlsSite, visitSite } from "../support/tls_site.ts";
import { Nat } from "../support/udp_nat.ts";
import { until } from "../support/until.ts";
import { parsePrometheus, sampleValue } from "../telemetry/prometheus.ts";
import { Program } from "./program.ts";

const timeout = 120_000;
/** Enough that both workers get some of them: all at one has a chance of 1 in 2,000. */
const AGENTS = 12;
const MOVING = 4;
const DOWNLOAD_BYTES = 1024 * 1024;

describe(
  "serve --workers with agents by curve",
  { skip: process.platform !== "linux" && "needs a shared UDP port as Linux has it" },
  () => {
    let folder: string;
    let site: TlsSite;
    let program: Program;
    let port: number;
    let master: string;
    let credential: string;
    const agents: Agent[] = [];
    const nats: Nat[] = [];
    const nameOf = (index: number) => `agent-${index}.localhost`;
    const expected = createHash("sha256").update(Buffer.alloc(DOWNLOAD_BYTES, "s")).digest("hex");

    it("starts workers that share a UDP port, and takes agents", { timeout }, async () => {
      folder = await mkdtemp(join(tmpdir(), "sallyport-curve-workers-"));
      site = await startTlsSite("site.localhost");
      const data = join(folder, "data");
      await writeFile(join(folder, "edge.json"), JSON.stringify({ workers: 2 }));
      const args = [
        ...["serve", "--config", join(folder, "edge.json"), "--data-dir", data, "--drain-timeout", "30s"],
        ...["--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0", "--curve-listen", "127.0.0.1:0"],
      ];
      const flags = process.versions.deno === undefined ? [] : [...denoFlags(args), "--allow-run=deno"];
      program = new Program(args, {}, undefined, { command: process.execPath, args: flags });
      [, master = ""] = await program.seen(/session master +(http:\S+)/);
      port = Number((await program.seen(/visitors and agents +127\.0\.0\.1:(\d+)/))[1]);
      const udpPort = Number((await program.seen(/curve agents \(UDP\) +127\.0\.0\.1:(\d+)/))[1]);
      const runtime = await currentRuntime();
      credential = (await readFile(join(data, "admin.key"), "utf8")).trim();
      await Promise.all(Array.from({ length: AGENTS }, async (_, index) => {
        const nat = nats[index] = new Nat(udpPort);
        await connectedAgent({
          runtime,
          transport: "curve",
          edge: { host: "127.0.0.1", port: await nat.listen() },
          grants: masterGrants({ master, credential, hostname: nameOf(index) }),
          connector: tcpConnector({ runtime, host: "127.0.0.1", port: site.port }),
        }, agents);
      }));
    });

    after(async () => {
      for (const nat of nats) nat.close();
      await program.kill();
      await site.stop();
      await rm(folder, { recursive: true, force: true });
    });

    async function metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
      const samples = parsePrometheus(await (await fetch(`${master}/metrics`)).text());
      return sampleValue(samples, `sallyport_${name}`, labels) ?? 0;
    }

    /** The list of sessions as the session master knows it. */
    async function sessions(): Promise<readonly Record<string, string>[]> {
      const answer = await fetch(`${master}/v1/sessions`, {
        headers: { authorization: `Bearer ${credential}` },
      });
      return (await answer.json() as { items: Record<string, string>[] }).items;
    }

    /** Downloads through some of the agents, whose addresses change meanwhile. */
    async function downloadWhileMoving(): Promise<void> {
      await Promise.all(
        nats.slice(0, MOVING).map(async (nat, index) => {
          const begun = Promise.withResolvers<void>();
          const download = visitSite(port, nameOf(index), `/bytes/${DOWNLOAD_BYTES}`, begun.resolve);
          await Promise.race([begun.promise, download]);
          nat.move();
          assert.equal((await download).hash, expected);
        }),
      );
    }

    it(
      "has sessions at both workers, and serves each at whichever a visitor arrives",
      { timeout },
      async () => {
        for (let index = 0; index < AGENTS; index++) {
          assert.equal((await visitSite(port, nameOf(index))).text, "sallyport");
        }
        assert.equal(await metric("sessions", { transport: "curve" }), AGENTS);
        // The workers report their sessions to the master every few moments.
        let items: readonly Record<string, string>[] = [];
        await until(async () => (items = await sessions()).length === AGENTS);
        assert.equal(new Set(items.map(({ edge }) => edge)).size, 2, JSON.stringify(items[0]));
      },
    );

    it("keeps sessions and downloads when agents' addresses change", { timeout }, async () => {
      // The system gives the packets from a new port to either worker: some come to the wrong one.
      for (let round = 0; await metric("curve_passed_datagrams_total") === 0 || round === 0; round++) {
        assert.ok(round < 20, "no datagram was passed");
        await downloadWhileMoving();
      }
      assert.ok(await metric("curve_path_moves_total") >= MOVING);
      for (const { facts } of agents) assert.equal(facts.lastEnd, undefined);
    });

    it("replaces the workers without cutting a download, though addresses change", { timeout }, async () => {
      const downloads = downloadWhileMoving();
      program.signal("SIGUSR2");
      await program.seen(/the new workers serve/, "stderr");
      await downloads;
      await until(async () => await metric("sessions", { transport: "curve" }) === AGENTS);
      await downloadWhileMoving();
      for (let index = 0; index < AGENTS; index++) {
        assert.equal((await visitSite(port, nameOf(index))).text, "sallyport");
      }
    });

    it("ends, and its agents with it", { timeout }, async () => {
      await Promise.all(agents.map((agent) => agent.close(0)));
      program.signal("SIGTERM");
      assert.equal(await program.ended, 0);
    });
  },
);
