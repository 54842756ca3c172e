/**
 * A session master with agents, sessions and usage to look at, behind a real HTTP server.
 *
 * @module
 */
import { EdgeHub } from "../../src/master/edge_hub.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { createMasterApp, type MasterOptions } from "../../src/master/app.ts";
import { adminCredentials } from "../../src/master/credentials.ts";
import { KeyRing } from "../../src/master/key_ring.ts";
import { type AgentChange, Management } from "../../src/master/management.ts";
import { ALL_TENANTS, type EdgeReport } from "../../src/master/model.ts";
import { openStore } from "../../src/master/store/sql_store.ts";
import { WebhookSender } from "../../src/master/webhooks/sender.ts";
import { makeAgentKeys } from "../../src/protocol/token/agent_proof.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { ADMIN_KEY, FERNET_KEY } from "../master/helpers.ts";

/** Who did what the sample shows. */
export const OPERATOR = { id: "admin", tenant: ALL_TENANTS, request: "sample-request" };

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;

/** The agents of the sample. */
const AGENTS: readonly (AgentChange & { readonly name: string; readonly hostnames: readonly string[] })[] = [
  {
    name: "home-berlin",
    hostnames: ["home.example.org", "*.home.example.org"],
    notes: "Home Assistant in the cellar.\nAsk Ms Vogel before a restart.",
    limits: { streams: 500, bytes_per_second_to_visitor: 12_500_000, monthly_bytes: 500_000_000_000 },
    publish: ["tcp:2222"],
  },
  { name: "cabin", hostnames: ["cabin.example.org"], agentNetworks: ["198.51.100.0/24"] },
  { name: "kiosk-03", hostnames: ["kiosk-03.shop.example.net"], tenant: "shop" },
  { name: "kiosk-04", hostnames: ["kiosk-04.shop.example.net"], tenant: "shop" },
  { name: "old-nas", hostnames: ["nas.example.org", "files.example.org", "photos.example.org"] },
  { name: "workshop", hostnames: ["workshop.example.org"] },
];

/** Starts it; with `sample` false it is empty. */
export async function startSampleMaster(options: Partial<MasterOptions> = {}, sample = true) {
  const runtime = await currentRuntime();
  const { clock } = runtime;
  const store = await openStore(":memory:");
  const ring = new FernetRing([FERNET_KEY]);
  const keys = new KeyRing(ring, [FERNET_KEY]);
  const logged: string[] = [];
  const log = createLogger({ level: "warn", format: "json", write: (line) => logged.push(line) });
  const hub = new EdgeHub({ store, keys, clock, log });
  await hub.start();
  const sender = new WebhookSender({
    ...{ store, clock, log },
    fetch: ({ url }) => Promise.resolve(new Response(null, { status: url.includes("pager") ? 502 : 204 })),
  });
  const management = new Management({ store, hub, keys, clock, sender });
  const app = createMasterApp({
    ...{ ring, management, clock, log },
    credentials: adminCredentials(ADMIN_KEY),
    edgeAddress: { host: "edge.example.net", port: 8443 },
    ...options,
  });
  const server = await runtime.serveHttp({
    host: "127.0.0.1",
    port: 0,
    fetch: (request, remote) => app.fetch(request, { remote }),
  });
  let seq = 0;
  const report = (more: Partial<EdgeReport>) =>
    hub.report({
      ...{ edge: "edge-1", epoch: "sample", seq: ++seq, fresh: false },
      ...{ sessions: [], closed: [], usage: [], watched: [] },
      ...more,
    });
  if (sample) {
    await fill(management, report, clock.wallMs());
    await sender.work();
  }
  return {
    url: `http://127.0.0.1:${server.address.port}`,
    management,
    store,
    hub,
    logged,
    /** What an edge says. */
    report,
    async stop() {
      hub.close();
      await server.close(0);
      await store.close();
    },
  };
}

/** A running one. */
export type SampleMaster = Awaited<ReturnType<typeof startSampleMaster>>;

async function fill(
  management: Management,
  report: (more: Partial<EdgeReport>) => Promise<unknown>,
  nowMs: number,
): Promise<void> {
  const ids = new Map<string, string>();
  for (const wanted of AGENTS) {
    const { agent, join } = await management.addAgent(OPERATOR, wanted);
    ids.set(wanted.name, agent.id);
    if (wanted.name !== "workshop") await management.enrol(join.code, makeAgentKeys().publicKey, "sample");
  }
  await management.suspend(OPERATOR, ids.get("old-nas")!);
  await management.addApiKey(OPERATOR, {
    ...{ name: "billing", tenant: "shop", hostnames: [], publish: [] },
    scopes: ["read"],
  });
  await management.addFernetKey(OPERATOR);
  await management.webhooks.add(OPERATOR, {
    url: "https://hooks.example.org/sallyport",
    tenant: ALL_TENANTS,
  });
  await management.webhooks.add(OPERATOR, {
    ...{ url: "https://pager.example.com/v2/events?team=network", tenant: "shop" },
    events: ["agent.online", "agent.offline"],
  });
  const live = [
    [
      "home-berlin",
      "home.example.org",
      "203.0.113.24",
      "quic",
      "aes-256-gcm",
      12,
      4_310_000_000,
      71_200_000_000,
    ],
    ["cabin", "cabin.example.org", "198.51.100.7", "snitun", "aes-gcm", 1, 12_400_000, 230_900_000],
    [
      "kiosk-03",
      "kiosk-03.shop.example.net",
      "2001:db8:17::5",
      "curve",
      "chacha20",
      3,
      9_100_000,
      81_000_000,
    ],
  ] as const;
  const used = AGENTS.slice(0, 5).flatMap(({ name, tenant }, place) =>
    Array.from({ length: 28 }, (_, back) => ({
      ...{ agent: ids.get(name)!, tenant: tenant ?? "default" },
      day: new Date(nowMs - back * DAY_MS).toISOString().slice(0, 10),
      bytesToAgent: Math.round(9e8 / (place + 1) * (1.3 + Math.sin(back * 1.7 + place))),
      bytesToVisitor: Math.round(6e9 / (place + 1) * (1.2 + Math.sin(back * 0.9 + place))),
      streams: 900 + 31 * back,
      connectedMs: 23 * 3_600_000,
    }))
  );
  await report({
    fresh: true,
    sessions: live.map(([name, hostname, remote, transport, cipher, streams, toAgent, toVisitor], place) => ({
      ...{ hostname, remote, transport, cipher, streams },
      id: `edge-1/${place}`,
      agent: ids.get(name)!,
      tenant: name.startsWith("kiosk") ? "shop" : "default",
      sinceMs: nowMs - (place * 190 + 7) * MINUTE_MS,
      bytesToAgent: toAgent,
      bytesToVisitor: toVisitor,
    })),
    usage: used,
  });
}
