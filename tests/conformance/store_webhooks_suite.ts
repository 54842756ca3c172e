/**
 * What every store of the session master must do with webhooks: events in the transaction of what caused them, and messages
 * that one master at a time takes for sending.
 *
 * @module
 */
import assert from "node:assert/strict";
import { ALL_TENANTS, EVENT_TYPES, type EventType, type Webhook } from "../../src/master/model.ts";
import type { Store } from "../../src/master/store/store.ts";
import { AGENT_OFFLINE_AFTER_MS, CERTIFICATE_WARNING_MS } from "../../src/master/store/webhook_store.ts";
import { entry, live, NOW_MS, report, someAgent } from "./store_suite.ts";
import { withOpened } from "./with_opened.ts";

const DAY_MS = 24 * 3_600_000;

function hook(id: string, more: Partial<Webhook> = {}): Webhook {
  return {
    id,
    tenant: ALL_TENANTS,
    url: `https://hooks.example.org/${id}`,
    events: EVENT_TYPES,
    secret: "whsec_AAAA",
    createdAtMs: NOW_MS,
    dropped: 0,
    ...more,
  };
}

/** Registers the suite. `open` gives an empty store. */
export function storeWebhooksSuite(open: () => Promise<Store>, skip: string | false = false): void {
  const test = withOpened(open, skip);
  const add = (store: Store, webhook: Webhook) =>
    store.addWebhook(webhook, 2, entry("webhook.added", webhook.id));
  /** The events that were written, the oldest first, with a member of each. */
  const events = async (store: Store) =>
    (await store.deliveries({ limit: 500 })).items.toReversed().map(({ event, body, webhook }) => ({
      event,
      webhook,
      ...JSON.parse(body) as { readonly tenant: string; readonly data: Record<string, unknown> },
    }));

  test("keeps webhooks whole, a bounded number for each tenant, and notes who added them", async (store) => {
    const one = hook("a", { tenant: "t", events: ["agent.online"], dropped: 3 });
    assert.equal(await add(store, one), true);
    assert.equal(await add(store, hook("b", { tenant: "t" })), true);
    assert.equal(await add(store, hook("c", { tenant: "t" })), false);
    assert.equal(await add(store, hook("d", { tenant: "other", createdAtMs: NOW_MS + 1 })), true);
    assert.deepEqual((await store.webhooks())[0], one);
    assert.deepEqual((await store.webhooks()).map(({ id }) => id), ["a", "b", "d"]);
    await store.addDelivery("a", { type: "webhook.test", tenant: "t", atMs: NOW_MS, data: {} });
    assert.equal(await store.removeWebhook("a", entry("webhook.removed", "a")), true);
    assert.equal(await store.removeWebhook("a", entry("webhook.removed", "a")), false);
    assert.equal((await store.deliveries({ limit: 5 })).items.length, 0);
    const actions = (await store.audit({ limit: 9 })).items.map(({ action, subject }) =>
      `${action} ${subject}`
    );
    assert.deepEqual(actions, ["webhook.removed a", "webhook.added d", "webhook.added b", "webhook.added a"]);
  });

  test("an agent is online with its first session, and offline a while after its last one", async (store) => {
    await store.addAgent(someAgent("a"), undefined, entry("agent.added"));
    await add(store, hook("h"));
    await store.applyReport(report(1, { sessions: [live("s1", "agent_a"), live("s2", "agent_a")] }), NOW_MS);
    // Elsewhere too, and again: it is online already.
    await store.applyReport({ ...report(1, { sessions: [live("s3", "agent_a")] }), edge: "edge-2" }, NOW_MS);
    await store.applyReport(report(2, { sessions: [live("s1", "agent_a")], closed: ["s2"] }), NOW_MS);
    const [online, ...more] = await events(store);
    assert.deepEqual(more, []);
    assert.equal(online?.event, "agent.online");
    assert.equal(online?.tenant, "default");
    assert.deepEqual(online?.data, {
      agent: "agent_a",
      name: "a",
      hostname: "agent_a.example.org",
      edge: "edge-1",
      remote_address: "192.0.2.7",
      transport: "snitun",
      since: new Date(NOW_MS).toISOString(),
    });
    // One edge has lost it, the other not.
    await store.applyReport(report(3, { closed: ["s1"] }), NOW_MS);
    await store.noteTime(NOW_MS + AGENT_OFFLINE_AFTER_MS);
    assert.equal((await events(store)).length, 1);
    // It comes back in time.
    await store.applyReport({ ...report(2, { closed: ["s3"] }), edge: "edge-2" }, NOW_MS + 1_000);
    await store.applyReport(report(4, { sessions: [live("s4", "agent_a")] }), NOW_MS + 2_000);
    await store.noteTime(NOW_MS + 2_000 + AGENT_OFFLINE_AFTER_MS);
    assert.equal((await events(store)).length, 1);
    // And then it doesn't: a new start of its edge names it no more.
    await store.applyReport(report(1, { epoch: "e2", fresh: true }), NOW_MS + 3_000);
    await store.noteTime(NOW_MS + 2_999 + AGENT_OFFLINE_AFTER_MS);
    assert.equal((await events(store)).length, 1);
    await store.noteTime(NOW_MS + 3_000 + AGENT_OFFLINE_AFTER_MS);
    await store.noteTime(NOW_MS + DAY_MS);
    const told = await events(store);
    assert.deepEqual(told.map(({ event }) => event), ["agent.online", "agent.offline"]);
    assert.equal(told[1]?.data.since, new Date(NOW_MS + 3_000).toISOString());
    await store.applyReport(report(2, { epoch: "e2", sessions: [live("s5", "agent_a")] }), NOW_MS + DAY_MS);
    assert.equal((await events(store)).at(-1)?.event, "agent.online");
  });

  test("the sessions of an edge that is silent end too", async (store) => {
    await add(store, hook("h", { events: ["agent.offline"] }));
    await store.applyReport(report(1, { sessions: [live("s1", "hostname:x.example.org")] }), NOW_MS);
    const silent = await store.endSilent(new Map(), NOW_MS + 10, NOW_MS + 20);
    await store.endSilent(silent, NOW_MS + 30, NOW_MS + 40);
    await store.noteTime(NOW_MS + DAY_MS);
    const [told] = await events(store);
    // It has no entry among the agents.
    assert.deepEqual([told?.event, told?.data.agent, told?.data.name], ["agent.offline", null, null]);
    assert.equal(told?.data.hostname, "hostname:x.example.org.example.org");
  });

  test("a used up month is told of once, and again for another limit", async (store) => {
    const agent = someAgent("a", { tenant: "t", limits: { monthly_bytes: 100 } });
    await store.addAgent(agent, undefined, entry("agent.added"));
    await store.addAgent(someAgent("b"), undefined, entry("agent.added"));
    await add(store, hook("h", { tenant: "t" }));
    await add(store, hook("other", { tenant: "other" }));
    const day = new Date(NOW_MS).toISOString().slice(0, 10);
    const usage = (name: string, bytes: number) => ({
      agent: `agent_${name}`,
      tenant: "t",
      day,
      bytesToAgent: bytes,
      bytesToVisitor: bytes,
      streams: 0,
      connectedMs: 0,
    });
    await store.applyReport(report(1, { usage: [usage("a", 49), usage("b", 5_000)] }), NOW_MS);
    assert.equal((await events(store)).length, 0);
    await store.applyReport(report(2, { usage: [usage("b", 1), usage("a", 1)] }), NOW_MS);
    await store.applyReport(report(3, { usage: [usage("a", 7)] }), NOW_MS);
    const [told, ...more] = await events(store);
    assert.deepEqual(more, []);
    const month = day.slice(0, 7);
    assert.deepEqual(told?.data, { agent: "agent_a", name: "a", month, limit_bytes: 100, used_bytes: 100 });
    const raised = { ...agent, limits: { monthly_bytes: 110 }, revision: 2 };
    await store.changeAgent(raised, undefined, entry("agent.changed"));
    await store.applyReport(report(4, { usage: [usage("a", 1)] }), NOW_MS);
    assert.equal((await events(store)).length, 2);
  });

  test("a certificate is told of once, in time for its life", async (store) => {
    await store.addAgent(someAgent("a", { tenant: "t" }), undefined, entry("agent.added"));
    await add(store, hook("h", { tenant: "t", events: ["certificate.expiring"] }));
    const long = {
      names: ["a.example.org", "b.example.org"],
      notBeforeMs: NOW_MS,
      notAfterMs: NOW_MS + 90 * DAY_MS,
    };
    const short = { names: ["c.example.org"], notBeforeMs: NOW_MS, notAfterMs: NOW_MS + 5 * DAY_MS };
    await store.reportCertificates("agent_a", [long, short]);
    await store.noteTime(NOW_MS + 4 * DAY_MS - 1);
    assert.equal((await events(store)).length, 0);
    await store.noteTime(NOW_MS + 4 * DAY_MS);
    await store.reportCertificates("agent_a", [long, short]);
    await store.noteTime(NOW_MS + 4 * DAY_MS);
    assert.deepEqual((await events(store)).map(({ data }) => data), [{
      agent: "agent_a",
      name: "a",
      names: ["c.example.org"],
      expires_at: new Date(short.notAfterMs).toISOString(),
    }]);
    // Renewed, it has time again; what the agent doesn't name any more is forgotten.
    const renewed = { ...short, notBeforeMs: NOW_MS + 4 * DAY_MS, notAfterMs: NOW_MS + 9 * DAY_MS };
    await store.reportCertificates("agent_a", [renewed]);
    await store.noteTime(long.notAfterMs - CERTIFICATE_WARNING_MS);
    assert.equal((await events(store)).length, 2);
    await store.removeAgent("agent_a", undefined, entry("agent.removed"));
    await store.noteTime(NOW_MS + 900 * DAY_MS);
    assert.equal((await events(store)).length, 2);
  });

  test("a message is taken by one, in the order of its time, until it is settled or left", async (store) => {
    await add(store, hook("a"));
    await add(store, hook("b"));
    const tell = (webhook: string, atMs: number) =>
      store.addDelivery(webhook, { type: "webhook.test" as EventType, tenant: "t", atMs, data: { atMs } });
    const first = await tell("a", NOW_MS);
    const second = await tell("b", NOW_MS + 1);
    const take = (nowMs: number, without: string[] = []) =>
      store.takeDelivery({ nowMs, leaseMs: 60_000, without });
    assert.equal(await take(NOW_MS - 1), undefined);
    // Two at once don't get the same one.
    const both = await Promise.all([take(NOW_MS + 5), take(NOW_MS + 5)]);
    assert.deepEqual(both.map((taken) => taken?.delivery.id).sort(), [first, second].sort());
    assert.equal(await take(NOW_MS + 6), undefined);
    const [{ webhook, delivery }] = both.map((taken) => taken!).filter((taken) =>
      taken.delivery.id === first
    ) as [
      NonNullable<typeof both[0]>,
    ];
    assert.deepEqual(webhook, hook("a"));
    assert.equal(delivery.attempts, 1);
    assert.equal(delivery.sentAtMs, NOW_MS + 5);
    assert.match(delivery.body, /"type":"webhook.test","timestamp":"2030-/);
    await store.settleDelivery(first, { state: "delivered", status: 204 });
    // Whoever took the other one has ended.
    assert.equal(await take(NOW_MS + 60_005, ["b"]), undefined);
    const again = await take(NOW_MS + 60_005);
    assert.deepEqual([again?.delivery.id, again?.delivery.attempts], [second, 2]);
    await store.settleDelivery(second, { state: "waiting", nextAtMs: NOW_MS + 90_000, error: "no answer" });
    assert.equal(await store.takeDelivery({ nowMs: 0, leaseMs: 1, without: [], id: first }), undefined);
    const page = await store.deliveries({ limit: 1 });
    assert.deepEqual([page.items[0]?.state, page.items[0]?.error, page.items[0]?.nextAtMs], [
      "waiting",
      "no answer",
      NOW_MS + 90_000,
    ]);
    const rest = await store.deliveries({ limit: 5, cursor: page.next! });
    assert.deepEqual(rest.items.map(({ id, status }) => [id, status]), [[first, 204]]);
    assert.equal((await store.deliveries({ limit: 5, webhooks: [] })).items.length, 0);
    assert.deepEqual(
      (await store.deliveries({ limit: 5, webhooks: ["b"], state: "waiting" })).items.length,
      1,
    );
    // The log is kept for a while; what waits stays.
    assert.equal(await store.forget({ deliveriesMs: NOW_MS + 8 * DAY_MS }, 10), false);
    assert.deepEqual((await store.deliveries({ limit: 5 })).items.map(({ id }) => id), [second]);
  });
}
