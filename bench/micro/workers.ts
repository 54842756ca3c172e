/**
 * What visitors and bulk cost an edge with one process and with several workers, in processor time of the edge's processes
 * alone (Linux): `deno run -A bench/micro/workers.ts`, `bun bench/micro/workers.ts`. Agents, visitors and endpoint are in
 * this process, so the machine's other cores say nothing about the figures.
 *
 * @module
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
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
import { startEndpoint, visit } from "./visitor.ts";

const AGENTS = 8;
const VISITORS = 4_000;
/**
 * Before anything is measured: each worker compiles its code for itself, the hop's too, which would be counted as a
 * visitor's cost (twice as much with two workers).
 */
const WARM_UP = 8_000;
const AT_ONCE = 16;
const STREAMS = 8;
const BULK_BYTES = 64 * 1024 * 1024;
/** Of /proc/PID/stat: Linux's clock ticks. */
const TICKS_PER_SECOND = 100;

const runtime = await currentRuntime();
const folder = await mkdtemp(join(tmpdir(), "sallyport-workers-"));
const endpoint = await startEndpoint();

/** Processor seconds of a process and its children. */
async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const own = (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).trim();
  const all = await Promise.all(
    children.split(" ").filter(Boolean).map((child) => cpuSeconds(Number(child))),
  );
  return all.reduce((sum, seconds) => sum + seconds, own);
}

function nameOf(index: number): string {
  return `agent-${index % AGENTS}.localhost`;
}

async function visitMany(port: number, visitors: number): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    while (next < visitors) await visit(port, nameOf(next++));
  }));
}

async function measure(workers: number): Promise<readonly string[]> {
  const data = join(folder, String(workers));
  const args = [
    ...["serve", "--data-dir", data, "--listen", "127.0.0.1:0", "--master-listen", "127.0.0.1:0"],
    ...["--streams-per-source", "0", ...workers === 0 ? [] : ["--workers", String(workers)]],
  ];
  const flags = process.versions.deno === undefined ? [] : [...denoFlags(args), "--allow-run=deno"];
  const program = new Program(args, {}, undefined, { command: process.execPath, args: flags });
  const [, master] = await program.seen(/session master +(http:\S+)/);
  const port = Number((await program.seen(/visitors and agents +127\.0\.0\.1:(\d+)/))[1]);
  const credential = (await readFile(join(data, "admin.key"), "utf8")).trim();
  const agents = await Promise.all(Array.from({ length: AGENTS }, (_, index) =>
    connectedAgent({
      runtime,
      transport: "snitun",
      grants: masterGrants({ master: master!, credential, hostname: nameOf(index) }),
      connector: tcpConnector({ runtime, host: "127.0.0.1", port: endpoint.port, plain: true }),
    })));
  for (let index = 0; index < 8 * AGENTS; index++) {
    await until(() => visit(port, nameOf(index)).then(() => true, () => false));
  }
  const pid = program.pid;
  await visitMany(port, WARM_UP);
  const [before, startedMs] = [await cpuSeconds(pid), performance.now()];
  await visitMany(port, VISITORS);
  const seconds = (performance.now() - startedMs) / 1000;
  const visitorUs = (await cpuSeconds(pid) - before) / VISITORS * 1e6;
  const [beforeBulk, bulkMs] = [await cpuSeconds(pid), performance.now()];
  await Promise.all(Array.from({ length: STREAMS }, (_, index) => visit(port, nameOf(index), BULK_BYTES)));
  const megabytes = STREAMS * BULK_BYTES / 1e6;
  const bulkRate = megabytes / ((performance.now() - bulkMs) / 1000);
  const secondsPerGb = (await cpuSeconds(pid) - beforeBulk) / (megabytes / 1000);
  await Promise.all(agents.map((agent) => agent.close(0)));
  await program.kill();
  return [
    workers === 0 ? "one process" : `${workers} workers`,
    (VISITORS / seconds).toFixed(0),
    visitorUs.toFixed(0),
    bulkRate.toFixed(0),
    secondsPerGb.toFixed(2),
  ];
}

console.log(`${runtime.name} ${runtime.version}`);
const heads = ["edge", "visitors/s", "cpu us/visitor", "bulk MB/s", "cpu s/GB"];
const widths = [13, 12, 16, 11, 10];
for (const row of [heads, await measure(0), await measure(1), await measure(2)]) {
  console.log(
    row.map((cell, index) => index === 0 ? cell.padEnd(widths[index]!) : cell.padStart(widths[index]!)).join(
      "",
    ),
  );
}
endpoint.server.close();
await rm(folder, { recursive: true, force: true });
process.exit(0);
