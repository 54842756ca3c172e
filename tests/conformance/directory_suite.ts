/**
 * What every directory of a cluster must do, sentence by sentence of src/cluster/directory.ts.
 *
 * @module
 */
import assert from "node:assert/strict";
import type {
  ClaimOutcome,
  Directory,
  DirectoryChange,
  NodeRecord,
  RouteClaim,
} from "../../src/cluster/directory.ts";
import { withOpened } from "./with_opened.ts";

/** A store under test; each opening is a node's own view of it. */
export interface DirectoryUnderTest {
  open(leaseMs?: number): Promise<Directory>;
  /** Lets a lease of `leaseMs` run out. */
  expire(leaseMs: number): Promise<void>;
  /** Waits until `met`, which changes that are on their way make true. */
  until(met: () => boolean): Promise<void>;
  close(): Promise<void>;
}

function node(id: string, more: Partial<NodeRecord> = {}): NodeRecord {
  return { id, address: `unix:/run/${id}.sock`, version: 1, sessions: 0, draining: false, ...more };
}

function claim(more: Partial<RouteClaim> = {}): RouteClaim {
  return {
    name: "home.example.org",
    owner: "home.example.org",
    group: "agent-1",
    madeAtMs: 1_000,
    node: "a",
    session: "s1",
    ...more,
  };
}

function granted(outcome: ClaimOutcome): Extract<ClaimOutcome, { kind: "granted" }> {
  assert.equal(outcome.kind, "granted", JSON.stringify(outcome));
  return outcome as Extract<ClaimOutcome, { kind: "granted" }>;
}

/** Registers the suite. `make` gives an empty store. */
export function directorySuite(make: () => Promise<DirectoryUnderTest>, skip: string | false = false): void {
  const test = withOpened(make, skip);

  test("Directory.enter says whether the node was known, and nodes lists it as entered last", async (store) => {
    const directory = await store.open();
    assert.equal(await directory.enter(node("a")), "entered");
    assert.equal(await directory.enter(node("a", { sessions: 7, region: "eu" })), "renewed");
    assert.deepEqual(await directory.nodes(), [node("a", { sessions: 7, region: "eu" })]);
  });

  test("Directory.nodes leaves out a node whose lease has expired", async (store) => {
    const directory = await store.open(300);
    await directory.enter(node("a"));
    await store.expire(300);
    assert.deepEqual(await directory.nodes(), []);
    assert.equal(await directory.enter(node("a")), "entered");
  });

  test("Directory.claim gives the name, and lookup finds its holder from another view", async (store) => {
    const [one, other] = [await store.open(), await store.open()];
    await one.enter(node("a"));
    const { fence, replaced } = granted(await one.claim(claim()));
    assert.deepEqual(replaced, []);
    assert.deepEqual(await other.lookup("home.example.org"), [{ ...claim(), fence }]);
    assert.deepEqual(await other.lookup("other.example.org"), []);
  });

  test("Directory.claim replaces the holders of an older group of the same owner, with a larger fence", async (store) => {
    const directory = await store.open();
    await directory.enter(node("a"));
    await directory.enter(node("b"));
    const first = granted(await directory.claim(claim()));
    const newer = claim({ group: "agent-2", madeAtMs: 2_000, node: "b", session: "s2" });
    const second = granted(await directory.claim(newer));
    assert.ok(second.fence > first.fence);
    assert.deepEqual(second.replaced, [{ ...claim(), fence: first.fence }]);
    assert.deepEqual(await directory.lookup("home.example.org"), [{ ...newer, fence: second.fence }]);
  });

  test("Directory.claim refuses a group whose token is older than the holder's", async (store) => {
    const directory = await store.open();
    await directory.enter(node("a"));
    granted(await directory.claim(claim({ madeAtMs: 2_000 })));
    const outcome = await directory.claim(claim({ group: "agent-2", madeAtMs: 1_999, session: "s2" }));
    assert.equal(outcome.kind === "refused" && outcome.reason, "replaced");
    assert.equal((await directory.lookup("home.example.org"))[0]?.session, "s1");
  });

  test("Directory.claim refuses another owner, whatever its token's time", async (store) => {
    const directory = await store.open();
    await directory.enter(node("a"));
    granted(await directory.claim(claim()));
    const outcome = await directory.claim(
      claim({ owner: "thief.example.org", madeAtMs: 9_000, session: "s2" }),
    );
    assert.equal(outcome.kind === "refused" && outcome.reason, "name_taken");
    assert.equal(outcome.kind === "refused" && outcome.holder.session, "s1");
  });

  test("Directory.claim lets sessions of one group hold a name together, the newest first", async (store) => {
    const directory = await store.open();
    await directory.enter(node("a"));
    await directory.enter(node("b"));
    granted(await directory.claim(claim()));
    granted(await directory.claim(claim({ node: "b", session: "s2" })));
    const holders = await directory.lookup("home.example.org");
    assert.deepEqual(holders.map(({ session }) => session), ["s2", "s1"]);
  });

  test("Directory.claim lets each member of a group hold a name once: its newer session replaces it", async (store) => {
    const directory = await store.open();
    await directory.enter(node("a"));
    await directory.enter(node("b"));
    granted(await directory.claim(claim({ member: "m.0", madeAtMs: 1_000 })));
    granted(await directory.claim(claim({ member: "m.1", madeAtMs: 1_000, node: "b", session: "s2" })));
    const newer = claim({ member: "m.0", madeAtMs: 2_000, node: "b", session: "s3" });
    const { replaced } = granted(await directory.claim(newer));
    assert.deepEqual(replaced.map(({ session }) => session), ["s1"]);
    const holders = await directory.lookup("home.example.org");
    assert.deepEqual(holders.map(({ session }) => session), ["s3", "s2"]);
    const older = await directory.claim(claim({ member: "m.0", madeAtMs: 1_500, session: "s4" }));
    assert.equal(older.kind === "refused" && older.reason, "replaced");
  });

  test("Directory.claim with the same session confirms it without a second holder", async (store) => {
    const directory = await store.open();
    await directory.enter(node("a"));
    granted(await directory.claim(claim()));
    granted(await directory.claim(claim()));
    assert.equal((await directory.lookup("home.example.org")).length, 1);
  });

  test("Directory.claim ignores holders of a node whose lease has expired, and lookup too", async (store) => {
    const directory = await store.open(300);
    await directory.enter(node("a"));
    granted(await directory.claim(claim({ madeAtMs: 5_000 })));
    await store.expire(300);
    assert.deepEqual(await directory.lookup("home.example.org"), []);
    await directory.enter(node("b"));
    const { replaced } = granted(await directory.claim(claim({ group: "x", node: "b", session: "s2" })));
    assert.deepEqual(replaced, []);
  });

  test("Directory.release gives up the name only where the session still holds it", async (store) => {
    const directory = await store.open();
    await directory.enter(node("a"));
    granted(await directory.claim(claim()));
    granted(await directory.claim(claim({ group: "agent-2", madeAtMs: 2_000, session: "s2" })));
    await directory.release("home.example.org", "s1");
    assert.equal((await directory.lookup("home.example.org"))[0]?.session, "s2");
    await directory.release("home.example.org", "s2");
    assert.deepEqual(await directory.lookup("home.example.org"), []);
  });

  test("Directory.leave takes the node and its claims out", async (store) => {
    const directory = await store.open();
    await directory.enter(node("a"));
    granted(await directory.claim(claim()));
    await directory.leave("a");
    assert.deepEqual(await directory.nodes(), []);
    assert.deepEqual(await directory.lookup("home.example.org"), []);
  });

  test("Directory.watch tells of claims, releases and nodes that leave, until it is ended", async (store) => {
    const [one, other] = [await store.open(), await store.open()];
    const heard: DirectoryChange[] = [];
    const end = other.watch((change) => heard.push(change));
    await one.enter(node("a"));
    granted(await one.claim(claim()));
    // A confirmation is nobody's news.
    granted(await one.claim(claim()));
    granted(await one.claim(claim({ group: "agent-2", madeAtMs: 2_000, session: "s2" })));
    await one.release("home.example.org", "s2");
    await one.leave("a");
    await store.until(() => heard.length >= 4);
    assert.deepEqual(heard.map(({ kind }) => kind), ["claimed", "claimed", "released", "node_left"]);
    const [, second, released] = heard;
    assert.deepEqual(second?.kind === "claimed" && second.replaced.map(({ session }) => session), ["s1"]);
    assert.deepEqual(released, { kind: "released", name: "home.example.org", session: "s2" });
    end();
    await one.enter(node("a"));
    granted(await one.claim(claim()));
    assert.equal(heard.length, 4);
  });
}
