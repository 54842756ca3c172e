/**
 * Many agents that move to a new worker at once, when the old one is replaced (Linux): `bun bench/micro/moving.ts [AGENTS]`,
 * `deno run -A bench/micro/moving.ts [AGENTS]`. Agents and visitors are in this process; the processor time is that of the
 * edge's processes alone.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { type Agent, createAgent } from "../../src/agent/agent.ts";
import { tcpConnector } from "../../src/agent/connector.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { createToken } from "../../src/protocol/token/token.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { Program } from "../../tests/cli/program.ts";
import { denoFlags } from "../../tests/support/deno_flags.ts";
import { until } from "../../tests/support/until.ts";
import { cpuSeconds, processTree } from "../machine.ts";
import { startEndpoint, visit } from "./visitor.ts";

const AGENTS = Number(process.argv[2] ?? 5_000);
const STEP_MS = 100;
const VISIT_EVERY_MS = 20;
const PATIENCE_MS = 240_000;

const runtime = await currentRuntime();
const folder = await mkdtemp(join(tmpdir(), "sallyport-moving-"));
const endpoint = await startEndpoint();
const key = randomBytes(32).toString("base64url") + "=";
const keyFile = join(folder, "fernet.keys");
await writeFile(keyFile, key);
const ring = new FernetRing([key]);
const args = [
  ...["edge", "--data-dir", join(folder, "data"), "--fernet-keys-file", keyFile, "--workers", "1"],
  ...["--listen", "127.0.0.1:0", "--streams-per-source", "0"],
];
const flags = process.versions.deno === undefined ? [] : denoFlags(args);
const program = new Program(args, {}, undefined, { command: process.execPath, args: flags });
const port = Number((await program.seen(/visitors and agents +127\.0\.0\.1:(\d+)/))[1]);

/** When each session was opened. */
const opened: number[] = [];
let ended = 0;
const nameOf = (index: number) => `agent-${index}.localhost`;
const agents: Agent[] = [];
for (let index = 0; index < AGENTS; index++) {
  const hostname = nameOf(index);
  const agent = createAgent({
    runtime,
    transport: "snitun",
    grants: () => {
      const { token, claims } = createToken(ring, { hostname, nowMs: Date.now(), ttlSeconds: 3_600 });
      return Promise.resolve({ token, ...claims, edge: { host: "127.0.0.1", port } });
    },
    connector: tcpConnector({ runtime, host: "127.0.0.1", port: endpoint.port, plain: true }),
    connected: () => void opened.push(performance.now()),
  });
  agents.push(agent);
  agent.run().catch(() => void ended++);
  // As many at once as an edge takes from one address.
  while (index - opened.length > 100) await delay(5);
}
await until(() => opened.length >= AGENTS, PATIENCE_MS);
await delay(2_000);

/** By process, so that what the old worker used is kept when it has ended. */
const cpuByProcess = new Map<number, number>();
const edgeCpuSeconds = () => {
  for (const pid of processTree(program.pid)) cpuByProcess.set(pid, cpuSeconds(pid));
  return [...cpuByProcess.values()].reduce((sum, seconds) => sum + seconds, 0);
};
const cpuBefore = edgeCpuSeconds();
const startedMs = performance.now();
program.signal("SIGUSR2");
let moving = true;
const visits: number[] = [];
let failed = 0;
const visiting = (async () => {
  while (moving) {
    const beganMs = performance.now();
    await visit(port, nameOf(Math.floor(Math.random() * AGENTS))).then(
      () => visits.push(performance.now() - beganMs),
      () => failed++,
    );
    edgeCpuSeconds();
    await delay(VISIT_EVERY_MS);
  }
})();
await until(() => opened.length >= 2 * AGENTS, PATIENCE_MS);
moving = false;
await visiting;
const cpu = edgeCpuSeconds() - cpuBefore;
const moves = opened.slice(AGENTS).map((atMs) => atMs - startedMs).sort((a, b) => a - b);
const first = moves[0]!;
const perStep = new Map<number, number>();
for (const atMs of moves) {
  const step = Math.floor((atMs - first) / STEP_MS);
  perStep.set(step, (perStep.get(step) ?? 0) + 1);
}
visits.sort((a, b) => a - b);
const share = (of: readonly number[], part: number) => of[Math.floor((of.length - 1) * part)]?.toFixed(0);
console.log(`${runtime.name} ${runtime.version}, ${AGENTS} agents
from the first move to the last      ${((moves.at(-1)! - first) / 1000).toFixed(1)} s
half, 99 % after                     ${share(moves.map((at) => at - first), 0.5)}, ${
  share(moves.map((at) => at - first), 0.99)
} ms
most sessions in ${STEP_MS} ms              ${Math.max(...perStep.values())}
edge's processor time, with start    ${cpu.toFixed(1)} s, ${(cpu / AGENTS * 1e6).toFixed(0)} us an agent
visitors meanwhile                   ${visits.length}, ${failed} failed
a visitor's answer, p50, p99, max    ${share(visits, 0.5)}, ${share(visits, 0.99)}, ${share(visits, 1)} ms
sessions opened more than twice      ${opened.length - 2 * AGENTS}, agents that gave up ${ended}`);
await program.kill();
endpoint.server.close();
await rm(folder, { recursive: true, force: true });
process.exit(0);
