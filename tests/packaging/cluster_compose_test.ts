/**
 * The services of `cluster.compose.yaml` as processes with its commands and settings, and with a real PostgreSQL and Redis:
 * two edges with workers, a session master, an agent, and a visitor at each edge. Only names and ports are this machine's.
 */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { currentRuntime, masterGrants, tcpConnector } from "../../mod.ts";
import type { Agent } from "../../src/agent/agent.ts";
import { makeFernetKey } from "../../src/cli/keys.ts";
import { Program } from "../cli/program.ts";
import { connectedAgent } from "../support/connected_agent.ts";
import { denoFlags } from "../support/deno_flags.ts";
import { skipPostgres, startPostgres } from "../support/postgres_server.ts";
import { skipRedis, startRedis } from "../support/redis_server.ts";
import { siteAnswers, startTlsSite } from "../support/tls_site.ts";
import { until } from "../support/until.ts";
import process from "node:process";

const timeout = 120_000;
const FILE = join(
  dirname(dirname(dirname(fileURLToPath(import.meta.url)))),
  "packaging/container/cluster.compose.yaml",
);
const NAME = "home.example.org";
const skip = process.platform !== "linux"
  ? "needs SO_REUSEPORT as Linux has it"
  : await skipRedis() || await skipPostgres();

interface Service {
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

describe("cluster.compose.yaml", { skip }, () => {
  it("starts a cluster that serves a visitor at either edge", { timeout }, async () => {
    const folder = await mkdtemp(join(tmpdir(), "sallyport-compose-"));
    const { services } = parse(await readFile(FILE, "utf8"), { merge: true }) as {
      services: Record<string, Service>;
    };
    const programs: Program[] = [];
    const agents: Agent[] = [];
    const [redis, postgres, site] = await Promise.all([startRedis(), startPostgres(), startTlsSite(NAME)]);
    await writeFile(join(folder, "fernet_keys"), makeFernetKey());
    await writeFile(join(folder, "cluster_key"), makeFernetKey());
    const database = await postgres.database();
    let master = "";
    /** The service's own command and settings, with what is elsewhere here. */
    const start = (name: string, here: Readonly<Record<string, string>>, listen: readonly string[]) => {
      const { command, environment } = services[name]!;
      const env: Record<string, string> = {};
      for (const [variable, value] of Object.entries(environment)) {
        env[variable] = value.replaceAll("/run/secrets", folder)
          .replace(/^redis:.*/, redis.url).replace(/^postgres:.*/, database)
          .replace("http://master:8080", master).replace(/\$\{PUBLIC_HOST[^}]*\}/, "localhost");
      }
      const args = [...command, "--data-dir", join(folder, name), ...listen];
      const flags = process.versions.deno === undefined ? [] : denoFlags(args);
      const on = { command: process.execPath, args: flags };
      const program = new Program(args, { ...env, ...here }, undefined, on);
      programs.push(program);
      return program;
    };
    try {
      const started = start("master", {}, ["--master-listen", "127.0.0.1:0"]);
      [, master = ""] = await started.seen(/session master +(http:\S+)/) as unknown as [string, string];
      const ports = await Promise.all(["edge-1", "edge-2"].map(async (name) => {
        const here = { SALLYPORT_CLUSTER_ADDRESS: "127.0.0.1", SALLYPORT_METRICS_LISTEN: "127.0.0.1:0" };
        const listen = ["--listen", "127.0.0.1:0", "--cluster-listen", "127.0.0.1:0"];
        const edge = start(name, here, listen);
        return Number((await edge.seen(/visitors and agents +127\.0\.0\.1:(\d+)/))[1]);
      }));
      const credential = (await readFile(join(folder, "master", "admin.key"), "utf8")).trim();
      const runtime = await currentRuntime();
      await connectedAgent({
        runtime,
        edge: { host: "127.0.0.1", port: ports[0]! },
        grants: masterGrants({ master, credential, hostname: NAME }),
        connector: tcpConnector({ runtime, host: "127.0.0.1", port: site.port }),
      }, agents);
      for (const port of ports) await until(() => siteAnswers(port, NAME));
      assert.equal((await fetch(`${master}/readyz`)).status, 200);
    } finally {
      await Promise.all(agents.map((agent) => agent.close(0)));
      await Promise.all(programs.map((program) => program.kill()));
      await Promise.all([redis.kill(), postgres.stop(), site.stop()]);
      await rm(folder, { recursive: true, force: true });
    }
  });
});
