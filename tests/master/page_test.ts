/** The management page: who gets in, what forms need, and what becomes of them. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { ALL_TENANTS } from "../../src/master/model.ts";
import { ASSETS } from "../../src/master/page/assets.ts";
import { PAGE_POLICY } from "../../src/master/page/host.ts";
import { PAGE_SESSION_MS, PAGE_SESSIONS_MAX } from "../../src/master/page/page_sessions.ts";
import { ADMIN_KEY } from "./helpers.ts";
import { type ManagedMaster, managedMaster } from "./managed.ts";

const OWN = { Origin: "http://localhost", "Content-Type": "application/x-www-form-urlencoded" };
const ACTOR = { id: "admin", tenant: ALL_TENANTS, request: "test" };

/** A browser: keeps a cookie, and repeats the token of forms. */
class Browser {
  cookie = "";
  token = "";
  readonly #master: ManagedMaster;

  constructor(master: ManagedMaster) {
    this.#master = master;
  }

  async get(path: string, status = 200): Promise<string> {
    const answer = await this.#master.request(path, {
      headers: { Accept: "text/html,application/xhtml+xml,*/*;q=0.8", Cookie: this.cookie },
    });
    assert.equal(answer.status, status, path);
    assert.equal(answer.headers.get("content-security-policy"), PAGE_POLICY);
    const text = await answer.text();
    this.token = /name="token" value="([^"]+)"/.exec(text)?.[1] ?? this.token;
    return text;
  }

  async post(path: string, fields: Record<string, string>, headers: Record<string, string> = {}) {
    const answer = await this.#master.request(path, {
      method: "POST",
      headers: { ...OWN, Cookie: this.cookie, ...headers },
      body: new URLSearchParams({ token: this.token, ...fields }).toString(),
    });
    assert.equal(answer.headers.get("content-security-policy"), PAGE_POLICY);
    return answer;
  }

  async login(key = ADMIN_KEY, headers: Record<string, string> = {}): Promise<Response> {
    const answer = await this.post("/page/login", { key }, headers);
    const set = answer.headers.get("set-cookie");
    if (set !== null) this.cookie = set.split(";")[0] as string;
    return answer;
  }
}

function test(title: string, body: (master: ManagedMaster, browser: Browser) => Promise<void>, options = {}) {
  it(title, async () => {
    const master = await managedMaster(options);
    try {
      await body(master, new Browser(master));
    } finally {
      await master.close();
    }
  });
}

test("browsers get the login page at /, programs the index", async ({ request }, browser) => {
  const text = await browser.get("/");
  assert.match(text, /<input type="password" name="key"/);
  assert.doesNotMatch(text, /Live sessions/);
  for (const accept of ["*/*", "application/json"]) {
    const index = await request("/", { headers: { Accept: accept } });
    assert.match(index.headers.get("content-type") ?? "", /^application\/json/);
    assert.equal(index.headers.get("vary"), "Accept");
    assert.equal((await index.json()).name, "Sallyport session master");
  }
});

test(
  "what isn't there is said as a page to browsers, as a problem to programs",
  async ({ request }, browser) => {
    assert.match(await browser.get("/page/nothing", 404), /There is no such page/);
    const answer = await request("/page/nothing", { headers: { Accept: "application/json" } });
    assert.equal(answer.status, 404);
    assert.equal(answer.headers.get("content-type"), "application/problem+json");
  },
);

test("nothing is shown or changed without a login", async ({ management }, browser) => {
  const { agent } = await management.addAgent(ACTOR, { name: "a", hostnames: ["a.example.org"] });
  const views = [
    "agents",
    "agents/new",
    `agents/${agent.id}`,
    `agents/${agent.id}/edit`,
    "sessions",
    "usage",
  ];
  for (const path of [...views, "usage.csv", "audit", "keys", "webhooks"]) {
    await browser.get(`/page/${path}`, 303);
  }
  await browser.get("/page/events", 401);
  assert.equal((await browser.post(`/page/agents/${agent.id}/suspend`, {})).status, 401);
  assert.equal(
    (await browser.post("/page/agents/new", { name: "b", hostnames: "b.example.org" })).status,
    401,
  );
  assert.equal((await management.agent(ACTOR, "a")).state, "active");
});

test("wrong keys get 401, and 429 when there are too many", async ({ request }, browser) => {
  for (const key of ["wrong", ""]) {
    const answer = await browser.login(key);
    assert.equal(answer.status, 401);
    assert.equal(answer.headers.get("set-cookie"), null);
    assert.match(await answer.text(), /role="alert"/);
  }
  const blocked = await browser.login();
  assert.equal(blocked.status, 429);
  assert.match(blocked.headers.get("retry-after") ?? "", /^\d+$/);
  assert.equal(
    (await request("/v1/agents", { headers: { Authorization: `Bearer ${ADMIN_KEY}` } })).status,
    429,
  );
}, { authFailuresPerMinute: 2 });

test("the cookie is out of reach of scripts and other sites", async (_, browser) => {
  const plain = await browser.login();
  assert.equal(plain.status, 303);
  const cookie = plain.headers.get("set-cookie") ?? "";
  assert.match(cookie, /^sallyport=[\w-]{43};/);
  for (const flag of ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"]) {
    assert.ok(cookie.includes(flag), flag);
  }
  assert.ok(!cookie.includes("Secure"));
  const secure = (await browser.login(ADMIN_KEY, { "X-Forwarded-Proto": "https" })).headers.get("set-cookie");
  assert.match(secure ?? "", /^__Host-sallyport=.*; Secure/);
});

test("forms of other sites and without the login's token are refused", async ({ management }, browser) => {
  const { agent } = await management.addAgent(ACTOR, { name: "a", hostnames: ["a.example.org"] });
  const path = `/page/agents/${agent.id}/suspend`;
  assert.equal((await browser.login(ADMIN_KEY, { Origin: "https://evil.example" })).status, 403);
  await browser.login();
  await browser.get("/");
  for (const origin of ["https://evil.example", "null", ""]) {
    assert.equal((await browser.post(path, {}, { Origin: origin })).status, 403, origin);
  }
  assert.equal((await browser.post(path, {}, { "Sec-Fetch-Site": "same-site" })).status, 403);
  for (const token of ["", "wrong"]) assert.equal((await browser.post(path, { token })).status, 403);
  assert.equal((await browser.post(path, {}, { "Content-Type": "text/plain" })).status, 415);
  assert.equal((await browser.post(path, { more: "x".repeat(70_000) })).status, 413);
  assert.equal((await management.agent(ACTOR, "a")).state, "active");
});

test("an agent is added, suspended, resumed, rotated and removed", async ({ must }, browser) => {
  await browser.login();
  assert.match(await browser.get("/"), /No agents yet/);
  const added = await browser.post("/page/agents/new", {
    name: "home",
    hostnames: "Home.example.org, *.home.example.org",
    notes: "",
  });
  assert.equal(added.status, 200);
  const [, code] = /agent --join &#39;http:\/\/localhost\/#([\w-]{27})&#39; --to http:\/\/127\.0\.0\.1:3000/
    .exec(await added.text()) ?? [];
  assert.ok(code !== undefined, "the start command");
  const { body } = await must(200, "GET", "/v1/agents/home");
  assert.deepEqual(body.hostnames, ["home.example.org", "*.home.example.org"]);
  const path = `/page/agents/${body.id}`;
  assert.match(await browser.get("/page/agents?search=HOME&state=active"), new RegExp(`href="${path}"`));
  assert.match(await browser.get(path), /not enrolled/);
  for (const [verb, state] of [["suspend", "suspended"], ["resume", "active"]] as const) {
    const done = verb === "suspend" ? "suspended" : "resumed";
    const back = (await browser.post(`${path}/${verb}`, {})).headers.get("location");
    assert.equal(back, `${path}?done=${done}`);
    assert.match(await browser.get(back ?? ""), /role="status">(Suspended|Resumed)\. /);
    assert.equal((await must(200, "GET", "/v1/agents/home")).body.state, state);
    assert.match(await browser.get(path), state === "active" ? /not enrolled/ : /suspended<\/span>/);
  }
  const rotated = await (await browser.post(`${path}/rotate`, {})).text();
  assert.match(rotated, /agent --join/);
  assert.ok(!rotated.includes(code), "another code");
  assert.equal((await browser.post(`${path}/remove`, {})).status, 303);
  await must(404, "GET", "/v1/agents/home");
  await browser.get(path, 404);
  const audit = await browser.get("/page/audit");
  for (const verb of ["added", "suspended", "resumed", "rotated", "removed"]) {
    assert.match(audit, new RegExp(`agent\\.${verb}`));
  }
});

test("a form with a fault says so and keeps what was typed", async ({ management }, browser) => {
  await management.addAgent(ACTOR, { name: "a", hostnames: ["a.example.org"] });
  await browser.login();
  await browser.get("/page/agents");
  const wrong = await browser.post("/page/agents/new", { name: '"><script>', hostnames: "b.example.org" });
  assert.equal(wrong.status, 422);
  const text = await wrong.text();
  assert.match(text, /role="alert">Cannot add agent: name must begin/);
  assert.match(text, /value="&quot;&gt;&lt;script&gt;"/);
  const taken = await browser.post("/page/agents/new", { name: "b", hostnames: "a.example.org" });
  assert.equal(taken.status, 409);
  assert.match(await taken.text(), /belongs to another agent/);
});

test("live sessions are shown, and disconnected; every text is escaped", async (master, browser) => {
  const { management, store, time } = master;
  const evil = "<script>alert(1)</script>";
  const { agent } = await management.addAgent(ACTOR, {
    name: evil,
    hostnames: ["a.example.org"],
    notes: `"'>${evil}`,
  });
  const day = new Date(time.ms).toISOString().slice(0, 10);
  const of = { agent: agent.id, tenant: "default" };
  await store.applyReport({
    edge: evil,
    epoch: "1",
    seq: 1,
    fresh: true,
    closed: [],
    watched: [],
    sessions: [{
      ...of,
      id: `edge/${evil}`,
      hostname: `a.example.org${evil}`,
      remote: evil,
      transport: evil,
      cipher: evil,
      sinceMs: time.ms,
      streams: 3,
      bytesToAgent: 1_500,
      bytesToVisitor: 2_000_000,
    }],
    usage: [{ ...of, day, bytesToAgent: 1_500, bytesToVisitor: 10, streams: 3, connectedMs: 3_600_000 }],
  }, time.ms);
  await browser.login();
  const views = [
    "/",
    "/page/agents",
    `/page/agents/${agent.id}`,
    `/page/agents/${agent.id}/edit`,
    "/page/sessions",
    "/page/usage",
    `/page/usage?agent=${agent.id}`,
    "/page/keys",
  ];
  const asked = encodeURIComponent(`">${evil}`);
  const searches = [`/page/agents?search=${asked}`, `/page/audit?subject=${asked}`, `/?done=${asked}`];
  for (const path of [...views, "/page/audit", ...searches]) {
    const text = await browser.get(path);
    assert.ok(!text.includes("<script>"), path);
    // Nothing that the policy forbids.
    assert.doesNotMatch(text, / (style|on\w+)="/, path);
  }
  await browser.get(`/page/usage?from=${asked}`, 422);
  const overview = await browser.get("/");
  assert.match(overview, /Sessions<\/a><\/dt><dd>1<\/dd>/);
  assert.match(overview, /2\.0 MB/);
  assert.match(await browser.get("/page/usage"), /1\.0 h/);
  await browser.get("/page/sessions");
  assert.equal((await browser.post("/page/sessions/close", { id: `edge/${evil}` })).status, 303);
  assert.equal((await browser.post("/page/sessions/close", { id: "other" })).status, 404);
  const [last] = (await master.must(200, "GET", "/v1/audit")).body.items;
  assert.equal(last.action, "session.closed");
});

test(
  "an agent is edited; a fault stands at its field, and a change in between is not overwritten",
  async (master, browser) => {
    const { management, must } = master;
    const { agent } = await management.addAgent(ACTOR, {
      name: "a",
      hostnames: ["a.example.org"],
      limits: { streams: 5 },
      group: "pair",
    });
    await browser.login();
    const path = `/page/agents/${agent.id}/edit`;
    const form = await browser.get(path);
    assert.match(form, /id="limits-streams"[^>]*value="5"/);
    const fields = {
      revision: /name="revision" value="(\d+)"/.exec(form)?.[1] ?? "",
      ...{ name: "b", hostnames: "b.example.org\r\n*.b.example.org", notes: "x", group: "" },
      ...{ "limits.monthly_bytes": "1000", "limits.streams": "", publish: "tcp:2222" },
      ...{ agent_networks: "192.0.2.0/24", visitor_networks: "", expires_at: "2031-05-06T07:08" },
    };
    for (
      const [name, value, fault] of [
        ["limits.monthly_bytes", "1.5", /id="limits-monthly_bytes-fault">[^<]*must be a whole number/],
        ["agent_networks", "office", /id="agent_networks-fault">[^<]*isn&#39;t a network/],
        ["hostnames", "", /id="hostnames-fault">[^<]*must have at least one/],
        ["name", "-", /id="name-fault">/],
        ["expires_at", "soon", /id="expires_at-fault">/],
      ] as const
    ) {
      const answer = await browser.post(path, { ...fields, [name]: value });
      assert.equal(answer.status, 422, name);
      const text = await answer.text();
      assert.match(text, fault);
      assert.match(text, new RegExp(`name="${name}"[^>]*aria-invalid="true"`));
      assert.match(text, /value="b"|name="name"/);
    }
    const saved = await browser.post(path, fields);
    assert.equal(saved.headers.get("location"), `/page/agents/${agent.id}?done=saved`);
    const { body } = await must(200, "GET", `/v1/agents/${agent.id}`);
    assert.deepEqual(
      [
        body.name,
        body.hostnames,
        body.limits,
        body.publish,
        body.agent_networks,
        body.group,
        body.expires_at,
      ],
      [
        ...["b", ["b.example.org", "*.b.example.org"], { monthly_bytes: 1000 }, ["tcp:2222"]],
        ...[["192.0.2.0/24"], null, "2031-05-06T07:08:00.000Z"],
      ],
    );
    // The form of before is of an older revision now.
    const late = await browser.post(path, fields);
    assert.equal(late.status, 412);
    assert.match(await late.text(), /has been changed meanwhile/);
  },
);

test("usage comes by agent, by day, and as CSV", async (master, browser) => {
  const { management, store, time } = master;
  const { agent } = await management.addAgent(ACTOR, { name: "a", hostnames: ["a.example.org"] });
  const day = (back: number) => new Date(time.ms - back * 86_400_000).toISOString().slice(0, 10);
  const used = (back: number, bytes: number) => ({
    ...{ agent: agent.id, tenant: "default", day: day(back), streams: 1, connectedMs: 1_800_000 },
    ...{ bytesToAgent: bytes, bytesToVisitor: 2 * bytes },
  });
  await store.applyReport({
    ...{ edge: "e", epoch: "1", seq: 1, fresh: true, closed: [], watched: [], sessions: [] },
    usage: [used(0, 1_000), used(1, 2_000), used(40, 5_000)],
  }, time.ms);
  await browser.login();
  const all = await browser.get("/page/usage");
  assert.match(all, /3\.0 kB<\/div>/);
  assert.match(all, /1\.0 h/);
  assert.match(await browser.get(`/page/usage?agent=${agent.id}`), new RegExp(`${day(1)}</div>.*2\\.0 kB`));
  assert.match(await browser.get(`/page/usage?from=${day(50)}&to=${day(30)}`), /5\.0 kB/);
  assert.match(await browser.get(`/page/usage?from=${day(20)}&to=${day(10)}`), /No usage in these days/);
  const csv = await master.request(`/page/usage.csv?from=${day(1)}&to=${day(1)}`, {
    headers: { Cookie: browser.cookie },
  });
  assert.match(csv.headers.get("content-disposition") ?? "", /^attachment; filename="usage-/);
  assert.deepEqual((await csv.text()).trim().split("\r\n").slice(1), [
    `${agent.id},a,default,${day(1)},2000,4000,1,1800`,
  ]);
});

test("keys are added and taken away; a new API key is shown once", async ({ must }, browser) => {
  await browser.login();
  await browser.get("/page/keys");
  const made = await browser.post("/page/keys/api", { name: "billing", scope: "read", tenant: "" });
  const [, key = ""] = /(sallyport_key_[\w-]+)<\/textarea>/.exec(await made.text()) ?? [];
  await must(200, "GET", "/v1/agents", undefined, { Authorization: `Bearer ${key}` });
  assert.ok(!(await browser.get("/page/keys")).includes(key));
  const wrong = await browser.post("/page/keys/api", { name: "-", scope: "read", tenant: "" });
  assert.equal(wrong.status, 422);
  assert.match(await wrong.text(), /role="alert">Cannot add API key/);
  const [{ id }] = (await must(200, "GET", "/v1/api-keys")).body.items;
  assert.equal((await browser.post("/page/keys/api/remove", { id })).status, 303);
  await must(401, "GET", "/v1/agents", undefined, { Authorization: `Bearer ${key}` });
  assert.equal((await browser.post("/page/keys/fernet", {})).status, 303);
  const { items } = (await must(200, "GET", "/v1/keys")).body;
  assert.equal(items.length, 2);
  assert.match(await browser.get("/page/keys"), new RegExp(items[0].id));
  assert.equal((await browser.post("/page/keys/fernet/retire", { id: items[1].id })).status, 303);
  assert.equal((await browser.post("/page/keys/fernet/retire", { id: items[0].id })).status, 409);
});

test("webhooks are added, tested and removed; the secret is shown once", async (master, browser) => {
  const { must, store } = master;
  await browser.login();
  assert.match(await browser.get("/page/webhooks"), /No webhooks yet/);
  const fields = { url: "https://hooks.example.org/in?a=<b>", event: "agent.offline", tenant: "shop" };
  const wrong = await browser.post("/page/webhooks", fields);
  assert.equal(wrong.status, 422);
  const text = await wrong.text();
  assert.match(text, /role="alert">Cannot add webhook: url isn&#39;t a URL/);
  assert.match(text, /value="https:\/\/hooks\.example\.org\/in\?a=&lt;b&gt;"/);
  assert.match(text, /value="agent\.offline" checked/);
  assert.doesNotMatch(text, /value="agent\.online" checked/);
  const made =
    await (await browser.post("/page/webhooks", { ...fields, url: "https://hooks.example.org/in" })).text();
  const [, secret = "?"] = />(whsec_[\w+/=]+)<\/textarea>/.exec(made) ?? [];
  const [{ id, events, tenant }] = (await must(200, "GET", "/v1/webhooks")).body.items;
  assert.deepEqual([events, tenant], [["agent.offline"], "shop"]);
  const path = `/page/webhooks/${id}`;
  const data = { agent: null, name: "</pre><script>" };
  await store.addDelivery(id, { type: "agent.offline", tenant: "shop", atMs: master.time.ms, data });
  for (const view of ["/page/webhooks", path, `${path}?state=waiting`]) {
    const shown = await browser.get(view);
    assert.ok(!shown.includes(secret) && !shown.includes("<script>"), view);
    assert.match(shown, /&lt;script&gt;/);
  }
  assert.match(await browser.get(`${path}?state=failed`), /No such messages/);
  assert.equal((await browser.post(`${path}/test`, {})).status, 503);
  assert.equal((await browser.post(`${path}/remove`, {})).status, 303);
  await browser.get(path, 404);
});

test(
  "a tenant's key sees its own webhooks, and a reader changes none",
  async ({ must, management }, browser) => {
    const add = (tenant: string) =>
      management.webhooks.add(ACTOR, { url: `https://${tenant}.example.org/`, tenant });
    const [mine, yours] = [await add("mine"), await add("yours")];
    const { body } = await must(201, "POST", "/v1/api-keys", { name: "k", scopes: ["read"], tenant: "mine" });
    await browser.login(body.key);
    const list = await browser.get("/page/webhooks");
    assert.match(list, /mine\.example\.org/);
    assert.doesNotMatch(list, /yours\.example\.org|Add a webhook/);
    assert.doesNotMatch(await browser.get(`/page/webhooks/${mine.id}`), /Send test message/);
    await browser.get(`/page/webhooks/${yours.id}`, 404);
    for (const path of ["", `/${mine.id}/test`, `/${mine.id}/remove`]) {
      assert.equal(
        (await browser.post(`/page/webhooks${path}`, { url: "https://x.example.org/" })).status,
        403,
        path,
      );
    }
  },
);

test("long lists come in pages", async ({ management }, browser) => {
  for (let at = 100; at < 155; at++) {
    await management.addAgent(ACTOR, { name: `a${at}`, hostnames: [`a${at}.example.org`] });
  }
  await browser.login();
  for (const [path, first, last] of [["/page/agents", "a100", "a154"], ["/page/audit", "a154", "a100"]]) {
    const one = await browser.get(path as string);
    assert.match(one, new RegExp(`${first}\\b`));
    assert.doesNotMatch(one, new RegExp(`${last}\\b`));
    const [, next = ""] = /href="([^"]+)" rel="next"/.exec(one) ?? [];
    const two = await browser.get(next.replaceAll("&amp;", "&"));
    assert.match(two, new RegExp(`${last}\\b`));
    assert.match(two, /First page/);
    assert.doesNotMatch(two, /rel="next"/);
  }
});

test("a login ends by logout, after twelve hours, and with its key", async ({ must, time }, browser) => {
  await browser.login();
  await browser.get("/page/agents");
  const gone = await browser.post("/page/logout", {});
  assert.equal(gone.status, 303);
  assert.match(gone.headers.get("set-cookie") ?? "", /^sallyport=; Max-Age=0/);
  // The cookie is worthless, not forgotten alone.
  await browser.get("/page/agents", 303);

  await browser.login();
  time.ms += PAGE_SESSION_MS - 1;
  await browser.get("/page/agents");
  time.ms += 1;
  await browser.get("/page/agents", 303);

  const { body } = await must(201, "POST", "/v1/api-keys", { name: "reader", scopes: ["read"] });
  await browser.login(body.key);
  assert.doesNotMatch(await browser.get("/page/agents"), /Add an agent/);
  assert.equal(
    (await browser.post("/page/agents/new", { name: "b", hostnames: "b.example.org" })).status,
    403,
  );
  await must(204, "DELETE", `/v1/api-keys/${body.id}`);
  await browser.get("/page/agents", 303);
});

test(
  "a key without the scope read gets no login, and a tenant's sees its own agents",
  async (master, browser) => {
    const { management, must } = master;
    await management.addAgent(ACTOR, { name: "theirs", hostnames: ["a.example.org"] });
    const issue = await must(201, "POST", "/v1/api-keys", { name: "issue", scopes: ["issue"] });
    assert.equal((await browser.login(issue.body.key)).status, 403);
    const own = await must(201, "POST", "/v1/api-keys", { name: "own", scopes: ["admin"], tenant: "other" });
    await browser.login(own.body.key);
    assert.doesNotMatch(await browser.get("/page/agents"), /theirs/);
    assert.doesNotMatch(await browser.get("/page/audit"), /theirs/);
    const { id } = (await must(200, "GET", "/v1/agents/theirs")).body;
    assert.equal((await browser.post(`/page/agents/${id}/remove`, {})).status, 404);
  },
);

test("logins are bounded in number: the oldest ends", async (master, browser) => {
  await browser.login();
  const second = new Browser(master);
  await second.login();
  for (let more = 0; more < PAGE_SESSIONS_MAX - 1; more++) await new Browser(master).login();
  await browser.get("/page/agents", 303);
  await second.get("/page/agents");
});

test("script and style are files of the master's own", async ({ request }) => {
  for (const [path, { type }] of Object.entries(ASSETS)) {
    const answer = await request(`/page/${path}`);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("content-type"), type);
    const etag = answer.headers.get("etag") ?? "";
    assert.equal(answer.headers.get("cache-control"), "no-cache");
    assert.equal((await request(`/page/${path}`, { headers: { "If-None-Match": etag } })).status, 304);
    assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
    const text = await answer.text();
    // The chart's own licence names its home, and an icon what it is.
    assert.doesNotMatch(text.replace(/^\/\*!.*/, "").replace("http://www.w3.org/2000/svg", ""), /https?:/);
    assert.doesNotMatch(text, /\beval\(|new Function|innerHTML|insertAdjacentHTML/);
    if (path.endsWith(".js")) new Function(text);
  }
  assert.equal((await request("/page/login")).status, 405);
});
