/** `--cluster`: nodes on both runtimes that find each other through a real Redis, with agents and visitors at both. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, describe, it } from "node:test";
import { type Agent, currentRuntime, masterGrants, tcpConnector } from "../../mod.ts";
import { makeFernetKey } from "../../src/cli/keys.ts";
import { SallyportError } from "../../src/errors.ts";
import { connectedAgent, openSession } from "../support/connected_agent.ts";
import { freePorts } from "../support/free_ports.ts";
import { otherRuntime } from "../support/other_runtime.ts";
import { type RedisServer, skipRedis, startRedis } from "../support/redis_server.ts";
import { siteAnswers, startTlsSite, type TlsSite, visitSite } from "../support/tls_site.ts";
import { until } from "../support/until.ts";
import { parsePrometheus, sampleValue } from "../telemetry/prometheus.ts";
import { Program } from "./program.ts";

const timeout = 120_000;
const DOWNLOAD_BYTES = 48 * 1024 * 1024;
const skip = await skipRedis();

describe("serve and edge --cluster", { skip }, () => {
  let folder: string;
  let site: TlsSite;
  let redis: RedisServer;
  let master: string;
  let credential: string;
  const programs: Program[] = [];
  const agents: Agent[] = [];
  /** Where visitors and agents of the two nodes connect. */
  let portA = 0;
  let portB = 0;
  let nodeB: Program;
  let metricsB: string;

  after(async () => {
    if (process.env.CLUSTER_DEBUG) {
      for (const { stderr } of programs) console.log(stderr.slice(-3000), "-----");
    }
    await Promise.all(agents.map((agent) => agent.close(0)));
    await Promise.all(programs.map((program) => program.kill()));
    await redis?.kill();
    await site?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  interface RunningNode {
    readonly program: Program;
    readonly port: number;
  }

  async function start(
    args: readonly string[],
    listen: string,
    on?: ConstructorParameters<typeof Program>[3],
  ): Promise<RunningNode> {
    const cluster = ["--cluster", redis.url, "--cluster-listen", "127.0.0.1:0"];
    const program = new Program([...args, "--listen", listen, ...cluster], {}, undefined, on);
    programs.push(program);
    const [, port] = await program.seen(/visitors and agents +127\.0\.0\.1:(\d+)/);
    return { program, port: Number(port) };
  }

  /** An edge; with a port of its own it is one that the session master sends agents to. */
  function startEdge(
    name: string,
    on: ConstructorParameters<typeof Program>[3],
    port = 0,
  ): Promise<RunningNode> {
    const args = [
      ...["edge", "--data-dir", join(folder, name), "--metrics-listen", "127.0.0.1:0"],
      ...["--fernet-keys-file", join(folder, "a", "fernet.keys")],
      ...["--cluster-key-file", join(folder, "a", "cluster.key")],
      ...port === 0 ? [] : ["--public-address", `localhost:${port}`, "--region", "here"],
    ];
    return start(args, `127.0.0.1:${port}`, on);
  }

  /** An agent for a name at the node with this port; else at edges that the session master chooses. */
  async function connect(hostname: string, port?: number, edges = 1): Promise<Agent> {
    const runtime = await currentRuntime();
    return await connectedAgent({
      runtime,
      grants: masterGrants({ master, credential, hostname, edges, region: "here" }),
      connector: tcpConnector({ runtime, host: "127.0.0.1", port: site.port }),
      edges,
      ...port === undefined ? {} : { edge: { host: "127.0.0.1", port } },
    }, agents);
  }

  /** Waits until the session master sends agents to these edges before all others. */
  async function offered(ports: readonly number[]): Promise<void> {
    const grants = masterGrants({ master, credential, hostname: "asks.localhost", edges: 2, region: "here" });
    await until(async () => {
      const { edges = [] } = await grants();
      const first = edges.slice(0, ports.length).map((edge) => edge.port);
      return ports.every((port) => first.includes(port));
    });
  }

  /** Tries until a visitor gets the site's answer; gives how long it took. */
  async function answers(port: number, hostname: string): Promise<number> {
    const startedMs = performance.now();
    await until(() => siteAnswers(port, hostname));
    return performance.now() - startedMs;
  }

  async function metricAt(
    url: string,
    name: string,
    labels: Readonly<Record<string, string>> = {},
  ): Promise<number> {
    const samples = parsePrometheus(await (await fetch(url)).text());
    return sampleValue(samples, name, labels) ?? 0;
  }

  /** Visitors that have come to node B from other nodes, or left it for them. */
  function forwardedAtB(direction: "in" | "out"): Promise<number> {
    return metricAt(metricsB, "sallyport_forwarded_visitors_total", { direction });
  }

  it("joins two nodes, of different runtimes where both are installed", { timeout }, async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-cluster-"));
    [site, redis] = await Promise.all([startTlsSite("site.localhost"), startRedis()]);
    const serve = ["serve", "--data-dir", join(folder, "a"), "--master-listen", "127.0.0.1:0"];
    const a = await start(serve, "127.0.0.1:0");
    portA = a.port;
    [, master] = await a.program.seen(/session master +(http:\S+)/) as unknown as [string, string];
    await a.program.seen(/cluster +node at 127\.0\.0\.1:\d+, the only one now/);
    credential = (await readFile(join(folder, "a", "admin.key"), "utf8")).trim();
    const b = await startEdge("b", await otherRuntime());
    portB = b.port;
    nodeB = b.program;
    await nodeB.seen(/cluster +node at 127\.0\.0\.1:\d+, one of 2/);
    [, metricsB] = await nodeB.seen(/metrics +(http:\S+)/) as unknown as [string, string];
  });

  it("brings a visitor at either node to the agent at the other", { timeout }, async () => {
    await connect("at-a.localhost", portA);
    await connect("at-b.localhost", portB);
    await answers(portB, "at-a.localhost");
    await answers(portA, "at-b.localhost");
    assert.ok(await forwardedAtB("in") > 0);
    assert.ok(await forwardedAtB("out") > 0);
    assert.equal(await metricAt(metricsB, "sallyport_cluster_links"), 2);
  });

  it("gives a name to the newer session, wherever it connects, and every visitor to that one", {
    timeout,
  }, async () => {
    const first = await connect("moves.localhost", portA);
    await answers(portB, "moves.localhost");
    await connect("moves.localhost", portB);
    await answers(portA, "moves.localhost");
    // The first agent has lost its session, and is not let back in as long as the newer one flaps with it.
    await until(() => first.facts.lastEnd !== undefined);
    await first.close(0);
    await answers(portB, "moves.localhost");
    await answers(portA, "moves.localhost");
  });

  it("lets a key open one session, at whichever node it is shown again", { timeout }, async () => {
    const grant = await masterGrants({ master, credential, hostname: "once.localhost" })();
    const at = (port: number) => openSession({ ...grant, edge: { host: "127.0.0.1", port } });
    const session = await at(portA);
    await assert.rejects(at(portB), { code: "session_refused" });
    const labels = { what: "agent", reason: "key_reused" };
    assert.equal(await metricAt(metricsB, "sallyport_refusals_total", labels), 1);
    session.close(new SallyportError("shutdown", "The test is over", { side: "local" }));
  });

  it("cuts nothing when Redis is killed, serves known routes, and takes new agents when it is back", {
    timeout,
  }, async () => {
    const begun = Promise.withResolvers<void>();
    const download = visitSite(portA, "at-b.localhost", `/bytes/${DOWNLOAD_BYTES}`, begun.resolve);
    await begun.promise;
    await redis.kill();
    assert.equal((await visitSite(portA, "at-b.localhost")).text, "sallyport");
    assert.equal((await visitSite(portB, "at-a.localhost")).text, "sallyport");
    assert.equal((await visitSite(portB, "at-b.localhost")).text, "sallyport");
    const expected = createHash("sha256").update(Buffer.alloc(DOWNLOAD_BYTES, "s")).digest("hex");
    assert.equal((await download).hash, expected);
    const late = connect("late.localhost", portB);
    await redis.restart();
    await late;
    await answers(portA, "late.localhost");
    await answers(portA, "at-b.localhost");
    await answers(portB, "at-a.localhost");
  });

  it(
    "sends agents to edges of their region; one that is killed is made up for within 2 s, and at once with two",
    {
      timeout,
    },
    async () => {
      const first = await freePorts(2);
      const [c, d] = await Promise.all([
        startEdge("c", undefined, first),
        startEdge("d", await otherRuntime(), first + 1),
      ]);
      // The master looks at the cluster's edges once a second: an agent that asks earlier gets another region's.
      await offered([c.port, d.port]);
      const single = await connect("single.localhost");
      const double = await connect("double.localhost", undefined, 2);
      await until(() => double.facts.others !== undefined);
      const at = [double.facts.session!, ...double.facts.others!].map(({ edge }) => edge).sort();
      assert.deepEqual(at, [`localhost:${c.port}`, `localhost:${d.port}`]);
      const [victim, left] = single.facts.session!.edge === at[0] ? [c, d] : [d, c];
      await answers(left.port, "single.localhost");
      await answers(portA, "single.localhost");
      await answers(portA, "double.localhost");
      await answers(portB, "single.localhost");
      // Making up for an edge takes several steps, each as slow as the machine is now.
      const slackMs = 10 * await answers(portB, "single.localhost");
      // A visitor whose bytes the node has taken, and not passed on, is caught by its death.
      const forwarded = await forwardedAtB("out");
      victim.program.signal("SIGSTOP");
      const caught = visitSite(portB, "single.localhost");
      await until(async () => await forwardedAtB("out") > forwarded);
      await victim.program.kill();
      const [doubleMs, doubleAtAMs, singleMs] = await Promise.all([
        answers(left.port, "double.localhost"),
        answers(portA, "double.localhost"),
        answers(left.port, "single.localhost"),
      ]);
      assert.equal((await caught).text, "sallyport");
      assert.ok(singleMs < 2_000 + slackMs, `one edge: ${singleMs} ms`);
      assert.ok(doubleMs < 500 + slackMs, `two edges: ${doubleMs} ms at the one that is left`);
      assert.ok(doubleAtAMs < 500 + slackMs, `two edges: ${doubleAtAMs} ms at another node`);
    },
  );

  it("refuses to start with another cluster key, and says what to do", { timeout }, async () => {
    const file = join(folder, "other.key");
    await writeFile(file, makeFernetKey());
    const program = new Program([
      ...["edge", "--data-dir", join(folder, "c"), "--listen", "127.0.0.1:0", "--cluster", redis.url],
      ...["--cluster-listen", "127.0.0.1:0", "--cluster-key-file", file],
    ]);
    programs.push(program);
    assert.equal(await program.ended, 2);
    assert.match(program.stderr, /has another cluster key; copy cluster\.key from that machine/);
  });
});
