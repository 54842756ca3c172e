/**
 * A cluster in virtual time, with faults drawn from one seed: nodes die, nodes lose the directory or its answers, links
 * are slow, cut or reset, and clocks are wrong (docs/protocols/cluster.md, The model).
 *
 * @module
 */
import assert from "node:assert/strict";
import { type Directory, NODE_LEASE_MS, NODE_RENEW_MS } from "../../src/cluster/directory.ts";
import { createMemoryDirectory, DirectoryStore } from "../../src/cluster/memory_directory.ts";
import { CONFIRM_MS, LINK_RETRY_MS, ROUTE_FRESH_MS } from "../../src/cluster/node.ts";
import { REDIS_TIMEOUT_MS } from "../../src/cluster/redis_client.ts";
import { SallyportError } from "../../src/errors.ts";
import { createMemoryNetwork, type MemoryNetwork } from "../../src/runtime/memory/memory.ts";
import type { Clock } from "../../src/runtime/port.ts";
import type { Caller, Session } from "../../src/transport/port.ts";
import { TestNode, visit } from "../cluster/test_node.ts";

const NODES = 4;
const NAMES = ["a.example.org", "b.example.org", "c.example.org"];
/** Of another owner's tokens: it may have the name only while nobody else does. */
const THIEF = "thief.example.org";
const STEPS = 30;
/** Clocks differ by up to this at the session masters, which date tokens, and at the nodes. */
const SKEW_MS = 120_000;
/** Nodes' clocks run this much too fast or too slow. */
const DRIFT = 0.1;
/** More than the rounding of a time in milliseconds, less than anything that the model measures. */
const ROUNDING_MS = 1e-6;
/** Longer than a node needs to notice that the peer of a link has gone. */
const LINK_DEAD_MS = 60_000;

/** What the model knows of a session that a node has. */
interface Held {
  readonly session: string;
  readonly node: TestNode;
  readonly name: string;
  readonly owner: string;
  readonly madeAtMs: number;
  /** An agent that keeps sessions at two nodes has them in one group. */
  readonly group: string;
  readonly member: string | undefined;
  open: ReadonlySet<Caller>;
  lost: boolean;
}

/** A stream that a visitor keeps open through a link. */
interface OpenStream {
  readonly at: TestNode;
  readonly caller: Caller;
  readonly write: (text: string) => void;
  received: string;
  closed: boolean;
}

/** One run. Throws where an invariant does not hold. */
export async function runClusterModel(random: () => number): Promise<void> {
  const network = createMemoryNetwork({ link: { latencyMs: 1 } });
  const store = new DirectoryStore();
  const cutOff = new Set<string>();
  /** Whether the directory answers late, and some answers never come. */
  let slowDirectory = false;
  const nodes: TestNode[] = [];
  const sessions: Held[] = [];
  const streams: OpenStream[] = [];
  /** Sessions whose name was given to another owner while they had it. */
  const stolen: string[] = [];
  let made = 0;
  let tokens = 0;
  let visitors = 0;

  const between = (low: number, high: number): number => low + random() * (high - low);
  const pick = <T>(list: readonly T[]): T | undefined => list[Math.floor(random() * list.length)];
  const wait = (delayMs: number): Promise<void> =>
    new Promise((resolve) => void network.clock.after(delayMs, resolve));
  const away = (): Promise<never> =>
    Promise.reject(new SallyportError("io_failed", "Cannot ask: no answer", { side: "network" }));

  const start = async (): Promise<void> => {
    const index = ++made;
    const host = `10.0.0.${index}`;
    const directory = createMemoryDirectory({ clock: network.clock, store });
    const guarded: Directory = new Proxy(directory, {
      get: (target, key: keyof Directory) => {
        const method = (target[key] as (...args: unknown[]) => unknown).bind(target);
        if (key === "watch") return method;
        return async (...args: unknown[]) => {
          if (cutOff.has(host)) return await away();
          if (!slowDirectory) return await method(...args);
          // The question takes its time, and so does the answer, which may be lost although all was done.
          const [there, back] = [between(0, REDIS_TIMEOUT_MS), between(0, REDIS_TIMEOUT_MS)];
          await wait(there);
          const answer = await method(...args);
          await wait(Math.min(back, REDIS_TIMEOUT_MS - there));
          return there + back > REDIS_TIMEOUT_MS ? await away() : answer;
        };
      },
    });
    const clock = wrongClock(network.clock, between(-SKEW_MS, SKEW_MS), between(1 - DRIFT, 1 + DRIFT));
    const node = new TestNode(network, guarded, index, clock);
    nodes.push(node);
    await network.settle(node.start());
  };
  for (let index = 0; index < NODES; index++) await start();

  for (let step = 0; step < STEPS; step++) {
    const draw = random();
    const node = pick(nodes);
    if (node === undefined) await start();
    else if (draw < 0.3) connect(node, pick(NAMES)!);
    else if (draw < 0.38) connectTwice(pick(NAMES)!);
    else if (draw < 0.42) connect(node, pick(NAMES)!, { owner: THIEF });
    else if (draw < 0.52) await openStream(node, pick(NAMES)!);
    else if (draw < 0.55) leave(pick(sessions.filter(({ lost }) => !lost)));
    else if (draw < 0.6) await kill(node);
    else if (draw < 0.66) await (nodes.length < NODES + 2 ? start() : undefined);
    else if (draw < 0.73) cutOff.add(node.host);
    else if (draw < 0.78) slowDirectory = true;
    else if (draw < 0.88) restoreDirectory();
    else if (draw < 0.91) network.cut(node.host, pick(nodes)!.host);
    else if (draw < 0.93) network.reset(node.host, pick(nodes)!.host);
    else if (draw < 0.96) {
      const slow = { latencyMs: between(1, 3_000), jitterMs: between(0, 1_000), bytesPerSecond: 20_000 };
      network.setLink(node.host, pick(nodes)!.host, slow);
    } else heal();
    await network.advance(Math.floor(random() * 8_000));
    oneOwner(store, network);
    assert.deepEqual(stolen, []);
  }

  // Everything works again: after the longest of the waits the cluster has repaired itself.
  restoreDirectory();
  heal();
  if (nodes.length === 0) await start();
  const longestMs = NODE_LEASE_MS + 2 * NODE_RENEW_MS + ROUTE_FRESH_MS + LINK_RETRY_MS + CONFIRM_MS / 60;
  await network.advance(Math.max(longestMs / (1 - DRIFT) + 2 * REDIS_TIMEOUT_MS, LINK_DEAD_MS));
  oneOwner(store, network);
  await everyNameIsFound();
  await noStreamIsHalfOpen();
  await leasesEnd();
  for (const node of nodes) await network.settle(node.node.close());

  /** When a token is made, by the clock of a session master. */
  function tokenTimeMs(): number {
    return network.clock.nowMs() + between(-SKEW_MS, SKEW_MS);
  }

  function restoreDirectory(): void {
    cutOff.clear();
    slowDirectory = false;
  }

  function heal(): void {
    for (const a of nodes) {
      for (const b of nodes) {
        network.heal(a.host, b.host);
        network.setLink(a.host, b.host, { latencyMs: 1, jitterMs: 0, bytesPerSecond: Infinity });
      }
    }
  }

  /** An agent connects to a node with a new token of its name, which a master with a wrong clock has dated. */
  function connect(
    node: TestNode,
    name: string,
    { owner = name, group = `session-${tokens + 1}`, member, madeAtMs = tokenTimeMs() }: {
      readonly owner?: string;
      readonly group?: string;
      readonly member?: string;
      readonly madeAtMs?: number;
    } = {},
  ): void {
    const session = `session-${++tokens}`;
    // The node decides among its own sessions: another owner is refused, and so is an older token.
    const locals = sessions.filter((other) => other.node === node && other.name === name && !other.lost);
    if (locals.some((other) => other.owner !== owner)) return;
    const replaced = locals.filter((other) =>
      member === undefined || other.member === undefined || other.member === member
    );
    if (replaced.some((other) => other.madeAtMs >= madeAtMs)) return;
    for (const other of replaced) {
      other.lost = true;
      node.node.release(other.session);
    }
    const held: Held = {
      ...{ session, node, name, owner, group, member, madeAtMs },
      open: new Set(),
      lost: false,
    };
    sessions.push(held);
    held.open = node.serve(name, {
      session,
      owner,
      group,
      ...member === undefined ? {} : { member },
      madeAtMs,
      lost: (_names, reason) => {
        forget(held);
        const holders = store.routes.get(name) ?? [];
        if (reason === "replaced" && holders.some((holder) => holder.owner !== owner)) stolen.push(session);
      },
    }).open;
  }

  /** An agent with `--edges 2` connects to two nodes, or comes back to them. */
  function connectTwice(name: string): void {
    const group = random() < 0.5 ? `run-of-${name}` : `run-${tokens}`;
    const madeAtMs = tokenTimeMs();
    const first = pick(nodes)!;
    const others = nodes.filter((node) => node !== first);
    connect(first, name, { group, member: `${group}.0`, madeAtMs });
    const second = pick(others);
    if (second !== undefined) connect(second, name, { group, member: `${group}.1`, madeAtMs });
  }

  /** An agent ends its session, and does not come back. */
  function leave(held: Held | undefined): void {
    if (held === undefined) return;
    held.node.node.release(held.session);
    forget(held);
  }

  /** A session no longer has its name; another one of its node may. */
  function forget(held: Held): void {
    held.lost = true;
    const { node, name } = held;
    const others = sessions.some((other) => other.node === node && other.name === name && !other.lost);
    if (!others) node.sessions.delete(name);
  }

  /** A visitor at a node opens a stream to a name that another one has, and keeps it. */
  async function openStream(at: TestNode, name: string): Promise<void> {
    const found = await network.settle(Promise.resolve(at.node.find(name)));
    if (found === undefined) return;
    const caller: Caller = { address: "203.0.113.2", port: ++visitors, serverName: name };
    const stream = found.open(caller);
    const opened: OpenStream = {
      at,
      caller,
      received: "",
      closed: false,
      write: (text) => void stream.write(new TextEncoder().encode(text)),
    };
    stream.attach({
      data: (chunk) => void (opened.received += new TextDecoder().decode(chunk)),
      end() {},
      drain() {},
      close: () => opened.closed = true,
    });
    opened.write("opened ");
    streams.push(opened);
  }

  async function kill(node: TestNode): Promise<void> {
    nodes.splice(nodes.indexOf(node), 1);
    // A killed process tells the directory nothing: only its lease ends.
    cutOff.add(node.host);
    await network.settle(node.kill());
    for (const held of sessions) if (held.node === node) held.lost = true;
    for (const stream of streams) if (stream.at === node) stream.closed = true;
  }

  /** Every name with a living session is reached from every node, and is held by one group and each member once. */
  async function everyNameIsFound(): Promise<void> {
    for (const name of NAMES) {
      const living = sessions.filter((held) => held.name === name && !held.lost);
      const groups = new Set(living.map(({ group }) => group));
      assert.ok(groups.size <= 1, `${name} is held by ${groups.size} groups that believe in it`);
      const members = living.map(({ member }) => member);
      assert.equal(new Set(members).size, members.length, `${name} is held twice by one member`);
      for (const node of nodes) {
        const local = node.sessions.has(name);
        const found = local ? undefined : await network.settle(Promise.resolve(node.node.find(name)));
        if (living.length === 0) {
          assert.ok(!local, `${name} is found at node ${node.id}, and nobody holds it`);
          if (found !== undefined) await assertForgotten(node, name, found);
        } else if (living.some((held) => held.node === node)) {
          assert.ok(local, `${name} has gone from the node that holds it`);
        } else {
          assert.ok(found !== undefined, `${name} is not found from node ${node.id}`);
          const visited = visit(found, { address: "203.0.113.1", port: ++visitors, serverName: name });
          assert.equal(await network.settle(visited), "hello");
        }
      }
    }
  }

  /** A node that still knows a route to a name that nobody holds forgets it with its next visitor, who is refused. */
  async function assertForgotten(node: TestNode, name: string, found: Session): Promise<void> {
    const visited = visit(found, { address: "203.0.113.1", port: ++visitors, serverName: name });
    await assert.rejects(network.settle(visited), { code: "unrecognized_name" });
    node.node.stale(name);
    const again = await network.settle(Promise.resolve(node.node.find(name)));
    assert.equal(again, undefined, `${name} is found at node ${node.id} again, and nobody holds it`);
  }

  /** A stream is open at both ends, and carries bytes, or at neither. */
  async function noStreamIsHalfOpen(): Promise<void> {
    for (const stream of streams) if (!stream.closed) stream.write("still here");
    await network.advance(1_000);
    const atAgents = new Set(sessions.filter(({ node }) => !node.dead).flatMap(({ open }) => [...open]));
    const served = new Set([...atAgents].map(({ port }) => port));
    for (const { closed, caller, received } of streams) {
      if (closed) {
        assert.ok(!served.has(caller.port), `stream ${caller.port} is open at the agent alone`);
      } else {
        assert.ok(served.has(caller.port), `stream ${caller.port} is open at the visitor alone`);
        assert.equal(received, "opened still here", `stream ${caller.port} has lost bytes`);
      }
    }
  }

  /** The directory has nothing of a node that died. */
  async function leasesEnd(): Promise<void> {
    const directory = createMemoryDirectory({ clock: network.clock, store });
    const alive = new Set(nodes.map(({ id }) => id));
    for (const { id } of await directory.nodes()) assert.ok(alive.has(id), `dead node ${id} has a lease`);
    for (const name of NAMES) {
      for (const { node } of await directory.lookup(name)) {
        assert.ok(alive.has(node), `${name} belongs to dead node ${node}`);
      }
    }
  }
}

/**
 * A clock that is wrong by an offset, and runs at another rate. As with a real clock, no timer fires before its time: if
 * rounding let one fire too early, it would be set again for the same moment without end.
 */
function wrongClock(clock: Clock, offsetMs: number, rate: number): Clock {
  return {
    nowMs: () => clock.nowMs() * rate,
    wallMs: () => clock.wallMs() + offsetMs,
    after: (delayMs, run) => clock.after(delayMs / rate + ROUNDING_MS, run),
    soon: (run) => clock.soon(run),
  };
}

/** At any time the living holders of a name have one owner and one group, each member once, and their fences differ. */
function oneOwner(store: DirectoryStore, network: MemoryNetwork): void {
  const nowMs = network.clock.nowMs();
  for (const [name, holders] of store.routes) {
    const living = holders.filter(({ node }) => (store.nodes.get(node)?.untilMs ?? 0) > nowMs);
    assert.ok(new Set(living.map(({ owner }) => owner)).size <= 1, `${name} has two owners`);
    assert.ok(new Set(living.map(({ group }) => group)).size <= 1, `${name} has two groups`);
    assert.equal(
      new Set(living.map(({ member }) => member)).size,
      living.length,
      `${name} has a member twice`,
    );
    assert.equal(new Set(living.map(({ fence }) => fence)).size, living.length, `${name} has a fence twice`);
  }
}
