/**
 * How long a fleet of agents with one key needs to come back: at first without tokens, then after its edge and session
 * master were killed and started again.
 *
 *     deno run -A bench/master/fleet.ts [AGENTS]        bun bench/master/fleet.ts [AGENTS]
 *
 * The fleet is one process and `serve` another, on one machine, which must be quiet: a starved fleet times out. Agents
 * have a stock of grants as `agent` has; their requests to the master share connections, since all have the same
 * address here.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { createAgent } from "../../src/agent/agent.ts";
import { masterGrants } from "../../src/agent/grant.ts";
import { GrantStock } from "../../src/agent/grant_stock.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { freePorts } from "../../tests/support/free_ports.ts";

const AGENTS = Number(process.argv[2] ?? 5_000);
const MASTER_CONNECTIONS = 64;
const ROOT = dirname(dirname(import.meta.dirname!));

const runtime = await currentRuntime();
const { clock } = runtime;
const folder = await mkdtemp(join(tmpdir(), "sallyport-fleet-"));
const port = await freePorts(2);
const masterPort = port + 1;
const master = `http://127.0.0.1:${masterPort}`;
let requests = 0;
let refused = 0;
let server = await startServer();
try {
  const key = (await readFile(join(folder, "admin.key"), "utf8")).trim();
  process.stdout.write(`${runtime.name} ${runtime.version}, ${AGENTS} agents, one key\n`);
  await connect(key);
} finally {
  server.kill("SIGKILL");
  await rm(folder, { recursive: true, force: true });
}
process.exit(0);

async function connect(key: string): Promise<void> {
  const up = new Set<number>();
  const fetch = limited(MASTER_CONNECTIONS);
  const fewKept = { clock, size: 1 };
  const startedMs = performance.now();
  for (let i = 0; i < AGENTS; i++) {
    const hostname = `agent-${i}.example.org`;
    const stock = new GrantStock(masterGrants({ master, credential: key, hostname, fetch }), fewKept);
    createAgent({
      runtime,
      grants: () => stock.take(),
      discardGrants: () => stock.discard(),
      connector: (stream) => stream.abort(),
      connected: () => void up.add(i),
    }).run().catch((error) => process.stderr.write(`${hostname}: ${error.message}\n`));
  }
  await all(up, "the first time", startedMs);
  requests = refused = 0;
  // Each has its next grant in stock.
  await until(() => requests >= AGENTS);
  up.clear();
  requests = refused = 0;
  server.kill("SIGKILL");
  const killedMs = performance.now();
  server = await startServer();
  const backMs = performance.now();
  process.stdout.write(`killed; listens again after ${seconds(backMs - killedMs)}\n`);
  await all(up, "back after that", backMs);
}

async function all(up: ReadonlySet<number>, what: string, sinceMs: number): Promise<void> {
  const marks: string[] = [];
  for (const share of [0.5, 0.99, 1]) {
    await until(() => up.size >= AGENTS * share);
    marks.push(`${share * 100} % in ${seconds(performance.now() - sinceMs)}`);
  }
  process.stdout.write(
    `${what}: ${marks.join(", ")}; ${requests} requests to the master, ${refused} of them 429\n`,
  );
}

/** The runtime's `fetch`, with so many requests at a time. */
function limited(count: number): (request: Request) => Promise<Response> {
  const waiting: (() => void)[] = [];
  let free = count;
  return async (request) => {
    if (free === 0) await new Promise<void>((resolve) => void waiting.push(resolve));
    else free--;
    try {
      // Its deadline began with the wait.
      const { method, headers, url } = request;
      const response = await globalThis.fetch(url, { method, headers, body: await request.text() });
      requests++;
      if (response.status === 429) refused++;
      return response;
    } finally {
      const next = waiting.shift();
      if (next === undefined) free++;
      else next();
    }
  };
}

function startServer(): Promise<ChildProcess> {
  const own = process.versions.deno === undefined ? [] : ["run", "-A", "--no-check"];
  const child = spawn(process.execPath, [
    ...[...own, join(ROOT, "mod.ts"), "serve", "--listen", `127.0.0.1:${port}`],
    ...["--master-listen", `127.0.0.1:${masterPort}`, "--public-address", `127.0.0.1:${port}`],
    ...["--data-dir", folder, "--log-level", "error"],
  ], { stdio: ["ignore", "pipe", "inherit"] });
  return new Promise((resolve) => {
    let text = "";
    child.stdout?.on("data", (part) => {
      text += String(part);
      if (/session master +http/.test(text)) resolve(child);
    });
  });
}

async function until(met: () => boolean): Promise<void> {
  while (!met()) await new Promise((resolve) => setTimeout(resolve, 20));
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
