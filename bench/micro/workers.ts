/**
 * What visitors and bulk cost an edge with one process and with several workers, in processor time of the edge's processes
 * alone (Linux): `deno run -A bench/micro/workers.ts`, `bun bench/micro/workers.ts`. Agents, visitors and endpoint are in
 * this process, so the machine's other cores say nothing about the figures. An argument sets how many visitors come at
 * once: the more come together, the fewer times the processes wake each other.
 *
 * With two workers and one session of each agent, about half of the visitors hop. With an agent's sessions at both
 * workers none does, so the difference of these two lines is the cost of the hops.
 *
 * @module
 */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { tcpConnector } from "../../src/agent/connector.ts";
import { masterGrants } from "../../src/agent/grant.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { Program } from "../../tests/cli/program.ts";
import { connectedAgent } from "../../tests/support/connected_agent.ts";
import { denoFlags } from "../../tests/support/deno_flags.ts";
import { until } from "../../tests/support/until.ts";
import { parsePrometheus, sampleValue } from "../../tests/telemetry/prometheus.ts";
import { startEndpoint, visit } from "./visitor.ts";

const AGENTS = 8;
const VISITORS = 4_000;
/**
 * Before anything is measured: each worker compiles its code for itself, the hop's too, which would be counted as a
 * visitor's cost (twice as much with two workers).
 */
const WARM_UP = 8_000;
const AT_ONCE = Number(process.argv[2] ?? 16);
const STREAMS = 8;
const BULK_BYTES = 64 * 1024 * 1024;
/** Of /proc/PID/stat: Linux's clock ticks. */
const TICKS_PER_SECOND = 100;

const runtime = await currentRuntime();
const folder = await mkdtemp(join(tmpdir(), "sallyport-workers-"));
const endpoint = await startEndpoint();

/** What a process and its children have used. */
interface Usage {
  readonly cpuSeconds: number;
  /** Of it the main threads': the others compile code and collect garbage. */
  readonly mainSeconds: number;
  /** How often they were put to sleep or interrupted. */
  readonly switches: number;
}

/** The processor time of a process, or of one thread. */
async function cpuSecondsOf(path: string): Promise<number> {
  const stat = await readFile(`${path}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

async function usageOf(pid: number): Promise<Usage> {
  const tasks = `/proc/${pid}/task`;
  const [cpuSeconds, mainSeconds] = [
    await cpuSecondsOf(`/proc/${pid}`),
    await cpuSecondsOf(`${tasks}/${pid}`),
  ];
  let switches = 0;
  for (const task of await readdir(tasks)) {
    // A thread may have ended meanwhile.
    const status = await readFile(`${tasks}/${task}/status`, "utf8").catch(() => "");
    for (const [, count] of status.matchAll(/ctxt_switches:\s+(\d+)/g)) switches += Number(count);
  }
  const children = (await readFile(`${tasks}/${pid}/children`, "utf8")).trim();
  const all = await Promise.all(children.split(" ").filter(Boolean).map((child) => usageOf(Number(child))));
  return all.reduce(
    (sum, used) => ({
      cpuSeconds: sum.cpuSeconds + used.cpuSeconds,
      mainSeconds: sum.mainSeconds + used.mainSeconds,
      switches: sum.switches + used.switches,
    }),
    { cpuSeconds, mainSeconds, switches },
  );
}

/** A case of the table; `shared` agents have one name, so that each worker has a session of it. */
interface Case {
  readonly title: string;
  readonly workers: number;
  readonly shared?: boolean;
}

const CASES: readonly Case[] = [
  { title: "one process", workers: 0 },
  { title: "1 worker", workers: 1 },
  { title: "2 workers, no hop", workers: 2, shared: true },
  { title: "2 workers", workers: 2 },
];

async function measure({ title, workers, shared = false }: Case): Promise<readonly string[]> {
  const data = await mkdtemp(join(folder, "data-"));
  const args = [
    ...["serve", "--data-dir", data, "--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0"],
    ...["--streams-per-source", "0", ...workers === 0 ? [] : ["--workers", String(workers)]],
  ];
  const flags = process.versions.deno === undefined ? [] : [...denoFlags(args), "--allow-run=deno"];
  const program = new Program(args, {}, undefined, { command: process.execPath, args: flags });
  const [, master] = await program.seen(/session master +(http:\S+)/);
  const port = Number((await program.seen(/visitors and agents +127\.0\.0\.1:(\d+)/))[1]);
  const credential = (await readFile(join(data, "admin.key"), "utf8")).trim();
  const nameOf = (index: number) => `agent-${shared ? 0 : index % AGENTS}.localhost`;
  const visitMany = async (visitors: number) => {
    let next = 0;
    await Promise.all(Array.from({ length: AT_ONCE }, async () => {
      while (next < visitors) await visit(port, nameOf(next++));
    }));
  };
  const hops = async () => {
    const samples = parsePrometheus(await (await fetch(`${master}/metrics`)).text());
    return sampleValue(samples, "sallyport_forwarded_visitors_total", { direction: "out" }) ?? 0;
  };
  const agents = await Promise.all(Array.from({ length: AGENTS }, (_, index) =>
    connectedAgent({
      runtime,
      transport: "snitun",
      grants: masterGrants({
        ...{ master: master!, credential, hostname: nameOf(index) },
        ...shared ? { shared: `member-${index}` } : {},
      }),
      connector: tcpConnector({ runtime, host: "127.0.0.1", port: endpoint.port, plain: true }),
    })));
  for (let index = 0; index < 8 * AGENTS; index++) {
    await until(() => visit(port, nameOf(index)).then(() => true, () => false));
  }
  const pid = program.pid;
  await visitMany(WARM_UP);
  const [before, hopsBefore, startedMs] = [await usageOf(pid), await hops(), performance.now()];
  await visitMany(VISITORS);
  const seconds = (performance.now() - startedMs) / 1000;
  const visited = await usageOf(pid);
  const hopShare = (await hops() - hopsBefore) / VISITORS;
  const bulkMs = performance.now();
  const beforeBulk = await usageOf(pid);
  await Promise.all(Array.from({ length: STREAMS }, (_, index) => visit(port, nameOf(index), BULK_BYTES)));
  const megabytes = STREAMS * BULK_BYTES / 1e6;
  const bulkRate = megabytes / ((performance.now() - bulkMs) / 1000);
  const secondsPerGb = ((await usageOf(pid)).cpuSeconds - beforeBulk.cpuSeconds) / (megabytes / 1000);
  await Promise.all(agents.map((agent) => agent.close(0)));
  await program.kill();
  return [
    title,
    (VISITORS / seconds).toFixed(0),
    ((visited.cpuSeconds - before.cpuSeconds) / VISITORS * 1e6).toFixed(0),
    ((visited.mainSeconds - before.mainSeconds) / VISITORS * 1e6).toFixed(0),
    hopShare.toFixed(2),
    ((visited.switches - before.switches) / VISITORS).toFixed(1),
    bulkRate.toFixed(0),
    secondsPerGb.toFixed(2),
  ];
}

console.log(`${runtime.name} ${runtime.version}`);
const heads = [
  "edge",
  "visitors/s",
  "cpu us/visitor",
  "main thread",
  "hops/visitor",
  "switches",
  "bulk MB/s",
  "cpu s/GB",
];
const widths = [19, 12, 16, 13, 14, 10, 11, 10];
const line = (row: readonly string[]) =>
  console.log(
    row.map((cell, index) => index === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[index]!)).join(""),
  );
line(heads);
for (const one of CASES) line(await measure(one));
endpoint.server.close();
await rm(folder, { recursive: true, force: true });
process.exit(0);
