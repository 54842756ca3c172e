/**
 * What every store of the session master must do, sentence by sentence of src/master/store/store.ts.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Agent, AuditEntry, EdgeReport, LiveSession } from "../../src/master/model.ts";
import { type Store, StoreConflict } from "../../src/master/store/store.ts";
import { withOpened } from "./with_opened.ts";

/** When all of it happens. */
export const NOW_MS = 1_900_000_000_000;
/** What an agent used on a day. */
const USED = {
  agent: "agent_a",
  tenant: "default",
  day: "2026-11-27",
  bytesToAgent: 1,
  bytesToVisitor: 1,
  streams: 1,
  connectedMs: 1,
};
const DAY_MS = 24 * 3_600_000;

/** An entry of the audit log for tests. */
export function entry(action: string, subject = "agent", more: Partial<AuditEntry> = {}): AuditEntry {
  return {
    atMs: NOW_MS,
    actor: "admin",
    action,
    subject,
    tenant: "default",
    request: "request-1",
    detail: {},
    ...more,
  };
}

/** An agent for tests. */
export function someAgent(name: string, more: Partial<Agent> = {}): Agent {
  return {
    id: `agent_${name}`,
    name,
    tenant: "default",
    state: "active",
    hostnames: [`${name}.example.org`],
    publish: [],
    limits: {},
    agentNetworks: [],
    visitorNetworks: [],
    notes: "",
    generation: 1,
    revision: 1,
    createdAtMs: NOW_MS,
    updatedAtMs: NOW_MS,
    ...more,
  };
}

const add = (store: Store, agent: Agent) =>
  store.addAgent(agent, undefined, entry("agent.created", agent.id));
const conflict = (member: string, hostname?: string) => (error: unknown) =>
  error instanceof StoreConflict && error.member === member && error.hostname === hostname;

/** A session for reports. */
export function live(id: string, agent: string, more: Partial<LiveSession> = {}): Omit<LiveSession, "edge"> {
  return {
    id,
    agent,
    tenant: "default",
    hostname: `${agent}.example.org`,
    remote: "192.0.2.7",
    transport: "snitun",
    protocolVersion: 2,
    cipher: "aes-gcm",
    sinceMs: NOW_MS,
    streams: 0,
    bytesToAgent: 0,
    bytesToVisitor: 0,
    ...more,
  };
}

/** A report for tests. */
export function report(seq: number, more: Partial<EdgeReport> = {}): EdgeReport {
  return {
    edge: "edge-1",
    epoch: "e1",
    seq,
    fresh: false,
    sessions: [],
    closed: [],
    usage: [],
    watched: [],
    ...more,
  };
}

/** Registers the suite. `open` gives an empty store. */
export function storeSuite(open: () => Promise<Store>, skip: string | false = false): void {
  const test = withOpened(open, skip);

  test("keeps an agent whole, and finds it by id and by name", async (store) => {
    const agent = someAgent("a", {
      group: "pair",
      hostnames: ["z.example.org", "a.example.org", "*.a.example.org"],
      publish: ["tcp:2222"],
      limits: { streams: 5, monthly_bytes: 9e12 },
      agentNetworks: ["192.0.2.0/24"],
      visitorNetworks: ["2001:db8::/32"],
      expiresAtMs: NOW_MS + 1,
      notes: "Grüße; '\"\\",
    });
    await add(store, agent);
    assert.deepEqual(await store.agent(agent.id), agent);
    assert.deepEqual(await store.agentNamed("default", "a"), agent);
    assert.equal(await store.agentNamed("other", "a"), undefined);
    assert.equal(await store.agent("agent_b"), undefined);
  });

  test("a name is unique in its tenant", async (store) => {
    await add(store, someAgent("a"));
    await assert.rejects(
      add(store, someAgent("a", { id: "agent_2", hostnames: ["b.example.org"] })),
      conflict("name"),
    );
    await add(store, someAgent("a", { id: "agent_3", tenant: "other", hostnames: ["c.example.org"] }));
  });

  test("a hostname belongs to one agent, or to one group", async (store) => {
    const taken = "shared.example.org";
    await add(store, someAgent("a", { hostnames: [taken] }));
    await assert.rejects(
      add(store, someAgent("b", { hostnames: ["b.example.org", taken] })),
      conflict("hostnames", taken),
    );
    assert.equal(await store.agent("agent_b"), undefined, "nothing of it is left");
    assert.equal(await store.hostnameOwner("b.example.org"), undefined);
    assert.deepEqual(await store.hostnameOwner(taken), { owner: "agent:agent_a", tenant: "default" });
    await add(store, someAgent("c", { hostnames: ["group.example.org"], group: "g" }));
    await add(store, someAgent("d", { hostnames: ["group.example.org"], group: "g" }));
    await store.removeAgent("agent_c", undefined, entry("agent.removed"));
    await assert.rejects(
      add(store, someAgent("e", { hostnames: ["group.example.org"] })),
      conflict("hostnames", "group.example.org"),
    );
    await store.removeAgent("agent_d", undefined, entry("agent.removed"));
    await add(store, someAgent("f", { hostnames: ["group.example.org"] }));
  });

  test("a wildcard keeps other tenants out of what is below it, and none gets above another tenant's name", async (store) => {
    await add(store, someAgent("a", { hostnames: ["*.home.example.org", "x.y.example.net"] }));
    await add(store, someAgent("b", { hostnames: ["b.home.example.org"] }));
    const other = (name: string, hostname: string) =>
      someAgent(name, { tenant: "other", hostnames: [hostname] });
    for (const hostname of ["c.home.example.org", "*.d.home.example.org", "*.y.example.net", "*.net"]) {
      await assert.rejects(add(store, other("c", hostname)), conflict("hostnames", hostname), hostname);
    }
    await add(store, other("c", "home.example.org"));
    await add(store, other("d", "*.xhome.example.org"));
  });

  test("of many that want one hostname at once, one gets it", async (store) => {
    const wanting = Array.from(
      { length: 12 },
      (_, index) => someAgent(`n${index}`, { hostnames: ["one.example.org"] }),
    );
    const outcomes = await Promise.allSettled(wanting.map((agent) => add(store, agent)));
    assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") {
        assert.ok(conflict("hostnames", "one.example.org")(outcome.reason), String(outcome.reason));
      }
    }
  });

  test("of many that want one name at once, one gets it", async (store) => {
    const wanting = Array.from(
      { length: 12 },
      (_, index) => someAgent("one", { id: `agent_${index}`, hostnames: [`n${index}.example.org`] }),
    );
    const outcomes = await Promise.allSettled(wanting.map((agent) => add(store, agent)));
    const refused = outcomes.flatMap((outcome) => outcome.status === "rejected" ? [outcome.reason] : []);
    assert.equal(refused.length, 11);
    for (const reason of refused) assert.ok(conflict("name")(reason), String(reason));
  });

  test("an agent that enrols while it is suspended stays suspended", async (store) => {
    const detail = { atMs: NOW_MS, action: "agent.enrolled", request: "r", detail: {} };
    const agents = Array.from({ length: 30 }, (_, index) => someAgent(`n${index}`));
    for (const agent of agents) {
      await store.addAgent(agent, { digest: agent.id, expiresAtMs: NOW_MS + 10 }, entry("agent.added"));
    }
    const suspend = (agent: Agent) =>
      store.changeAgent({ ...agent, state: "suspended", revision: 2 }, undefined, entry("agent.suspended"));
    for (const agent of agents) {
      const [suspended] = await Promise.allSettled([
        suspend(agent),
        store.enrol(agent.id, "key", NOW_MS, detail),
      ]);
      const { state, publicKey } = (await store.agent(agent.id))!;
      assert.equal(state, suspended.status === "fulfilled" ? "suspended" : "active");
      assert.ok(publicKey === "key" || suspended.status === "fulfilled");
    }
  });

  test("lists agents by name, page by page, of one tenant, by state and by search", async (store) => {
    for (let index = 0; index < 25; index++) {
      const name = `n${String(index).padStart(2, "0")}`;
      await add(
        store,
        someAgent(name, { tenant: index % 2 === 0 ? "even" : "odd", notes: index === 7 ? "50% of_it" : "" }),
      );
    }
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await store.agents({ limit: 10, ...cursor === undefined ? {} : { cursor } });
      seen.push(...page.items.map(({ name }) => name));
      cursor = page.next;
    } while (cursor !== undefined);
    assert.deepEqual(seen, seen.toSorted());
    assert.equal(seen.length, 25);
    assert.equal((await store.agents({ limit: 50, tenant: "even" })).items.length, 13);
    assert.deepEqual((await store.agents({ limit: 50, search: "0% OF_" })).items.map(({ name }) => name), [
      "n07",
    ]);
    assert.deepEqual((await store.agents({ limit: 50, search: "n1%" })).items, []);
    assert.deepEqual((await store.agents({ limit: 50, search: "n12.exam" })).items.map(({ name }) => name), [
      "n12",
    ]);
    assert.equal((await store.agents({ limit: 50, state: "suspended" })).items.length, 0);
    assert.equal((await store.agents({ limit: 5, cursor: "nonsense" })).items[0]?.name, "n00");
  });

  test("a change asks for the revision before it, and moves hostnames", async (store) => {
    const agent = someAgent("a");
    await add(store, agent);
    const changed = { ...agent, revision: 2, hostnames: ["new.example.org"], notes: "x" };
    await store.changeAgent(changed, undefined, entry("agent.changed"));
    assert.deepEqual(await store.agent(agent.id), changed);
    assert.equal(await store.hostnameOwner("a.example.org"), undefined);
    await assert.rejects(store.changeAgent(changed, undefined, entry("agent.changed")), conflict("revision"));
    await add(store, someAgent("b"));
    await assert.rejects(
      store.changeAgent(
        { ...changed, revision: 3, hostnames: ["b.example.org"] },
        undefined,
        entry("agent.changed"),
      ),
      conflict("hostnames", "b.example.org"),
    );
    assert.deepEqual(await store.agent(agent.id), changed);
  });

  test("a join code is good once, and again for the same key", async (store) => {
    const detail = { atMs: NOW_MS, action: "agent.enrolled", request: "r", detail: {} };
    await store.addAgent(someAgent("a"), { digest: "d1", expiresAtMs: NOW_MS + 10 }, entry("agent.created"));
    await store.addAgent(someAgent("b"), { digest: "d2", expiresAtMs: NOW_MS + 10 }, entry("agent.created"));
    assert.deepEqual(await store.enrol("nope", "key", NOW_MS, detail), { refused: "unknown" });
    assert.deepEqual(await store.enrol("d2", "key", NOW_MS + 11, detail), { refused: "expired" });
    const enrolled = await store.enrol("d1", "key", NOW_MS, detail);
    assert.ok("agent" in enrolled && enrolled.agent.publicKey === "key");
    assert.deepEqual(await store.enrol("d1", "key", NOW_MS + 99, detail), enrolled);
    assert.deepEqual(await store.enrol("d1", "other", NOW_MS, detail), { refused: "used" });
    const { agent } = enrolled;
    // A rotation's new code takes the place of the older ones.
    await store.changeAgent({ ...agent, revision: agent.revision + 1, generation: 2 }, {
      digest: "d3",
      expiresAtMs: NOW_MS + 10,
    }, entry("agent.rotated"));
    assert.deepEqual(await store.enrol("d1", "key", NOW_MS, detail), { refused: "unknown" });
    assert.ok("agent" in await store.enrol("d3", "key-2", NOW_MS, detail));
  });

  test("of many that use one join code at once, one gets in", async (store) => {
    const detail = { atMs: NOW_MS, action: "agent.enrolled", request: "r", detail: {} };
    await store.addAgent(someAgent("a"), { digest: "d", expiresAtMs: NOW_MS + 10 }, entry("agent.created"));
    const outcomes = await Promise.all(
      Array.from({ length: 8 }, (_, index) => store.enrol("d", `key-${index}`, NOW_MS, detail)),
    );
    assert.equal(outcomes.filter((outcome) => "agent" in outcome).length, 1);
  });

  test("a number is used once", async (store) => {
    assert.equal(await store.useNonce("n", NOW_MS + 10), true);
    assert.equal(await store.useNonce("n", NOW_MS + 20), false);
    await store.sweep(NOW_MS + 11);
    assert.equal(await store.useNonce("n", NOW_MS + 30), true);
  });

  test("keeps API keys by their digest", async (store) => {
    const key = {
      id: "key_1",
      name: "billing",
      tenant: "*",
      scopes: ["read"] as const,
      hostnames: [],
      publish: [],
      createdAtMs: NOW_MS,
    };
    await store.addApiKey(key, "digest", entry("api_key.added"));
    assert.deepEqual(await store.apiKeys(), [key]);
    assert.deepEqual(await store.apiKeyByDigest("digest"), key);
    assert.equal(await store.apiKeyByDigest("other"), undefined);
    assert.equal(await store.removeApiKey("key_1", entry("api_key.removed")), true);
    assert.equal(await store.removeApiKey("key_1", entry("api_key.removed")), false);
  });

  test("keeps Fernet keys, the newest first, and forgets the text of retired ones", async (store) => {
    const key = (id: string) => ({ id, key: `secret-${id}`, state: "active" as const, createdAtMs: NOW_MS });
    await store.addFernetKey(key("one"), entry("key.added"));
    await store.addFernetKey(key("two"), entry("key.added"));
    assert.deepEqual((await store.fernetKeys()).map(({ id }) => id), ["two", "one"]);
    await store.retireFernetKey("one", entry("key.retired"));
    await store.retireFernetKey("from-a-file", entry("key.retired"));
    const retired = (await store.fernetKeys()).filter(({ state }) => state === "retired");
    assert.deepEqual(retired.map(({ id, key }) => [id, key]).toSorted(), [["from-a-file", undefined], [
      "one",
      undefined,
    ]]);
  });

  test("the audit log has every change, the newest first, and can't be rewritten", async (store) => {
    await add(store, someAgent("a"));
    await store.addFernetKey(
      { id: "k", key: "s", state: "active", createdAtMs: NOW_MS },
      entry("key.added", "k"),
    );
    await store.removeAgent(
      "agent_a",
      undefined,
      entry("agent.removed", "agent_a", { tenant: "default", detail: { why: "gone" } }),
    );
    const { items } = await store.audit({ limit: 10 });
    assert.deepEqual(items.map(({ action }) => action), ["agent.removed", "key.added", "agent.created"]);
    assert.deepEqual(items[0]?.detail, { why: "gone" });
    const first = await store.audit({ limit: 1 });
    assert.equal((await store.audit({ limit: 5, cursor: first.next! })).items[0]?.action, "key.added");
    assert.deepEqual((await store.audit({ limit: 10, subject: "k" })).items.map(({ action }) => action), [
      "key.added",
    ]);
  });

  test("edges hear of what was decided, in order, or of everything that holds", async (store) => {
    assert.equal(await store.lastChange(), 0);
    assert.deepEqual(await store.changesSince(0), []);
    const agent = someAgent("a");
    await add(store, agent);
    await store.changeAgent(
      { ...agent, revision: 2, state: "suspended" },
      undefined,
      entry("agent.suspended"),
    );
    await store.addChange({ kind: "close_session", session: "s1" }, entry("session.closed"));
    const changes = await store.changesSince(0);
    assert.deepEqual(changes?.map(({ body }) => body), [
      { kind: "agent", ruling: { agent: agent.id, blocked: true, generation: 1 } },
      { kind: "close_session", session: "s1" },
    ]);
    const last = await store.lastChange();
    assert.deepEqual(await store.changesSince(last), []);
    assert.deepEqual(await store.rulings(), [{ agent: agent.id, blocked: true, generation: 1 }]);
    await store.removeAgent(agent.id, undefined, entry("agent.removed"));
    assert.deepEqual(await store.rulings(), [{ agent: agent.id, blocked: true, generation: 0 }]);
    // Who was away for long gets everything afresh.
    await store.sweep(NOW_MS + 2 * DAY_MS);
    assert.equal(await store.changesSince(last), undefined);
    assert.deepEqual(await store.changesSince(await store.lastChange()), []);
  });

  test("applies each report once, and adds up usage by agent and day", async (store) => {
    await add(store, someAgent("a"));
    const usage = (day: string, bytes: number) => ({
      agent: "agent_a",
      tenant: "default",
      day,
      bytesToAgent: bytes,
      bytesToVisitor: 2 * bytes,
      streams: 1,
      connectedMs: 500,
    });
    const first = report(1, {
      fresh: true,
      sessions: [live("s1", "agent_a")],
      usage: [usage("2026-11-27", 10)],
    });
    assert.equal(await store.applyReport(first, NOW_MS), true);
    assert.equal(await store.applyReport(first, NOW_MS), false);
    const second = report(2, {
      sessions: [live("s1", "agent_a", { streams: 3, bytesToAgent: 20 }), live("s2", "agent_a")],
      usage: [usage("2026-11-27", 5), usage("2026-11-28", 7), usage("2026-12-01", 1)],
    });
    assert.equal(await store.applyReport(second, NOW_MS), true);
    assert.equal(await store.applyReport(second, NOW_MS), false);
    assert.equal((await store.session("s1"))?.streams, 3);
    const page = await store.sessions({ limit: 1, agent: "agent_a" });
    assert.equal(page.items.length, 1);
    assert.equal((await store.sessions({ limit: 5, cursor: page.next! })).items.length, 1);
    await store.applyReport(report(3, { closed: ["s1"] }), NOW_MS);
    assert.equal(await store.session("s1"), undefined);
    // A new journal of the same edge: what it doesn't name is gone.
    assert.equal(await store.applyReport(report(1, { epoch: "e2", fresh: true }), NOW_MS), true);
    assert.equal((await store.sessions({ limit: 5 })).items.length, 0);
    const rows = await store.usage({ from: "2026-11-01", to: "2026-11-30" });
    assert.deepEqual(rows.map(({ day, name, bytesToAgent, streams }) => [day, name, bytesToAgent, streams]), [
      ["2026-11-27", "a", 15, 2],
      ["2026-11-28", "a", 7, 1],
    ]);
    assert.equal((await store.monthUsed(["agent_a", "agent_b"], "2026-11")).get("agent_a"), 3 * 22);
    await store.removeAgent("agent_a", undefined, entry("agent.removed"));
    assert.equal((await store.usage({ from: "2026-11-01", to: "2026-11-30" }))[0]?.name, "a");
  });

  test("applies a report once that arrives several times at once", async (store) => {
    const first = report(1, { fresh: true, usage: [USED] });
    const outcomes = await Promise.all(Array.from({ length: 6 }, () => store.applyReport(first, NOW_MS)));
    assert.equal(outcomes.filter((applied) => applied).length, 1);
    assert.equal((await store.monthUsed(["agent_a"], "2026-11")).get("agent_a"), 2);
  });

  test("a fresh report in parts ends only the sessions that no part lists", async (store) => {
    const sessions = ["s1", "s2", "s3"].map((id, i) => live(id, `agent_${i}`));
    await store.applyReport(report(1, { fresh: true, sessions }), NOW_MS);
    await store.applyReport(report(1, { edge: "edge-2", sessions: [live("other", "agent_9")] }), NOW_MS);
    const first = report(2, { fresh: true, sessions: [live("s4", "agent_4")], following: ["s2", "s5"] });
    assert.equal(await store.applyReport(first, NOW_MS), true);
    const ids = async () => (await store.sessions({ limit: 9 })).items.map(({ id }) => id).sort();
    assert.deepEqual(await ids(), ["other", "s2", "s4"]);
    const second = report(3, { sessions: [live("s2", "agent_1"), live("s5", "agent_5")] });
    assert.equal(await store.applyReport(second, NOW_MS), true);
    assert.equal(await store.applyReport(first, NOW_MS), false);
    assert.deepEqual(await ids(), ["other", "s2", "s4", "s5"]);
    assert.equal((await store.contact("agent_1"))?.seenAtMs, undefined, "it was never gone");
    assert.equal((await store.contact("agent_0"))?.seenAtMs, NOW_MS);
  });

  test("ends the sessions of an edge that is silent at two looks", async (store) => {
    await store.applyReport(report(1, { sessions: [live("s1", "agent_a")] }), NOW_MS);
    await store.applyReport(report(1, { edge: "edge-2", sessions: [live("s2", "agent_b")] }), NOW_MS);
    await store.applyReport(report(1, { edge: "edge-3" }), NOW_MS);
    const none = await store.endSilent(new Map(), NOW_MS, NOW_MS);
    assert.deepEqual([...none], []);
    const first = await store.endSilent(none, NOW_MS + 10, NOW_MS + 20);
    assert.deepEqual([...first].sort(), [["edge-1", NOW_MS], ["edge-2", NOW_MS]]);
    assert.ok(await store.session("s1"));
    await store.applyReport(report(2, { edge: "edge-2" }), NOW_MS + 5);
    const second = await store.endSilent(first, NOW_MS + 30, NOW_MS + 40);
    assert.deepEqual([...second], [["edge-2", NOW_MS + 5]]);
    assert.equal(await store.session("s1"), undefined);
    assert.ok(await store.session("s2"));
  });

  test("forgets an edge's count when nothing was heard of it for two months", async (store) => {
    await store.applyReport(report(1), NOW_MS);
    await store.sweep(NOW_MS + 30 * DAY_MS);
    assert.equal(await store.applyReport(report(1), NOW_MS), false);
    await store.sweep(NOW_MS + 63 * DAY_MS);
    assert.equal(await store.applyReport(report(1), NOW_MS), true);
  });

  test("a report may name a session, and an agent's day, twice", async (store) => {
    const usage = Array.from({ length: 120 }, () => ({ ...USED, bytesToVisitor: 0 }));
    const sessions = Array.from({ length: 120 }, (_, streams) => live("s1", "agent_a", { streams }));
    await store.applyReport(report(1, { sessions, usage }), NOW_MS);
    assert.equal((await store.session("s1"))?.streams, 119);
    assert.equal((await store.monthUsed(["agent_a"], "2026-11")).get("agent_a"), 120);
  });

  test("forgets the oldest of its logs, a bounded number at a time, and nothing younger", async (store) => {
    for (let i = 0; i < 5; i++) {
      await store.addChange({ kind: "keys" }, entry("key.added", `k${i}`, { atMs: NOW_MS + i }));
    }
    const usage = ["2026-11-26", "2026-11-27", "2026-11-28"].flatMap((day) =>
      ["a", "b"].map((agent) => ({
        ...{ agent, day, tenant: "default", bytesToAgent: 1, bytesToVisitor: 1, streams: 1, connectedMs: 1 },
      }))
    );
    await store.applyReport(report(1, { usage }), NOW_MS);
    const left = async () => ({
      audit: (await store.audit({ limit: 9 })).items.map(({ subject }) => subject),
      usage: (await store.usage({ from: "2026-01-01", to: "2026-12-31" })).map(({ agent, day }) =>
        agent + day.slice(8)
      ),
    });
    const all = await left();
    assert.equal(await store.forget({}, 2), false);
    assert.deepEqual(await left(), all);
    const before = { auditMs: NOW_MS + 3, usageDay: "2026-11-28" };
    assert.equal(await store.forget(before, 2), true);
    assert.deepEqual((await left()).audit, ["k4", "k3", "k2"]);
    assert.equal((await left()).usage.length, 4);
    while (await store.forget(before, 2)) { /* there is more */ }
    assert.deepEqual(await left(), { audit: ["k4", "k3"], usage: ["a28", "b28"] });
    assert.equal(await store.forget(before, 2), false);
  });

  test("removes an agent of one revision only where it has that one", async (store) => {
    const agent = someAgent("a");
    await add(store, agent);
    const changed = { ...agent, revision: 2, notes: "2" };
    const outcomes = await Promise.allSettled([
      store.changeAgent(changed, undefined, entry("agent.changed")),
      store.removeAgent(agent.id, 1, entry("agent.removed")),
    ]);
    assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1, "one of the two");
    const left = await store.agent(agent.id);
    if (left !== undefined) {
      await assert.rejects(store.removeAgent(agent.id, 1, entry("agent.removed")), conflict("revision"));
      assert.deepEqual(await store.agent(agent.id), changed, "nothing of it is removed");
      assert.ok(await store.removeAgent(agent.id, 2, entry("agent.removed")));
    }
    assert.equal(await store.agent(agent.id), undefined);
    assert.equal(await store.removeAgent(agent.id, 2, entry("agent.removed")), false);
  });

  test("adds up usage by day and by agent, those with the most first", async (store) => {
    await add(store, someAgent("a"));
    const used = (agent: string, day: string, bytes: number, tenant = "default") => ({
      ...{ agent, day, tenant, streams: 1, connectedMs: 5, bytesToAgent: bytes, bytesToVisitor: 2 * bytes },
    });
    const usage = [
      used("agent_a", "2026-11-26", 1),
      used("agent_a", "2026-11-27", 10),
      used("agent_a", "2026-11-28", 1),
      used("hostname:b.example.org", "2026-11-27", 100),
      used("agent_c", "2026-11-28", 2 ** 50, "other"),
    ];
    await store.applyReport(report(1, { usage }), NOW_MS);
    const query = { from: "2026-11-27", to: "2026-11-28" };
    const sum = (bytes: number, count: number) => ({
      ...{ bytesToAgent: bytes, bytesToVisitor: 2 * bytes, streams: count, connectedMs: 5 * count },
    });
    const tenant = "default";
    assert.deepEqual(await store.usageByDay({ ...query, tenant }), [
      { day: "2026-11-27", ...sum(110, 2) },
      { day: "2026-11-28", ...sum(1, 1) },
    ]);
    assert.deepEqual(await store.usageByDay({ ...query, agent: "agent_c" }), [
      { day: "2026-11-28", ...sum(2 ** 50, 1) },
    ]);
    assert.deepEqual(await store.usageByAgent({ ...query, tenant }, 9), {
      items: [
        { agent: "hostname:b.example.org", name: "b.example.org", ...sum(100, 1) },
        { agent: "agent_a", name: "a", ...sum(11, 2) },
      ],
      count: 2,
    });
    const most = await store.usageByAgent(query, 1);
    assert.deepEqual([most.items.map(({ agent }) => agent), most.count], [["agent_c"], 3]);
    assert.deepEqual(await store.usageByAgent({ from: "2026-01-01", to: "2026-01-31" }, 9), {
      items: [],
      count: 0,
    });
    assert.deepEqual(await store.usageByDay({ from: "2026-01-01", to: "2026-01-31" }), []);
  });

  test("adds up what there is now, and what was moved since a day", async (store) => {
    const nothing = { agents: 0, online: 0, sessions: 0, streams: 0, bytesToAgent: 0, bytesToVisitor: 0 };
    assert.deepEqual(await store.totals({ from: "2026-11-27" }), nothing);
    assert.equal((await store.sessionCounts([])).size, 0);
    await add(store, someAgent("a"));
    await add(store, someAgent("b", { tenant: "other" }));
    const usage = (tenant: string, day: string, bytes: number) => ({
      ...{ agent: `agent_${tenant}`, tenant, day, streams: 1, connectedMs: 0 },
      bytesToAgent: bytes,
      bytesToVisitor: 2 * bytes,
    });
    const sessions = [
      live("s1", "agent_a", { streams: 2 }),
      live("s2", "agent_a", { streams: 3 }),
      live("s3", "hostname:c.example.org"),
      live("s4", "agent_b", { tenant: "other", streams: 4 }),
    ];
    const used = [
      usage("default", "2026-11-26", 1),
      usage("default", "2026-11-27", 10),
      usage("other", "2026-11-27", 100),
    ];
    await store.applyReport(report(1, { fresh: true, sessions, usage: used }), NOW_MS);
    assert.deepEqual(await store.totals({ from: "2026-11-27" }), {
      ...{ agents: 2, online: 2, sessions: 4, streams: 9 },
      ...{ bytesToAgent: 110, bytesToVisitor: 220 },
    });
    assert.deepEqual(await store.totals({ from: "2026-11-26", tenant: "default" }), {
      ...{ agents: 1, online: 1, sessions: 3, streams: 5 },
      ...{ bytesToAgent: 11, bytesToVisitor: 22 },
    });
    assert.deepEqual([...await store.sessionCounts(["agent_a", "agent_c"])], [["agent_a", 2]]);
  });

  test("keeps the answer to a request for its repetition", async (store) => {
    assert.equal(await store.reserveAnswer("k", "digest", NOW_MS, NOW_MS + 10), undefined);
    assert.deepEqual(await store.reserveAnswer("k", "digest", NOW_MS, NOW_MS + 10), {
      request: "digest",
      headers: {},
      body: "",
    });
    const kept = { request: "digest", status: 201, headers: { etag: '"1"' }, body: "{}" };
    await store.keepAnswer("k", kept, NOW_MS + 30);
    assert.equal((await store.reserveAnswer("k", "other", NOW_MS + 20, NOW_MS + 40))?.status, 201);
    assert.equal(await store.reserveAnswer("k", "digest", NOW_MS + 31, NOW_MS + 40), undefined);
    await store.dropAnswer("k");
    assert.equal(await store.reserveAnswer("k", "digest", NOW_MS + 31, NOW_MS + 40), undefined);
  });
}
