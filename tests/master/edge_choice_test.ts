import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { NodeRecord } from "../../src/cluster/directory.ts";
import { EdgeChoice, EDGES_FRESH_MS } from "../../src/master/edge_choice.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import { seeded } from "../support/seeded.ts";

function node(host: string, more: Partial<NodeRecord> = {}): NodeRecord {
  const offer = { host, port: 8443, publicKey: "A".repeat(43), curvePort: 8443 };
  return {
    id: `${host}-${Math.random()}`,
    address: `${host}:8446`,
    version: 1,
    sessions: 0,
    draining: false,
    offer,
    ...more,
  };
}

describe("EdgeChoice", () => {
  it("puts edges of the agent's region first, and leaves out those that drain or take no agents", async () => {
    const { clock } = createMemoryNetwork();
    const nodes = [
      node("far", { region: "us" }),
      node("near", { region: "eu" }),
      node("stopping", { region: "eu", draining: true }),
      { ...node("silent", { region: "eu" }), offer: undefined } as unknown as NodeRecord,
    ];
    const choice = new EdgeChoice({ nodes: () => Promise.resolve(nodes), clock, log: silentLogger });
    const hosts = async (region?: string) => (await choice.choose(region)).map(({ host }) => host);
    assert.deepEqual(await hosts("eu"), ["near", "far"]);
    assert.deepEqual(await hosts("us"), ["far", "near"]);
    assert.deepEqual((await hosts()).sort(), ["far", "near"]);
    const [edge] = await choice.choose("eu");
    assert.deepEqual(edge, { host: "near", port: 8443, publicKey: new Uint8Array(32), curvePort: 8443 });
  });

  it("prefers edges with fewer sessions without sending everybody to one", async () => {
    const { clock } = createMemoryNetwork();
    const nodes = [node("a", { sessions: 900 }), node("b", { sessions: 100 }), node("c", { sessions: 100 })];
    const choice = new EdgeChoice({
      nodes: () => Promise.resolve(nodes),
      clock,
      log: silentLogger,
      random: seeded(11),
    });
    const first: Record<string, number> = { a: 0, b: 0, c: 0 };
    for (let draw = 0; draw < 900; draw++) first[(await choice.choose(undefined))[0]!.host]!++;
    assert.ok(first.a! < 200 && first.b! > 250 && first.c! > 250, JSON.stringify(first));
  });

  it("counts the workers of one machine as one edge, which is open as long as one of them is", async () => {
    const { clock } = createMemoryNetwork();
    const nodes = [node("a", { draining: true }), node("a"), node("a"), node("b", { sessions: 1 })];
    const choice = new EdgeChoice({ nodes: () => Promise.resolve(nodes), clock, log: silentLogger });
    assert.equal((await choice.choose(undefined)).length, 2);
  });

  it("asks the directory once a second at most, and goes on with what it knows while that is away", async () => {
    const { clock, advance } = createMemoryNetwork();
    let asked = 0;
    let away = false;
    const choice = new EdgeChoice({
      nodes: () => (asked++, away ? Promise.reject(new Error("away")) : Promise.resolve([node("a")])),
      clock,
      log: silentLogger,
    });
    await Promise.all(Array.from({ length: 50 }, () => choice.choose(undefined)));
    assert.equal(asked, 1);
    away = true;
    await advance(EDGES_FRESH_MS + 1);
    assert.equal((await choice.choose(undefined))[0]!.host, "a");
    assert.equal(asked, 2);
  });
});
