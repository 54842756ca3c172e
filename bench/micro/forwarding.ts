/**
 * What the hop between two nodes costs: visitors and bulk to an agent at the visitor's own node, and at another node by a
 * unix socket and by sealed TCP. All of it runs in this process, so the difference of two lines is the hop's cost at both
 * of its ends together. `deno run -A bench/micro/forwarding.ts`, `bun bench/micro/forwarding.ts`.
 *
 * @module
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { tcpConnector } from "../../src/agent/connector.ts";
import { joinCluster, type Membership } from "../../src/cluster/membership.ts";
import { createMemoryDirectory, DirectoryStore } from "../../src/cluster/memory_directory.ts";
import { chooseAeads } from "../../src/crypto/aead.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { loadSodium, makeKeyPair } from "../../src/crypto/sodium.ts";
import { createEdge, type Edge } from "../../src/edge/edge.ts";
import { createToken } from "../../src/protocol/token/token.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import { connectedAgent } from "../../tests/support/connected_agent.ts";
import { fernetKey } from "../../tests/support/tokens.ts";
import { median } from "../machine.ts";
import { startEndpoint, visit } from "./visitor.ts";

const NAME = "a.example.org";
const VISITORS = 600;
const BULK_BYTES = 256 * 1024 * 1024;
const ROUNDS = 3;

type Hop = "none" | "unix socket" | "sealed TCP";

const runtime = await currentRuntime();
const ring = new FernetRing([fernetKey()]);
const sodium = await loadSodium();
const aeads = chooseAeads(sodium, runtime);
const folder = await mkdtemp(join(tmpdir(), "sallyport-bench-"));
const endpoint = await startEndpoint();

/** A node with its edge; `hop` says how others reach it. */
async function node(
  store: DirectoryStore,
  index: number,
  hop: Hop,
): Promise<{ edge: Edge; port: number; place: Membership }> {
  const id = index.toString(16).padStart(32, "0");
  const directory = createMemoryDirectory({ clock: runtime.clock, store });
  const secret = new Uint8Array(32).fill(1);
  const own: { edge?: Edge } = {};
  const place = await joinCluster({
    runtime,
    log: silentLogger,
    id,
    directory,
    host: { local: (name) => own.edge?.session(name), sessions: () => 0, shares: () => undefined },
    ...hop === "sealed TCP"
      ? {
        network: {
          directory,
          links: {
            sodium,
            aeads,
            keys: makeKeyPair(sodium, (into) => crypto.getRandomValues(into)),
            clusterKey: secret,
          },
          listen: { host: "127.0.0.1", port: 0 },
          address: (port) => `127.0.0.1:${port}`,
        },
      }
      : { machine: { name: "bench", secret, socket: join(folder, `${index}-${Math.random()}.sock`) } },
  });
  const edge = own.edge = createEdge({ runtime, ring, cluster: place.node, streamsPerSource: 0 });
  const { address } = await edge.listen({ host: "127.0.0.1", port: 0 });
  return { edge, port: address.port, place };
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

async function measure(hop: Hop): Promise<{ latencyUs: number; cpuUs: number; cpuSecondsPerGb: number }> {
  const store = new DirectoryStore();
  const holder = await node(store, 1, hop);
  const other = hop === "none" ? undefined : await node(store, 2, hop);
  const agent = await connectedAgent({
    runtime,
    transport: "snitun",
    grants: () => {
      const { token, claims } = createToken(ring, { hostname: NAME, nowMs: Date.now(), ttlSeconds: 3_600 });
      return Promise.resolve({ token, ...claims, edge: { host: "127.0.0.1", port: holder.port } });
    },
    connector: tcpConnector({ runtime, host: "127.0.0.1", port: endpoint.port, plain: true }),
  });
  const { port } = other ?? holder;
  for (let tries = 0; tries < 50; tries++) await visit(port, NAME).catch(() => {});
  for (let index = 0; index < 200; index++) await visit(port, NAME);
  const times: number[] = [];
  const before = cpuSeconds();
  for (let index = 0; index < VISITORS; index++) {
    const startedMs = performance.now();
    await visit(port, NAME);
    times.push((performance.now() - startedMs) * 1000);
  }
  const cpuUs = (cpuSeconds() - before) / VISITORS * 1e6;
  const beforeBulk = cpuSeconds();
  await visit(port, NAME, BULK_BYTES);
  const cpuSecondsPerGb = (cpuSeconds() - beforeBulk) / (BULK_BYTES / 1e9);
  await agent.close(0);
  for (const { edge, place } of other === undefined ? [holder] : [holder, other]) {
    await edge.close(0);
    await place.close(0);
  }
  return { latencyUs: median(times), cpuUs, cpuSecondsPerGb };
}

const found = new Map<Hop, Awaited<ReturnType<typeof measure>>[]>();
for (let round = 0; round < ROUNDS; round++) {
  for (const hop of ["none", "unix socket", "sealed TCP"] as const) {
    found.set(hop, [...found.get(hop) ?? [], await measure(hop)]);
  }
}
console.log(`${runtime.name} ${runtime.version}, median of ${ROUNDS} rounds`);
console.log("hop          visitor p50 us   cpu us a visitor   cpu s/GB");
for (const [hop, rounds] of found) {
  const figure = (of: (round: (typeof rounds)[number]) => number) => median(rounds.map(of));
  console.log(
    hop.padEnd(12),
    figure(({ latencyUs }) => latencyUs).toFixed(0).padStart(15),
    figure(({ cpuUs }) => cpuUs).toFixed(0).padStart(18),
    figure(({ cpuSecondsPerGb }) => cpuSecondsPerGb).toFixed(2).padStart(10),
  );
}
endpoint.server.close();
await rm(folder, { recursive: true, force: true });
process.exit(0);
