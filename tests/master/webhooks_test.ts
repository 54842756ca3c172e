/** Webhooks of the session master: the API, where they may go, signatures, and attempts over restarts. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHmac } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, it } from "node:test";
import { EVENT_TYPES, type MasterEvent, type WebhookDelivery } from "../../src/master/model.ts";
import { openStore } from "../../src/master/store/sql_store.ts";
import { WEBHOOK_WAITING_MAX } from "../../src/master/store/webhook_store.ts";
import { webhookFetch, webhookUrlFault } from "../../src/master/webhooks/destination.ts";
import { WEBHOOK_LEASE_MS, WEBHOOK_TIMEOUT_MS, WebhookSender } from "../../src/master/webhooks/sender.ts";
import { webhookSecretFault } from "../../src/master/webhooks/signature.ts";
import { WEBHOOKS_MAX } from "../../src/master/webhooks/webhooks.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Conn } from "../../src/runtime/port.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import { NetworkSet } from "../../src/wire/ip/networks.ts";
import { isPublicAddress } from "../../src/wire/ip/public_networks.ts";
import { live, report } from "../conformance/store_suite.ts";
import { VirtualClock } from "../support/virtual_clock.ts";
import { handClock, WALL_MS } from "./helpers.ts";
import { enrolledAgent, managedMaster } from "./managed.ts";

const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const URL_TEXT = "https://hooks.example.org/x?token=1";

/** A sender whose messages go to `answer`, with a clock that a test moves. */
function testSender(
  store: Awaited<ReturnType<typeof openStore>>,
  answer: (request: Request) => Promise<Response>,
) {
  const time = { ms: WALL_MS };
  const clock = { ...handClock().clock, wallMs: () => time.ms };
  const metrics = new Metrics();
  const sender = new WebhookSender({
    ...{ store, clock, metrics, log: silentLogger, fetch: answer },
    random: () => 0.5,
  });
  return { sender, time, metrics };
}

const tell = (data: Record<string, unknown> = {}): MasterEvent => ({
  type: "agent.online",
  tenant: "default",
  atMs: WALL_MS,
  data,
});

async function withHook(store: Awaited<ReturnType<typeof openStore>>, id = "hook_1") {
  await store.addWebhook(
    {
      ...{ id, tenant: "*", url: URL_TEXT, events: EVENT_TYPES, secret: SECRET, createdAtMs: 0, dropped: 0 },
    },
    64,
    {
      ...{
        atMs: 0,
        actor: "admin",
        action: "webhook.added",
        subject: id,
        tenant: "*",
        request: "r",
        detail: {},
      },
    },
  );
}

describe("/v1/webhooks", () => {
  it("adds one with its secret, lists and shows them without, and removes them, each in the audit log", async () => {
    const master = await managedMaster();
    try {
      const { body: added } = await master.must(201, "POST", "/v1/webhooks", { url: URL_TEXT });
      assert.match(added.secret, /^whsec_[A-Za-z0-9+/]{43}=$/);
      assert.deepEqual(added.events, EVENT_TYPES);
      assert.equal(added.tenant, "*");
      const own = { url: URL_TEXT, secret: SECRET, events: ["agent.offline", "agent.offline"], tenant: "t" };
      const { body: second } = await master.must(201, "POST", "/v1/webhooks", own);
      assert.equal(second.secret, SECRET);
      assert.deepEqual(second.events, ["agent.offline"]);
      const { body: { items } } = await master.must(200, "GET", "/v1/webhooks");
      assert.deepEqual(items.map(({ id }: { id: string }) => id).sort(), [added.id, second.id].sort());
      assert.ok(!JSON.stringify(items).includes("whsec_"));
      assert.equal((await master.must(200, "GET", `/v1/webhooks/${added.id}`)).body.url, URL_TEXT);
      await master.must(204, "DELETE", `/v1/webhooks/${added.id}`);
      await master.must(404, "DELETE", `/v1/webhooks/${added.id}`);
      const { body: audit } = await master.must(200, "GET", "/v1/audit");
      assert.deepEqual(audit.items.map(({ action }: { action: string }) => action), [
        ...["webhook.removed", "webhook.added", "webhook.added"],
      ]);
      // The path of an address may be a secret of its receiver's.
      assert.ok(!JSON.stringify(audit).includes("token=1"));
    } finally {
      await master.close();
    }
  });

  it("names the member that is wrong, and takes a bounded number", async () => {
    const master = await managedMaster();
    try {
      const wrong: [unknown, string][] = [
        [{}, "url"],
        [{ url: "ftp://example.org" }, "url"],
        [{ url: "https://user:pass@example.org" }, "url"],
        [{ url: "https://127.0.0.1/" }, "url"],
        [{ url: "https://[::ffff:10.0.0.1]/" }, "url"],
        [{ url: "http://example.org/" }, "url"],
        [{ url: "https://ümlaut.example.org/" }, "url"],
        [{ url: "https://example.org/a b" }, "url"],
        [{ url: "https://example.org/%zz" }, "url"],
        [{ url: `https://example.org/${"x".repeat(2_000)}` }, "url"],
        [{ url: URL_TEXT, events: [] }, "events"],
        [{ url: URL_TEXT, events: ["agent.born"] }, "events"],
        [{ url: URL_TEXT, secret: "whsec_AAAA" }, "secret"],
        [{ url: URL_TEXT, secret: "hunter2" }, "secret"],
        [{ url: URL_TEXT, colour: 1 }, "colour"],
      ];
      for (const [body, member] of wrong) {
        const { body: problem } = await master.must(422, "POST", "/v1/webhooks", body);
        assert.equal(problem.errors[0].member, member, JSON.stringify(body));
      }
      for (let i = 0; i < WEBHOOKS_MAX; i++) {
        await master.must(201, "POST", "/v1/webhooks", { url: URL_TEXT });
      }
      await master.must(409, "POST", "/v1/webhooks", { url: URL_TEXT });
    } finally {
      await master.close();
    }
  });

  it("a test says so where the session master sends nothing", async () => {
    const master = await managedMaster();
    try {
      const { body: hook } = await master.must(201, "POST", "/v1/webhooks", { url: URL_TEXT });
      const { body: problem } = await master.must(503, "POST", `/v1/webhooks/${hook.id}/test`);
      assert.match(problem.detail, /sends no messages/);
      await master.must(404, "POST", "/v1/webhooks/hook_0/test");
    } finally {
      await master.close();
    }
  });

  it("a tenant sees its own webhooks and messages alone", async () => {
    const master = await managedMaster();
    try {
      const key = async (tenant: string) => {
        const wanted = { name: tenant, scopes: ["admin"], tenant };
        const { body } = await master.must(201, "POST", "/v1/api-keys", wanted);
        return { Authorization: `Bearer ${body.key}` };
      };
      const [mine, yours] = [await key("mine"), await key("yours")];
      const { body: hook } = await master.must(201, "POST", "/v1/webhooks", { url: URL_TEXT }, mine);
      assert.equal(hook.tenant, "mine");
      await master.must(403, "POST", "/v1/webhooks", { url: URL_TEXT, tenant: "*" }, mine);
      await master.store.addDelivery(hook.id, tell());
      assert.equal((await master.must(200, "GET", "/v1/webhooks", undefined, yours)).body.items.length, 0);
      for (const [method, path] of [["GET", ""], ["DELETE", ""], ["POST", "/test"]] as const) {
        await master.must(404, method, `/v1/webhooks/${hook.id}${path}`, undefined, yours);
      }
      const deliveries = async (headers: Record<string, string>, query = "") =>
        (await master.must(200, "GET", `/v1/webhook-deliveries${query}`, undefined, headers)).body.items
          .length;
      assert.equal(await deliveries(yours), 0);
      assert.equal(await deliveries(mine), 1);
      assert.equal(await deliveries(mine, `?webhook=${hook.id}&state=failed`), 0);
      await master.must(404, "GET", `/v1/webhook-deliveries?webhook=${hook.id}`, undefined, yours);
      // An event of the other tenant makes no message for it.
      await master.hub.report(report(1, { sessions: [live("s", "agent_x", { tenant: "yours" })] }));
      assert.equal(await deliveries(mine), 1);
      await master.hub.report(report(2, { sessions: [live("t", "agent_y", { tenant: "mine" })] }));
      assert.equal(await deliveries(mine), 2);
    } finally {
      await master.close();
    }
  });

  it("an agent tells of its certificates; nobody else does", async () => {
    const master = await managedMaster();
    try {
      await master.must(201, "POST", "/v1/webhooks", { url: URL_TEXT });
      const agent = await enrolledAgent(master, "a");
      const body = (names: string[], leftMs: number) => ({
        certificates: [{
          names,
          not_before: new Date(WALL_MS - 80 * 86_400_000).toISOString(),
          not_after: new Date(WALL_MS + leftMs).toISOString(),
        }],
      });
      const put = (given: unknown) =>
        master.call("PUT", "/v1/agent-certificates", given, {
          Authorization: `Bearer ${agent.proof("/v1/agent-certificates", "PUT")}`,
        });
      await master.must(403, "PUT", "/v1/agent-certificates", body(["a"], 1));
      assert.equal((await put({ certificates: [{ names: [] }] })).status, 422);
      assert.equal((await put(body(["a.example.org"], 1000))).status, 204);
      await master.store.noteTime(WALL_MS);
      const { body: { items } } = await master.must(200, "GET", "/v1/webhook-deliveries");
      assert.equal(items[0].event, "certificate.expiring");
      assert.deepEqual(JSON.parse(items[0].body).data.names, ["a.example.org"]);
    } finally {
      await master.close();
    }
  });
});

describe("webhookUrlFault and webhookFetch", () => {
  it("public addresses are those of the internet, in every notation", () => {
    const inside = [
      ...[
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.31.0.1",
        "192.168.1.1",
        "192.0.0.9",
      ],
      ...[
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "fe80::1",
      ],
      ...[
        "fd00::1",
        "ff02::1",
        "64:ff9b::7f00:1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2001::1",
        "fec0::1",
        "localhost",
        "",
      ],
    ];
    assert.deepEqual(inside.filter(isPublicAddress), []);
    const outside = ["1.1.1.1", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"];
    assert.deepEqual(outside.filter(isPublicAddress), outside);
  });

  it("networks of the operator's own are allowed where they are set, without TLS too", () => {
    const own = new NetworkSet(["10.0.0.0/8"]);
    assert.equal(webhookUrlFault("http://10.0.0.7:8080/hook", own), undefined);
    assert.match(webhookUrlFault("http://192.168.0.7/hook", own) ?? "", /--webhook-networks/);
    assert.match(webhookUrlFault("http://8.8.8.8/", own) ?? "", /https/);
    // What a name stands for shows when something is sent.
    assert.equal(webhookUrlFault("https://internal.example.org/", undefined), undefined);
  });

  it("a name that leads inside is refused when something is sent, and what was judged is what is dialled", async () => {
    const runtime = await currentRuntime();
    const dialled: string[] = [];
    const via = (addresses: string[]) => ({
      clock: runtime.clock,
      resolve: () => Promise.resolve(addresses),
      dial: (options: Parameters<typeof runtime.dial>[0]) => {
        dialled.push(options.host);
        return Promise.reject(new Error("far away"));
      },
    });
    const send = (addresses: string[], own?: NetworkSet, url = "https://rebind.example.org/") =>
      webhookFetch(via(addresses), own)(new Request(url, { method: "POST", body: "{}" }));
    await assert.rejects(send(["127.0.0.1"]), { code: "access_denied" });
    await assert.rejects(send(["::ffff:169.254.169.254", "fd00::1"]), { code: "access_denied" });
    await assert.rejects(send(["1.1.1.1"], new NetworkSet(["10.0.0.0/8"]), "http://a.example.org/"), {
      code: "access_denied",
    });
    assert.deepEqual(dialled, []);
    await assert.rejects(send(["10.0.0.1", "1.1.1.1"]), /far away/);
    await assert.rejects(
      send(["10.0.0.1"], new NetworkSet(["10.0.0.0/8"]), "http://a.example.org/"),
      /far away/,
    );
    assert.deepEqual(dialled, ["1.1.1.1", "10.0.0.1"]);
  });
});

describe("WebhookSender", () => {
  for (const step of ["name resolution", "connection", "TLS handshake"] as const) {
    it(`an attempt ends in time whose ${step} takes for ever`, async () => {
      const clock = new VirtualClock();
      const never = new Promise<never>(() => {});
      let aborted = 0;
      const conn = {
        ...{ attach() {}, write: () => true, pause() {}, resume() {}, end() {}, release() {} },
        abort: () => void aborted++,
      } as unknown as Conn;
      const send = webhookFetch({
        clock,
        resolve: () => step === "name resolution" ? never : Promise.resolve(["1.1.1.1"]),
        dial: () => step === "connection" ? never : Promise.resolve(conn),
      }, undefined);
      const store = await openStore(":memory:");
      const sender = new WebhookSender({ store, clock, log: silentLogger, fetch: send });
      try {
        await withHook(store);
        const sent = sender.sendNow("hook_1", tell());
        let outcome: WebhookDelivery | undefined;
        void sent.then((settled) => outcome = settled);
        assert.ok(await clock.settle(() => outcome !== undefined, 2 * WEBHOOK_TIMEOUT_MS));
        assert.ok(clock.nowMs() <= WEBHOOK_TIMEOUT_MS + 1_000, `${clock.nowMs()} ms`);
        assert.equal(outcome?.state, "waiting");
        if (step === "TLS handshake") assert.ok(aborted > 0);
      } finally {
        await store.close();
      }
    });
  }

  it("are signed as Standard Webhooks 1.0 says, and posted to a server that stands", async () => {
    // The specification's own example of a secret; the signature is worked out here by hand.
    const runtime = await currentRuntime();
    const got: { headers: Headers; body: string; path: string; method: string }[] = [];
    const server = await runtime.serveHttp({
      host: "127.0.0.1",
      port: 0,
      fetch: async (request) => {
        const { pathname } = new URL(request.url);
        got.push({
          headers: request.headers,
          body: await request.text(),
          path: pathname,
          method: request.method,
        });
        return pathname === "/moved"
          ? new Response(null, { status: 302, headers: { location: "/hook" } })
          : new Response("a secret of the inner network", { status: 200 });
      },
    });
    const own = new NetworkSet(["127.0.0.1"]);
    const store = await openStore(":memory:");
    const sender = new WebhookSender({
      ...{ store, clock: runtime.clock, log: silentLogger, fetch: webhookFetch(runtime, own) },
    });
    const master = await managedMaster();
    try {
      const url = `http://127.0.0.1:${server.address.port}`;
      await withHook(store);
      await store.addWebhook(
        {
          ...{
            id: "hook_2",
            tenant: "*",
            url: `${url}/hook`,
            events: [],
            secret: SECRET,
            createdAtMs: 0,
            dropped: 0,
          },
        },
        9,
        { atMs: 0, actor: "", action: "", subject: "", tenant: "", request: "", detail: {} },
      );
      const sent = await sender.sendNow("hook_2", tell({ grüße: "✓" }));
      assert.equal(sent?.state, "delivered");
      assert.equal(sent?.status, 200);
      const [message] = got;
      assert.equal(message?.method, "POST");
      assert.equal(message?.headers.get("content-type"), "application/json");
      const [id, timestamp] = ["webhook-id", "webhook-timestamp"].map((name) => message?.headers.get(name));
      assert.equal(id, sent?.id);
      assert.ok(Math.abs(Number(timestamp) - Date.now() / 1000) < 60);
      const mac = createHmac("sha256", Buffer.from("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "base64"));
      const signature = mac.update(`${id}.${timestamp}.${message?.body}`).digest("base64");
      assert.equal(message?.headers.get("webhook-signature"), `v1,${signature}`);
      assert.deepEqual(JSON.parse(message?.body ?? ""), {
        type: "agent.online",
        timestamp: new Date(WALL_MS).toISOString(),
        tenant: "default",
        data: { grüße: "✓" },
      });
      // A redirect is no way around the rules, and what a server says is in no log.
      await store.removeWebhook("hook_2", {
        ...{ atMs: 0, actor: "", action: "", subject: "", tenant: "", request: "", detail: {} },
      });
      await store.addWebhook(
        {
          ...{
            id: "hook_3",
            tenant: "*",
            url: `${url}/moved`,
            events: [],
            secret: SECRET,
            createdAtMs: 0,
            dropped: 0,
          },
        },
        9,
        { atMs: 0, actor: "", action: "", subject: "", tenant: "", request: "", detail: {} },
      );
      const moved = await sender.sendNow("hook_3", tell());
      assert.deepEqual([moved?.state, moved?.status, got.length], ["waiting", 302, 2]);
      assert.ok(!JSON.stringify(await store.deliveries({ limit: 9 })).includes("inner network"));
    } finally {
      await sender.close();
      await store.close();
      await server.close(0);
      await master.close();
    }
  });

  it("are tried again ever later, over restarts, until they fail for good", async () => {
    const folder = await mkdtemp(join(tmpdir(), "sallyport-webhooks-"));
    const path = join(folder, "master.db");
    let answers = 0;
    const down = () => {
      answers++;
      return Promise.resolve(new Response(null, { status: 503 }));
    };
    try {
      let store = await openStore(path);
      await withHook(store);
      await store.addDelivery("hook_1", tell());
      let at = WALL_MS;
      const waits: number[] = [];
      for (;;) {
        const { sender, time } = testSender(store, down);
        time.ms = at;
        await sender.work();
        const [delivery] = (await store.deliveries({ limit: 1 })).items;
        assert.equal(delivery?.status, 503);
        assert.equal(delivery?.error, "it answered 503");
        await sender.close().catch(() => {});
        // A new start of the process, each time.
        await store.close();
        store = await openStore(path);
        if (delivery?.nextAtMs === undefined) {
          assert.equal(delivery?.state, "failed");
          break;
        }
        waits.push((delivery.nextAtMs - at) / 1000);
        at = delivery.nextAtMs;
      }
      assert.deepEqual(waits, [5, 30, 120, 600, 1_800, 7_200, 18_000, 36_000]);
      assert.equal(answers, 9);
      await store.close();
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });

  it("410 ends the attempts, and a broken connection is an attempt", async () => {
    const store = await openStore(":memory:");
    try {
      await withHook(store);
      const id = await store.addDelivery("hook_1", tell());
      const { sender, metrics } = testSender(
        store,
        () => Promise.resolve(new Response(null, { status: 410 })),
      );
      await sender.work();
      assert.equal((await store.deliveries({ limit: 1 })).items[0]?.state, "failed");
      const broken = testSender(store, () => Promise.reject(new Error("broken pipe")));
      const second = await store.addDelivery("hook_1", tell());
      await broken.sender.work();
      const [delivery] = (await store.deliveries({ limit: 1 })).items;
      assert.deepEqual([delivery?.id, delivery?.state, delivery?.error, delivery?.status], [
        ...[second, "waiting", "broken pipe", undefined],
      ]);
      assert.notEqual(id, second);
      assert.match(await metrics.render(), /sallyport_webhook_attempts_total\{outcome="failed"\} 1/);
      assert.match(await broken.metrics.render(), /sallyport_webhook_attempts_total\{outcome="retried"\} 1/);
    } finally {
      await store.close();
    }
  });

  it("a master that ends in the middle of an attempt leaves the message to the next one", async () => {
    const store = await openStore(":memory:");
    try {
      await withHook(store);
      await store.addDelivery("hook_1", tell());
      // Taken, and never settled.
      await store.takeDelivery({ nowMs: WALL_MS, leaseMs: WEBHOOK_LEASE_MS, without: [] });
      let sent = 0;
      const { sender, time } = testSender(store, () => {
        sent++;
        return Promise.resolve(new Response(null, { status: 204 }));
      });
      await sender.work();
      assert.equal(sent, 0);
      time.ms += WEBHOOK_LEASE_MS;
      await sender.work();
      assert.equal(sent, 1);
      assert.equal((await store.deliveries({ limit: 1 })).items[0]?.attempts, 2);
    } finally {
      await store.close();
    }
  });

  it("a message at which every master ends is given up after its last attempt", async () => {
    const store = await openStore(":memory:");
    try {
      await withHook(store);
      await store.addDelivery("hook_1", tell());
      let sent = 0;
      const { sender, time } = testSender(store, () => {
        sent++;
        return Promise.resolve(new Response(null));
      });
      for (let attempt = 0; attempt < 9; attempt++) {
        const options = { nowMs: time.ms, leaseMs: WEBHOOK_LEASE_MS, without: [] };
        assert.ok(await store.takeDelivery(options));
        time.ms += WEBHOOK_LEASE_MS;
      }
      await sender.work();
      const { items: [given] } = await store.deliveries({ webhooks: ["hook_1"], limit: 1 });
      assert.deepEqual([sent, given?.state, given?.nextAtMs], [0, "failed", undefined]);
    } finally {
      await store.close();
    }
  });

  it("a webhook that doesn't answer holds up no other one", async () => {
    const store = await openStore(":memory:");
    try {
      await withHook(store, "hook_slow");
      await withHook(store, "hook_quick");
      for (let i = 0; i < 40; i++) await store.addDelivery("hook_slow", tell());
      for (let i = 0; i < 3; i++) await store.addDelivery("hook_quick", { ...tell(), atMs: WALL_MS + 1 });
      const held: (() => void)[] = [];
      let quick = 0;
      const all = Promise.withResolvers<void>();
      const { sender, time } = testSender(store, async (request) => {
        const { items } = await store.deliveries({ limit: 100, webhooks: ["hook_quick"] });
        if (items.some(({ id }) => id === request.headers.get("webhook-id"))) {
          if (++quick === 3) all.resolve();
        } else await new Promise<void>((resolve) => held.push(resolve));
        return new Response(null, { status: 204 });
      });
      time.ms += 1;
      const over = sender.work();
      await all.promise;
      assert.ok(held.length <= 4, `${held.length} at a time to one webhook`);
      while ((await store.deliveries({ limit: 1, state: "waiting" })).items.length > 0) {
        for (const go of held.splice(0)) go();
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      await over;
    } finally {
      await store.close();
    }
  });

  it("a webhook that never answers gets a bounded number of messages, and counts the others", async () => {
    const folder = await mkdtemp(join(tmpdir(), "sallyport-webhooks-"));
    const path = join(folder, "master.db");
    const store = await openStore(path);
    try {
      await withHook(store);
      await store.addDelivery("hook_1", tell());
      const raw = new DatabaseSync(path);
      raw.exec(
        `with recursive n(i) as (select 1 union all select i + 1 from n where i < ${WEBHOOK_WAITING_MAX - 1})
        insert into deliveries (id, webhook, event, body, state, created_at, attempts, next_at)
        select 'msg_' || i, 'hook_1', 'agent.online', '{}', 'waiting', 0, 0, ${WALL_MS} from n`,
      );
      raw.close();
      await store.applyReport(
        report(1, { sessions: [live("s1", "agent_1"), live("s2", "agent_2")] }),
        WALL_MS,
      );
      assert.equal((await store.webhooks())[0]?.dropped, 2);
    } finally {
      await store.close();
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe("webhookSecretFault", () => {
  it("hold 24 to 64 bytes", () => {
    const fault = (bytes: number) => webhookSecretFault(`whsec_${Buffer.alloc(bytes).toString("base64")}`);
    assert.deepEqual([24, 64].map(fault), [undefined, undefined]);
    assert.deepEqual([23, 65].map(fault), Array(2).fill("must hold 24 to 64 bytes"));
  });
});
