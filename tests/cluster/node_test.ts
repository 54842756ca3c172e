/** Nodes of a cluster in one virtual network: claims, routes, links and what happens when something is away. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Directory, NODE_LEASE_MS, NODE_RENEW_MS } from "../../src/cluster/directory.ts";
import { createMemoryDirectory, DirectoryStore } from "../../src/cluster/memory_directory.ts";
import { ROUTE_FRESH_MS, ROUTE_UNKNOWN_MS } from "../../src/cluster/node.ts";
import { SallyportError } from "../../src/errors.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import type { Caller } from "../../src/transport/port.ts";
import { cluster, TestNode, visit } from "./test_node.ts";

const CALLER: Caller = { address: "203.0.113.9", port: 50_123, serverName: "home.example.org" };

describe("ClusterNode", () => {
  it("forwards a visitor to the node that holds the name, with address, port and name", async () => {
    const { network, nodes: [a, b] } = await cluster(2);
    const { callers } = a!.serve("home.example.org");
    await network.advance(10);
    const found = await network.settle(Promise.resolve(b!.node.find("home.example.org")));
    assert.equal(await network.settle(visit(found!, CALLER)), "hello");
    assert.deepEqual(callers, [CALLER]);
  });

  it("finds the link at once the second time, and links two nodes once", async () => {
    const { network, nodes: [a, b] } = await cluster(2);
    a!.serve("home.example.org");
    await network.advance(10);
    await network.settle(Promise.resolve(b!.node.find("home.example.org")));
    const again = b!.node.find("home.example.org");
    assert.ok(again !== undefined && !(again instanceof Promise));
    assert.equal(b!.links, 1);
  });

  it("finds nobody for an unknown name, and asks for it again only after a while", async () => {
    const { network, nodes: [a, b] } = await cluster(2);
    assert.equal(await network.settle(Promise.resolve(b!.node.find("home.example.org"))), undefined);
    assert.equal(b!.node.find("home.example.org"), undefined);
    a!.serve("home.example.org");
    await network.advance(ROUTE_UNKNOWN_MS + 10);
    assert.ok(await network.settle(Promise.resolve(b!.node.find("home.example.org"))));
  });

  it("finds a wildcard's holder where nobody holds the name itself", async () => {
    const { network, nodes: [a, b] } = await cluster(2);
    a!.serve("*.example.org");
    await network.advance(10);
    assert.ok(await network.settle(Promise.resolve(b!.node.find("www.example.org"))));
    assert.equal(await network.settle(Promise.resolve(b!.node.find("a.www.example.org"))), undefined);
  });

  it("tells the older session of an owner that it was replaced, wherever it is", async () => {
    const { network, nodes: [a, b] } = await cluster(2);
    a!.serve("home.example.org", { madeAtMs: 1 });
    await network.advance(10);
    b!.serve("home.example.org", { madeAtMs: 2 });
    await network.advance(10);
    assert.deepEqual(a!.lost, [["home.example.org", "replaced"]]);
    assert.deepEqual(b!.lost, []);
  });

  it("tells a session at once that its name belongs to another owner", async () => {
    const { network, nodes: [a, b] } = await cluster(2);
    a!.serve("home.example.org");
    await network.advance(10);
    b!.serve("home.example.org", { owner: "thief.example.org", madeAtMs: 99 });
    await network.advance(10);
    assert.deepEqual(b!.lost, [["home.example.org", "name_taken"]]);
    assert.deepEqual(a!.lost, []);
  });

  it("lets sessions of one group hold a name at two nodes, and uses the other when one node dies", async () => {
    const { network, nodes: [a, b, c] } = await cluster(3);
    a!.serve("home.example.org", { group: "agent" });
    const other = b!.serve("home.example.org", { group: "agent" });
    await network.advance(10);
    assert.deepEqual([...a!.lost, ...b!.lost], []);
    await network.settle(Promise.resolve(c!.node.find("home.example.org")));
    await network.settle(a!.node.close());
    const found = await network.settle(Promise.resolve(c!.node.find("home.example.org")));
    assert.equal(await network.settle(visit(found!, CALLER)), "hello");
    assert.equal(other.callers.length, 1);
  });

  it("forgets the claims of a node that died without a word when its lease ends", async () => {
    const { network, nodes: [a, b], store } = await cluster(2);
    a!.serve("home.example.org");
    await network.advance(10);
    // It says nothing any more, and nobody reaches it.
    network.cut(a!.host, b!.host);
    store.nodes.get(a!.id)!.untilMs = network.clock.nowMs();
    await network.advance(1);
    assert.equal(await network.settle(Promise.resolve(b!.node.find("home.example.org"))), undefined);
  });

  it("gives up what it claimed for a session that ended while the directory did not answer", async () => {
    const network = createMemoryNetwork({ link: { latencyMs: 1 } });
    const store = new DirectoryStore();
    const directory = createMemoryDirectory({ clock: network.clock, store });
    let answers = true;
    // What it is asked it does, but its answers get lost.
    const deaf = new Proxy(directory, {
      get: (target, key: keyof Directory) => {
        const method = (target[key] as (...args: unknown[]) => unknown).bind(target);
        if (key === "watch" || answers) return method;
        return async (...args: unknown[]) => {
          if (key === "claim") await method(...args);
          throw new SallyportError("io_failed", "Cannot ask: no answer", { side: "network" });
        };
      },
    });
    const node = new TestNode(network, deaf, 1);
    await network.settle(node.start());
    const kept = node.serve("kept.example.org");
    await network.advance(10);
    answers = false;
    const unheard = node.serve("home.example.org");
    node.node.release(kept.session);
    await network.advance(10);
    node.node.release(unheard.session);
    await network.advance(10);
    assert.equal((await directory.lookup("home.example.org")).length, 1);
    answers = true;
    await network.advance(NODE_RENEW_MS + 10);
    assert.deepEqual(await directory.lookup("home.example.org"), []);
    assert.deepEqual(await directory.lookup("kept.example.org"), []);
  });

  it("gives up a name that it is granted after another answer has told that it is lost", async () => {
    const network = createMemoryNetwork({ link: { latencyMs: 1 } });
    const store = new DirectoryStore();
    const directory = createMemoryDirectory({ clock: network.clock, store });
    const answers: (() => void)[] = [];
    const late = new Proxy(directory, {
      get: (target, key: keyof Directory) => {
        const method = (target[key] as (...args: unknown[]) => unknown).bind(target);
        if (key !== "claim") return method;
        return async (...args: unknown[]) => {
          const outcome = await method(...args);
          await new Promise<void>((resolve) => void answers.push(resolve));
          return outcome;
        };
      },
    });
    const node = new TestNode(network, late, 1);
    await network.settle(node.start());
    node.serve("home.example.org");
    await network.advance(10);
    // A second claim of the same session is asked before the first is answered: the node's lease had run out.
    const lease = store.nodes.get(node.id)!;
    const rival = {
      name: "home.example.org",
      owner: "rival.example.org",
      group: "r",
      madeAtMs: 1,
      session: "r",
    };
    await directory.enter({ ...node.record, id: "rival" });
    lease.untilMs = network.clock.nowMs();
    await network.advance(1);
    await directory.claim({ ...rival, node: "rival" });
    await network.advance(NODE_RENEW_MS + 10);
    assert.equal(answers.length, 2);
    await directory.leave("rival");
    await directory.claim({ ...rival, owner: "home.example.org", session: `${node.id}-1`, node: node.id });
    answers[1]!();
    await network.advance(10);
    assert.deepEqual(node.lost, [["home.example.org", "name_taken"]]);
    answers[0]!();
    await network.advance(10);
    assert.deepEqual(await directory.lookup("home.example.org"), []);
  });

  it("keeps known routes while the directory is away, and claims what came meanwhile when it is back", async () => {
    const network = createMemoryNetwork({ link: { latencyMs: 1 } });
    const store = new DirectoryStore();
    let away = false;
    const flaky = (directory: Directory): Directory =>
      new Proxy(directory, {
        get: (target, key: keyof Directory) =>
          key === "watch" || !away
            ? (target[key] as (...args: unknown[]) => unknown).bind(target)
            : () => Promise.reject(new SallyportError("io_failed", "Cannot ask: away", { side: "network" })),
      });
    const nodes = [1, 2].map((index) =>
      new TestNode(
        network,
        flaky(createMemoryDirectory({ clock: network.clock, store, leaseMs: 600_000 })),
        index,
      )
    );
    await network.settle(Promise.all(nodes.map((node) => node.start())));
    const [a, b] = nodes;
    a!.serve("home.example.org");
    await network.advance(10);
    await network.settle(Promise.resolve(b!.node.find("home.example.org")));
    away = true;
    await network.advance(ROUTE_FRESH_MS * 3);
    const known = await network.settle(Promise.resolve(b!.node.find("home.example.org")));
    assert.equal(await network.settle(visit(known!, CALLER)), "hello");
    a!.serve("new.example.org");
    await network.advance(10);
    away = false;
    await network.advance(NODE_RENEW_MS + 10);
    assert.ok(await network.settle(Promise.resolve(b!.node.find("new.example.org"))));
  });

  it("keeps a known route that the directory has lost, as long as its node has the name", async () => {
    const { network, nodes: [a, b], store } = await cluster(2);
    a!.serve("home.example.org");
    await network.advance(10);
    const find = () => network.settle(Promise.resolve(b!.node.find("home.example.org")));
    await find();
    // As when Redis was started again, empty.
    store.routes.clear();
    await network.advance(ROUTE_FRESH_MS + 10);
    await find();
    await network.advance(10);
    assert.equal(await network.settle(visit((await find())!, CALLER)), "hello");
    a!.sessions.clear();
    await assert.rejects(network.settle(visit((await find())!, CALLER)), { code: "unrecognized_name" });
  });

  it("reaches another holder of the group where the newest holder's node cannot be linked to", async () => {
    const { network, nodes: [a, b, c] } = await cluster(3);
    b!.serve("home.example.org", { group: "agent", member: "agent.1" });
    await network.advance(10);
    a!.serve("home.example.org", { group: "agent", member: "agent.0" });
    await network.advance(10);
    network.cut(a!.host, c!.host);
    const found = await network.settle(Promise.resolve(c!.node.find("home.example.org")));
    assert.equal(await network.settle(visit(found!, CALLER)), "hello");
    assert.equal(a!.links + b!.links, 0);
  });

  it("knows whether another node takes its agents over when it stops", async () => {
    const { network, nodes: [a, b] } = await cluster(2);
    await network.advance(NODE_RENEW_MS + 10);
    assert.equal(a!.node.last, false);
    await network.settle(b!.node.close());
    await network.advance(NODE_RENEW_MS + 10);
    assert.equal(a!.node.last, true);
    a!.node.successor = true;
    assert.equal(a!.node.last, false);
  });

  it("claims everything again when its lease had run out, and yields to who came meanwhile", async () => {
    const { network, nodes: [a, b], store } = await cluster(2);
    a!.serve("home.example.org", { madeAtMs: 1 });
    a!.serve("kept.example.org", { madeAtMs: 1 });
    await network.advance(10);
    store.nodes.get(a!.id)!.untilMs = network.clock.nowMs();
    await network.advance(1);
    b!.serve("home.example.org", { madeAtMs: 2 });
    await network.advance(NODE_LEASE_MS);
    assert.deepEqual(a!.lost, [["home.example.org", "replaced"]]);
    assert.equal(
      (await createMemoryDirectory({ clock: network.clock, store }).lookup("kept.example.org")).length,
      1,
    );
  });

  it("refuses a forwarded visitor whose name it does not hold, with a code that says so", async () => {
    const { network, nodes: [a, b] } = await cluster(2);
    a!.serve("home.example.org");
    await network.advance(10);
    const found = await network.settle(Promise.resolve(b!.node.find("home.example.org")));
    a!.sessions.clear();
    await assert.rejects(network.settle(visit(found!, CALLER)), { code: "unrecognized_name" });
  });

  it("releases its names when a session ends, and leaves with all of them", async () => {
    const { network, nodes: [a], store } = await cluster(1);
    const directory = createMemoryDirectory({ clock: network.clock, store });
    const { session } = a!.serve("home.example.org");
    a!.serve("other.example.org");
    await network.advance(10);
    a!.node.release(session);
    await network.advance(10);
    assert.deepEqual(await directory.lookup("home.example.org"), []);
    assert.equal((await directory.lookup("other.example.org")).length, 1);
    await network.settle(a!.node.close());
    assert.deepEqual(await directory.lookup("other.example.org"), []);
    assert.deepEqual(await directory.nodes(), []);
  });
});
