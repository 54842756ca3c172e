/** An agent that keeps sessions at several edges of a cluster, in virtual time. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Agent, createAgent, EDGE_TROUBLED_MS, EDGES_LOOK_MS } from "../../src/agent/agent.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { createEdge, type Edge } from "../../src/edge/edge.ts";
import { createToken } from "../../src/protocol/token/token.ts";
import { createMemoryNetwork, type MemoryNetwork } from "../../src/runtime/memory/memory.ts";
import type { GrantEdge } from "../../src/transport/grant.ts";
import { AGENT_HOST, EDGE_PORT, FERNET_KEY } from "../support/tunnel.ts";

const HOSTS = ["10.0.1.1", "10.0.1.2", "10.0.1.3"];

interface World {
  readonly network: MemoryNetwork;
  readonly agent: Agent;
  /** The edges that grants name, in this order; may be changed. */
  readonly named: string[];
  /** The slots that grants were asked for. */
  readonly slots: number[];
  readonly edges: Map<string, Edge>;
  start(host: string): Promise<void>;
}

async function world(named: readonly string[], edges: number): Promise<World> {
  const network = createMemoryNetwork({ seed: 7, link: { latencyMs: 1 } });
  const ring = new FernetRing([FERNET_KEY]);
  const hosts = [...named];
  const slots: number[] = [];
  const running = new Map<string, Edge>();
  const address = (host: string): GrantEdge => ({ host, port: EDGE_PORT });
  const agent = createAgent({
    runtime: network.runtime(AGENT_HOST),
    edges,
    grants: (slot = 0) => {
      slots.push(slot);
      const { token, claims } = createToken(ring, {
        hostname: "a.test",
        nowMs: network.clock.wallMs(),
        ttlSeconds: 3_600,
      });
      return Promise.resolve({ token, ...claims, edge: address(hosts[0]!), edges: hosts.map(address) });
    },
    connector: (stream) => stream.abort(),
    random: () => 0.5,
  });
  const start = async (host: string) => {
    const edge = createEdge({ runtime: network.runtime(host), ring });
    await edge.listen({ host, port: EDGE_PORT });
    running.set(host, edge);
  };
  for (const host of named) await start(host);
  void agent.run();
  await network.advance(50);
  return { network, agent, named: hosts, slots, edges: running, start };
}

function at({ facts: { session, others = [] } }: Agent): string[] {
  return [session, ...others].flatMap((one) => one === undefined ? [] : [one.edge.split(":")[0]!]);
}

async function stop({ network, agent, edges }: World): Promise<void> {
  await network.settle(agent.close(0));
  for (const edge of edges.values()) await network.settle(edge.close(0));
}

/** Its process is gone: connections are reset, and nobody listens. */
async function kill({ network, edges }: World, host: string): Promise<void> {
  void edges.get(host)!.close(0);
  edges.delete(host);
  network.reset(host, AGENT_HOST);
  await network.advance(1);
}

describe("createAgent: several edges", () => {
  it("keeps as many sessions as it is told, each at another edge, with grants of its own", async () => {
    const w = await world(HOSTS, 2);
    assert.deepEqual(at(w.agent), HOSTS.slice(0, 2));
    assert.deepEqual(w.slots, [0, 1]);
    await stop(w);
  });

  it("keeps one session where it is told nothing, and goes to the next edge when that one dies", async () => {
    const w = await world(HOSTS, 1);
    assert.deepEqual(at(w.agent), [HOSTS[0]]);
    await kill(w, HOSTS[0]!);
    // The pause after a session that stood is at most half a second.
    await w.network.advance(600);
    assert.deepEqual(at(w.agent), [HOSTS[1]]);
    await stop(w);
  });

  it("stays where it is when its token is renewed, whatever edge the grant names first", async () => {
    const w = await world(HOSTS, 1);
    w.named.reverse();
    w.agent.renew();
    await w.network.advance(100);
    assert.deepEqual(at(w.agent), [HOSTS[0]]);
    await stop(w);
  });

  it("opens the lost session at an edge where it has none, and never two at one", async () => {
    const w = await world(HOSTS, 2);
    await kill(w, HOSTS[1]!);
    await w.network.advance(600);
    assert.deepEqual(at(w.agent), [HOSTS[0], HOSTS[2]]);
    await kill(w, HOSTS[2]!);
    await w.network.advance(5_000);
    assert.deepEqual(at(w.agent), [HOSTS[0]]);
    assert.equal(w.edges.get(HOSTS[0]!)!.sessions, 1);
    await w.start(HOSTS[2]!);
    await w.network.advance(60_000);
    assert.deepEqual(at(w.agent), [HOSTS[0], HOSTS[2]]);
    await stop(w);
  });

  it("looks for a second edge from time to time where there is one alone", async () => {
    const w = await world(HOSTS.slice(0, 1), 2);
    assert.deepEqual(at(w.agent), [HOSTS[0]]);
    await w.start(HOSTS[1]!);
    w.named.push(HOSTS[1]!);
    await w.network.advance(EDGES_LOOK_MS + 1_000);
    assert.deepEqual(at(w.agent), HOSTS.slice(0, 2));
    await stop(w);
  });

  it("tries an edge that had trouble after the others, for a while", async () => {
    const w = await world(HOSTS.slice(0, 2), 1);
    await kill(w, HOSTS[0]!);
    await w.network.advance(600);
    await w.start(HOSTS[0]!);
    await kill(w, HOSTS[1]!);
    await w.start(HOSTS[1]!);
    // Both had trouble: the order is the grant's again.
    await w.network.advance(600);
    assert.deepEqual(at(w.agent), [HOSTS[0]]);
    await w.network.advance(EDGE_TROUBLED_MS);
    await stop(w);
  });
});
