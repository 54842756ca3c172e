/**
 * A cluster in virtual time whose nodes die, whose directory goes away for some of them, and whose links are cut, all
 * drawn from one seed (docs/protocols/cluster.md, The model).
 *
 * @module
 */
import assert from "node:assert/strict";
import { type Directory, NODE_LEASE_MS, NODE_RENEW_MS } from "../../src/cluster/directory.ts";
import { createMemoryDirectory, DirectoryStore } from "../../src/cluster/memory_directory.ts";
import { CONFIRM_MS, LINK_RETRY_MS, ROUTE_FRESH_MS } from "../../src/cluster/node.ts";
import { SallyportError } from "../../src/errors.ts";
import { createMemoryNetwork, type MemoryNetwork } from "../../src/runtime/memory/memory.ts";
import { TestNode, visit } from "../cluster/test_node.ts";

const NODES = 4;
const NAMES = ["a.example.org", "b.example.org", "c.example.org"];
const STEPS = 30;

/** What the model knows of a session that a node of it holds. */
interface Held {
  readonly node: TestNode;
  readonly name: string;
  readonly madeAtMs: number;
  lost: boolean;
}

/** One run. Throws where an invariant does not hold. */
export async function runClusterModel(random: () => number): Promise<void> {
  const network = createMemoryNetwork({ link: { latencyMs: 1 } });
  const store = new DirectoryStore();
  const cutOff = new Set<string>();
  const nodes: TestNode[] = [];
  const sessions: Held[] = [];
  let made = 0;
  let tokens = 0;

  const start = async (): Promise<void> => {
    const index = ++made;
    const directory = createMemoryDirectory({ clock: network.clock, store });
    const guarded: Directory = new Proxy(directory, {
      get: (target, key: keyof Directory) =>
        key === "watch" || !cutOff.has(`10.0.0.${index}`)
          ? (target[key] as (...args: unknown[]) => unknown).bind(target)
          : () => Promise.reject(new SallyportError("io_failed", "Cannot ask: cut off", { side: "network" })),
    });
    const node = new TestNode(network, guarded, index);
    nodes.push(node);
    await network.settle(node.start());
  };
  for (let index = 0; index < NODES; index++) await start();

  const pick = <T>(list: readonly T[]): T | undefined => list[Math.floor(random() * list.length)];
  for (let step = 0; step < STEPS; step++) {
    const draw = random();
    const node = pick(nodes);
    if (node === undefined) await start();
    else if (draw < 0.45) connect(node);
    else if (draw < 0.55) await kill(node);
    else if (draw < 0.65 && nodes.length < NODES + 2) await start();
    else if (draw < 0.75) cutOff.add(node.host);
    else if (draw < 0.9) cutOff.clear();
    else if (draw < 0.95) network.cut(node.host, pick(nodes)!.host);
    else for (const a of nodes) for (const b of nodes) network.heal(a.host, b.host);
    await network.advance(Math.floor(random() * 8_000));
    oneOwner(store, network);
  }

  // Everything works again: after the longest of the waits the cluster has repaired itself.
  cutOff.clear();
  for (const a of nodes) for (const b of nodes) network.heal(a.host, b.host);
  if (nodes.length === 0) await start();
  await network.advance(NODE_LEASE_MS + 2 * NODE_RENEW_MS + ROUTE_FRESH_MS + LINK_RETRY_MS + CONFIRM_MS / 60);
  oneOwner(store, network);
  await everyNameIsFound();
  for (const node of nodes) await network.settle(node.node.close());

  /** An agent connects to a node with a new token of its name. */
  function connect(node: TestNode): void {
    const held: Held = { node, name: pick(NAMES)!, madeAtMs: ++tokens, lost: false };
    sessions.push(held);
    const session = `session-${tokens}`;
    // The node itself lets a newer session replace the one that it holds.
    for (const other of sessions) {
      if (other !== held && other.node === node && other.name === held.name) other.lost = true;
    }
    node.serve(held.name, {
      session,
      owner: held.name,
      group: session,
      madeAtMs: held.madeAtMs,
      lost: () => {
        held.lost = true;
        const newest = sessions.filter((other) =>
          other.node === node && other.name === held.name && !other.lost
        );
        if (newest.length === 0) node.sessions.delete(held.name);
      },
    });
  }

  async function kill(node: TestNode): Promise<void> {
    nodes.splice(nodes.indexOf(node), 1);
    // A killed process tells the directory nothing: only its lease ends.
    cutOff.add(node.host);
    await network.settle(node.kill());
    for (const held of sessions) if (held.node === node) held.lost = true;
  }

  /** Every name whose newest session lives is reached from every node, and by that session's node. */
  async function everyNameIsFound(): Promise<void> {
    for (const name of NAMES) {
      const living = sessions.filter((held) => held.name === name && !held.lost);
      assert.ok(living.length <= 1, `${name} is held by ${living.length} sessions that believe in it`);
      for (const node of nodes) {
        const local = node.sessions.has(name);
        const found = local ? undefined : await network.settle(Promise.resolve(node.node.find(name)));
        if (living.length === 0) {
          assert.ok(
            !local && found === undefined,
            `${name} is found at node ${node.id}, and nobody holds it`,
          );
        } else if (living[0]!.node === node) assert.ok(local, `${name} has gone from the node that holds it`);
        else {
          assert.ok(found !== undefined, `${name} is not found from node ${node.id}`);
          assert.equal(
            await network.settle(visit(found, { address: "203.0.113.1", serverName: name })),
            "hello",
          );
        }
      }
    }
  }
}

/** At any time the living holders of a name have one owner and one group, and their fences differ. */
function oneOwner(store: DirectoryStore, network: MemoryNetwork): void {
  const nowMs = network.clock.nowMs();
  for (const [name, holders] of store.routes) {
    const living = holders.filter(({ node }) => (store.nodes.get(node)?.untilMs ?? 0) > nowMs);
    assert.ok(new Set(living.map(({ owner }) => owner)).size <= 1, `${name} has two owners`);
    assert.ok(new Set(living.map(({ group }) => group)).size <= 1, `${name} has two groups`);
    assert.equal(new Set(living.map(({ fence }) => fence)).size, living.length, `${name} has a fence twice`);
  }
}
