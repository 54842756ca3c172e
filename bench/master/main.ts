/**
 * The session master's figures: tokens a second, lists and the page with many agents, and how its database grows.
 *
 *     deno run -A bench/master/main.ts        bun bench/master/main.ts
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { DatabaseSync } from "node:sqlite";
import { FernetRing, generateFernetKey } from "../../src/crypto/fernet.ts";
import { createMasterApp } from "../../src/master/app.ts";
import { adminCredentials } from "../../src/master/credentials.ts";
import { EdgeHub } from "../../src/master/edge_hub.ts";
import { KeyRing } from "../../src/master/key_ring.ts";
import { Management } from "../../src/master/management.ts";
import { openStore } from "../../src/master/store/sql_store.ts";
import { type AgentKeys, makeAgentKeys, signAgentProof } from "../../src/protocol/token/agent_proof.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { silentLogger } from "../../src/telemetry/log.ts";

const AGENTS = 10_000;
const GROWTH_AGENTS = 1_000;
const DAYS = 30;
const DAY_MS = 24 * 3_600_000;
const CONNECTIONS = 16;
const MEASURE_MS = 5_000;
const ADMIN_KEY = "admin-key-of-the-benchmark-0123456789";

const runtime = await currentRuntime();
const { clock } = runtime;
if (process.argv[2] === "client") await client(process.argv.slice(3));
else await main();

async function openMaster(path: string) {
  const store = await openStore(path);
  const key = generateFernetKey();
  const ring = new FernetRing([key]);
  const keys = new KeyRing(ring, [key]);
  const hub = new EdgeHub({ store, keys, clock, log: silentLogger });
  await hub.start();
  const management = new Management({ store, hub, keys, clock });
  const app = createMasterApp({
    ...{ ring, clock, management },
    credentials: adminCredentials(ADMIN_KEY),
    edgeAddress: { host: "edge.example.net", port: 8443 },
    tokensPerMinute: 1_000_000_000,
    apiRequestsPerMinute: 1_000_000_000,
  });
  return { store, hub, management, app };
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sallyport-bench-master-"));
  try {
    process.stdout.write(`${runtime.name} ${runtime.version}\n`);
    await growth(join(folder, "growth.db"));
    await manyAgents(join(folder, "many.db"));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** How much an agent takes in the database, and how much each month of its use. */
async function growth(path: string): Promise<void> {
  const { store, hub, management } = await openMaster(path);
  const size = async () => {
    // What the write-ahead log has goes into the file.
    const raw = new DatabaseSync(path);
    raw.exec("pragma wal_checkpoint(truncate)");
    raw.close();
    return (await stat(path)).size;
  };
  const empty = await size();
  const ids = await addAgents(management, GROWTH_AGENTS);
  const added = await size();
  const nowMs = clock.wallMs();
  for (let day = 0; day < DAYS; day++) {
    const usage = ids.map((agent) => ({
      ...{ agent, tenant: "default", streams: 1_000, connectedMs: DAY_MS },
      ...{
        day: new Date(nowMs - day * DAY_MS).toISOString().slice(0, 10),
        bytesToAgent: 1e9,
        bytesToVisitor: 1e10,
      },
    }));
    await store.applyReport({
      ...{ edge: "edge", epoch: "e", seq: day + 1, fresh: false, sessions: [], closed: [], watched: [] },
      usage,
    }, nowMs);
  }
  const used = await size();
  const each = (bytes: number) => `${Math.round(bytes / GROWTH_AGENTS)} bytes`;
  process.stdout.write(
    `database: ${each(added - empty)} an agent, ${each(used - added)} more for ${DAYS} days of use\n`,
  );
  hub.close();
  await store.close();
}

async function manyAgents(path: string): Promise<void> {
  const { store, hub, management, app } = await openMaster(path);
  const startedMs = performance.now();
  await addAgents(management, AGENTS);
  process.stdout.write(`${AGENTS} agents added in ${Math.round(performance.now() - startedMs)} ms\n`);
  const headers = { Authorization: `Bearer ${ADMIN_KEY}` };
  const login = await app.request("/page/login", {
    method: "POST",
    headers: {
      "Content-Type": "application/x-www-form-urlencoded",
      Origin: "http://localhost",
      Host: "localhost",
    },
    body: new URLSearchParams({ key: ADMIN_KEY }),
  });
  const cookie = login.headers.get("set-cookie")?.split(";")[0] ?? "";
  if (cookie === "") throw new Error(`Cannot log in at the page: ${login.status}`);
  for (
    const [what, path, more] of [
      ["list of 50", "/v1/agents?limit=50", headers],
      ["list of 500", "/v1/agents?limit=500", headers],
      ["search", "/v1/agents?search=agent-77&limit=50", headers],
      ["page: overview", "/", { cookie, accept: "text/html" }],
      ["page: agents", "/page/agents", { cookie, accept: "text/html" }],
    ] as const
  ) {
    const times: number[] = [];
    let status = 0;
    for (let i = 0; i < 21; i++) {
      const beganMs = performance.now();
      const answer = await app.request(path, { headers: more });
      await answer.arrayBuffer();
      times.push(performance.now() - beganMs);
      status = answer.status;
    }
    times.sort((a, b) => a - b);
    process.stdout.write(`${what}: ${times[10]!.toFixed(1)} ms (median of 21; status ${status})\n`);
  }
  const keys = makeAgentKeys();
  const { agent, join } = await management.addAgent(
    { id: "bench", tenant: "*", request: "bench" },
    { name: "enrolled", hostnames: ["enrolled.example.org"] },
  );
  await management.enrol(join.code, keys.publicKey, "bench");
  const server = await runtime.serveHttp({
    host: "127.0.0.1",
    port: 0,
    fetch: (request, remote) => app.fetch(request, { remote }),
  });
  const port = String(server.address.port);
  await tokens("tokens by a key", [port, "key"]);
  await tokens("tokens by an agent's signature", [port, agent.id, JSON.stringify(keys)]);
  await server.close(0);
  hub.close();
  await store.close();
}

async function addAgents(management: Management, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let i = 0; i < count; i++) {
    const { agent } = await management.addAgent(
      { id: "bench", tenant: "*", request: "bench" },
      { name: `agent-${i}`, hostnames: [`agent-${i}.example.org`] },
    );
    ids.push(agent.id);
  }
  return ids;
}

/** Has another process of this runtime ask for tokens; prints how many came, and what they cost here. */
async function tokens(what: string, args: readonly string[]): Promise<void> {
  const own = process.versions.deno === undefined ? [] : ["run", "-A", "--no-check"];
  const before = process.cpuUsage();
  const child = spawn(process.execPath, [...own, import.meta.filename!, "client", ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const count = Number(await outputOf(child));
  const { user, system } = process.cpuUsage(before);
  const cost = Math.round((user + system) / count);
  process.stdout.write(
    `${what}: ${Math.round(count / (MEASURE_MS / 1000))} a second, ${cost} µs of the master's CPU each\n`,
  );
}

function outputOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    child.stdout?.on("data", (part) => text += String(part));
    child.once("close", () => resolve(text));
  });
}

/** Asks for tokens on some connections, one after the other on each; prints how many came. */
async function client([port, who, keyText]: string[]): Promise<void> {
  const keys = keyText === undefined ? undefined : JSON.parse(keyText) as AgentKeys;
  const path = keys === undefined ? "/v1/tokens" : "/v1/agent-tokens";
  let count = 0;
  const endMs = performance.now() + MEASURE_MS;
  await Promise.all(
    Array.from({ length: CONNECTIONS }, (_, index) =>
      new Promise<void>((resolve) => {
        const socket = connect(Number(port), "127.0.0.1");
        const ask = () => {
          const bearer = keys === undefined
            ? ADMIN_KEY
            : signAgentProof(who!, keys, { method: "POST", path }, Date.now());
          const body = keys === undefined
            ? `{"hostname":"agent-${(count * 31 + index) % AGENTS}.example.org"}`
            : "{}";
          socket.write(
            `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${bearer}\r\n` +
              `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
          );
        };
        let text = "";
        socket.on("data", (part) => {
          text += String(part);
          if (!text.endsWith("}}")) return;
          if (!text.startsWith("HTTP/1.1 201")) throw new Error(text.slice(0, 300));
          text = "";
          count++;
          if (performance.now() < endMs) return ask();
          socket.destroy();
          resolve();
        });
        socket.on("connect", ask);
      })),
  );
  process.stdout.write(String(count));
}
