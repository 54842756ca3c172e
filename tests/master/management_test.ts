/** The management API: who may do what, and what becomes of it. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { openToken } from "../../src/protocol/token/token.ts";
import { readAgentClaim } from "../../src/wire/token/agent_claim.ts";
import { signAgentProof } from "../../src/protocol/token/agent_proof.ts";
import { WALL_MS } from "./helpers.ts";
import { enrolledAgent, type ManagedMaster, managedMaster } from "./managed.ts";

function test(title: string, body: (master: ManagedMaster) => Promise<void>, options = {}): void {
  it(title, async () => {
    const master = await managedMaster(options);
    try {
      await body(master);
    } finally {
      await master.close();
    }
  });
}

test("an agent is added, listed, shown, changed and removed", async ({ must }) => {
  const wanted = {
    name: "home",
    hostnames: ["Home.Example.org.", "b.example.org", "*.home.example.org"],
    limits: { streams: 100 },
    visitor_networks: ["192.0.2.0/24"],
    notes: "in the cellar",
    expires_at: "2035-01-31T00:00:00+01:00",
  };
  const added = await must(201, "POST", "/v1/agents", wanted);
  assert.deepEqual(added.body.hostnames, ["home.example.org", "b.example.org", "*.home.example.org"]);
  assert.equal(added.body.expires_at, "2035-01-30T23:00:00.000Z");
  assert.equal(added.body.enrolled, false);
  assert.match(added.body.join_code, /^[\w-]{27}$/);
  assert.equal(added.headers.get("etag"), '"1"');
  const { id } = added.body;
  assert.equal((await must(200, "GET", "/v1/agents/home")).body.id, id);
  const changed = await must(200, "PATCH", `/v1/agents/${id}`, {
    limits: {},
    expires_at: null,
    name: "house",
  });
  assert.deepEqual([changed.body.limits, changed.body.expires_at, changed.body.notes], [
    {},
    null,
    "in the cellar",
  ]);
  assert.equal((await must(200, "GET", "/v1/agents?search=HOUSE&limit=1")).body.items.length, 1);
  await must(204, "DELETE", "/v1/agents/house");
  await must(404, "GET", `/v1/agents/${id}`);
  const actions = (await must(200, "GET", "/v1/audit")).body.items.map(({ action }: { action: string }) =>
    action
  );
  assert.deepEqual(actions, ["agent.removed", "agent.changed", "agent.added"]);
});

test("a hostname of another agent is refused with 409 that names it", async ({ must }) => {
  await must(201, "POST", "/v1/agents", { name: "a", hostnames: ["a.example.org"] });
  const { body } = await must(409, "POST", "/v1/agents", {
    name: "b",
    hostnames: ["b.example.org", "a.example.org"],
  });
  assert.match(body.detail, /a\.example\.org belongs to another agent/);
  assert.deepEqual(body.errors.map(({ member }: { member: string }) => member), ["hostnames"]);
  assert.match(body.request_id, /^[\w-]{36}$/);
  assert.equal(
    (await must(409, "POST", "/v1/agents", { name: "a", hostnames: ["c.example.org"] })).body.errors[0]
      .member,
    "name",
  );
});

test("If-Match keeps changes from overwriting one another", async ({ must }) => {
  await must(201, "POST", "/v1/agents", { name: "a", hostnames: ["a.example.org"] });
  await must(200, "PATCH", "/v1/agents/a", { notes: "1" }, { "If-Match": '"1"' });
  await must(412, "PATCH", "/v1/agents/a", { notes: "2" }, { "If-Match": '"1"' });
  await must(412, "DELETE", "/v1/agents/a", undefined, { "If-Match": 'W/"2"' });
  await must(200, "PATCH", "/v1/agents/a", { notes: "2" }, { "If-Match": "*" });
  assert.equal((await must(200, "GET", "/v1/agents/a")).body.notes, "2");
});

test("a repetition with the same Idempotency-Key gets the first answer, with its secret", async ({ must, store }) => {
  const key = { "Idempotency-Key": "key-number-one" };
  const wanted = { name: "a", hostnames: ["a.example.org"] };
  const first = await must(201, "POST", "/v1/agents", wanted, key);
  const again = await must(201, "POST", "/v1/agents", wanted, key);
  assert.deepEqual(again.body, first.body);
  assert.equal(again.headers.get("idempotency-replayed"), "true");
  assert.equal(again.headers.get("etag"), '"1"');
  const other = await must(422, "POST", "/v1/agents", { ...wanted, name: "b" }, key);
  assert.equal(other.body.errors[0].member, "Idempotency-Key");
  // What was refused may be mended under the same key.
  const second = { "Idempotency-Key": "key-number-two" };
  await must(409, "POST", "/v1/agents", wanted, second);
  await must(201, "POST", "/v1/agents", { name: "b", hostnames: ["b.example.org"] }, second);
  const kept = await store.reserveAnswer("x", "y", WALL_MS, WALL_MS + 1);
  assert.equal(kept, undefined);
});

test("an Idempotency-Key works again a minute after its request was lost", async (master) => {
  const { must, call, store, time } = master;
  const key = { "Idempotency-Key": "key-number-one" };
  const wanted = { name: "a", hostnames: ["a.example.org"] };
  const begun = Promise.withResolvers<void>();
  // Its session master ended in the middle.
  store.addAgent = () => (begun.resolve(), new Promise(() => {}));
  void call("POST", "/v1/agents", wanted, key);
  await begun.promise;
  Reflect.deleteProperty(store, "addAgent");
  await must(409, "POST", "/v1/agents", wanted, key);
  time.ms += 60_001;
  await must(201, "POST", "/v1/agents", wanted, key);
  time.ms += 23 * 3_600_000;
  assert.equal(
    (await must(201, "POST", "/v1/agents", wanted, key)).headers.get("idempotency-replayed"),
    "true",
  );
});

test("an enrolled agent gets tokens by its signature, with its names and limits", async (master) => {
  const agent = await enrolledAgent(master, "a", {
    hostnames: ["a.example.org", "b.example.org"],
    publish: ["tcp:2222"],
    limits: { sessions: 2, monthly_bytes: 1000 },
    agent_networks: ["192.0.2.0/24"],
  });
  const { status, body } = await agent.token();
  assert.equal(status, 201);
  assert.deepEqual([body.hostname, body.alias, body.publish], ["a.example.org", ["b.example.org"], [
    "tcp:2222",
  ]]);
  const { extra } = openToken(master.ring, body.token, WALL_MS / 1000);
  assert.deepEqual(readAgentClaim(extra), {
    id: agent.id,
    tenant: "default",
    generation: 1,
    limits: { sessions: 2, monthly_bytes: 1000 },
    month: { month: "2030-03", bytes: 0 },
    agentNetworks: ["192.0.2.0/24"],
    visitorNetworks: [],
  });
  assert.equal((await master.must(200, "GET", "/v1/agents/a")).body.enrolled, true);
});

test("a signed request is good once, for its own path, and in its own minute", async (master) => {
  const agent = await enrolledAgent(master, "a");
  const ask = (proof: string) =>
    master.call("POST", "/v1/agent-tokens", {}, { Authorization: `Bearer ${proof}` });
  const proof = agent.proof();
  assert.equal((await ask(proof)).status, 201);
  assert.equal((await ask(proof)).status, 401, "the second time");
  assert.equal((await ask(agent.proof("/v1/tokens"))).status, 401, "another path");
  const other = await enrolledAgent(master, "b");
  const forged = signAgentProof(
    agent.id,
    other.keys,
    { method: "POST", path: "/v1/agent-tokens" },
    master.time.ms,
  );
  assert.equal((await ask(forged)).status, 401, "another agent's key");
  const late = agent.proof();
  master.time.ms += 62_000;
  const answer = await ask(late);
  assert.equal(answer.status, 401);
  assert.match(answer.body.detail, /signed for another time/);
  assert.equal(Date.parse(answer.headers.get("date")!), Math.floor(master.time.ms / 1000) * 1000);
  const [head, , signature] = agent.proof().split(".");
  for (const broken of [`${head}..${signature}`, `${head}.e30.${signature}`, `${head}`]) {
    assert.equal((await ask(broken)).status, 401, broken);
  }
});

test("an enrolled agent asks for tokens for names below its wildcard, and for no others", async (master) => {
  await enrolledAgent(master, "other", { hostnames: ["taken.home.example.org"] });
  const agent = await enrolledAgent(master, "a", { hostnames: ["*.home.example.org"] });
  const ask = (hostname: string) =>
    master.call("POST", "/v1/tokens", { hostname }, { Authorization: `Bearer ${agent.proof("/v1/tokens")}` });
  assert.equal((await ask("x.home.example.org")).status, 201);
  assert.equal((await ask("home.example.org")).status, 403);
  const taken = await ask("taken.home.example.org");
  assert.equal(taken.status, 403);
  assert.match(taken.body.detail, /belongs to another agent/);
  assert.equal((await agent.token()).status, 201, "for its wildcard itself");
  assert.equal(
    (await master.call("GET", "/v1/agents", undefined, {
      Authorization: `Bearer ${agent.proof("/v1/agents", "GET")}`,
    })).status,
    403,
  );
});

test("a join code is good for one agent; a rotation makes the key and old codes worthless", async (master) => {
  const agent = await enrolledAgent(master, "a");
  const other = await enrolledAgent(master, "b");
  const used = await master.must(403, "POST", "/v1/enrolments", {
    code: agent.join,
    public_key: other.keys.publicKey,
  });
  assert.match(used.body.detail, /has been used/);
  await master.must(200, "POST", "/v1/enrolments", { code: agent.join, public_key: agent.keys.publicKey });
  const rotated = await master.must(200, "POST", "/v1/agents/a/rotate");
  assert.equal(rotated.body.enrolled, false);
  assert.equal((await agent.token()).status, 401);
  await master.must(403, "POST", "/v1/enrolments", { code: agent.join, public_key: agent.keys.publicKey });
  await master.must(200, "POST", "/v1/enrolments", {
    code: rotated.body.join_code,
    public_key: agent.keys.publicKey,
  });
  const { body } = await agent.token();
  assert.equal(readAgentClaim(openToken(master.ring, body.token, WALL_MS / 1000).extra).generation, 2);
  master.time.ms += 25 * 3_600_000;
  const late = (await master.must(201, "POST", "/v1/agents", {
    name: "c",
    hostnames: ["c.example.org"],
    join_ttl_seconds: 60,
  })).body;
  master.time.ms += 61_000;
  const expired = await master.must(403, "POST", "/v1/enrolments", {
    code: late.join_code,
    public_key: agent.keys.publicKey,
  });
  assert.match(expired.body.detail, /expired/);
});

test("wrong join codes are counted by address, like wrong keys", async ({ must }) => {
  const key = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
  for (let count = 0; count < 3; count++) {
    await must(403, "POST", "/v1/enrolments", { code: `guess-number-${count}-guess`, public_key: key });
  }
  const { headers } = await must(429, "POST", "/v1/enrolments", {
    code: "guess-number-4-guess",
    public_key: key,
  });
  assert.ok(Number(headers.get("retry-after")) > 0);
}, { authFailuresPerMinute: 3 });

test("a suspended or expired agent gets no token, and edges hear of it", async (master) => {
  const { must, hub } = master;
  const heard: unknown[] = [];
  const agent = await enrolledAgent(master, "a");
  await hub.listen(undefined, (message) => heard.push(message));
  await must(200, "POST", "/v1/agents/a/suspend");
  const refused = await agent.token();
  assert.equal(refused.status, 403);
  assert.match(refused.body.detail, /suspended/);
  await must(403, "POST", "/v1/tokens", { hostname: "a.example.org" });
  await must(200, "POST", "/v1/agents/a/resume");
  assert.equal((await agent.token()).status, 201);
  await must(200, "PATCH", "/v1/agents/a", { expires_at: new Date(WALL_MS + 60_000).toISOString() });
  const { body } = await agent.token();
  assert.ok(body.valid <= WALL_MS / 1000 + 60);
  master.time.ms += 60_001;
  assert.match((await agent.token()).body.detail, /expired/);
  await must(204, "DELETE", "/v1/agents/a");
  assert.deepEqual(heard.slice(1).map((message) => (message as { ruling: unknown }).ruling), [
    { agent: agent.id, blocked: true, generation: 1 },
    { agent: agent.id, blocked: false, generation: 1 },
    { agent: agent.id, blocked: true, generation: 0 },
  ]);
});

test("a token for a name of one agent by another key is that agent's", async (master) => {
  const { body } = await master.must(201, "POST", "/v1/agents", {
    name: "a",
    hostnames: ["a.example.org"],
    limits: { streams: 3 },
  });
  const token = await master.must(201, "POST", "/v1/tokens", { hostname: "a.example.org" });
  const claim = readAgentClaim(openToken(master.ring, token.body.token, WALL_MS / 1000).extra);
  assert.deepEqual([claim.id, claim.limits], [body.id, { streams: 3 }]);
  await master.must(201, "POST", "/v1/tokens", { hostname: "nobodys.example.org" });
  // No key gets a token that outlives its agent.
  await master.must(200, "PATCH", "/v1/agents/a", { expires_at: new Date(WALL_MS + 60_000).toISOString() });
  const short = await master.must(201, "POST", "/v1/tokens", { hostname: "a.example.org" });
  assert.ok(short.body.valid <= WALL_MS / 1000 + 60);
});

test("API keys have scopes and a tenant, and see nothing of another", async (master) => {
  const { must, call } = master;
  const add = async (scopes: string[], tenant: string, more = {}) => {
    const { body } = await must(201, "POST", "/v1/api-keys", { name: "k", scopes, tenant, ...more });
    return { id: body.id as string, headers: { Authorization: `Bearer ${body.key}` } };
  };
  const reader = await add(["read"], "one");
  const admin = await add(["admin"], "one");
  const issuer = await add(["issue"], "one", { hostnames: ["*.one.example.org"] });
  await must(201, "POST", "/v1/agents", { name: "a", hostnames: ["a.two.example.org"], tenant: "two" });
  await must(201, "POST", "/v1/agents", { name: "a", hostnames: ["a.one.example.org"] }, admin.headers);
  assert.equal((await must(200, "GET", "/v1/agents", undefined, reader.headers)).body.items.length, 1);
  assert.equal((await must(200, "GET", "/v1/agents/a", undefined, reader.headers)).body.tenant, "one");
  await must(403, "POST", "/v1/agents/a/suspend", undefined, reader.headers);
  await must(
    403,
    "POST",
    "/v1/agents",
    { name: "b", hostnames: ["b.example.org"], tenant: "two" },
    admin.headers,
  );
  await must(403, "POST", "/v1/keys", {}, admin.headers);
  await must(403, "GET", "/v1/agents", undefined, issuer.headers);
  await must(201, "POST", "/v1/tokens", { hostname: "x.one.example.org" }, issuer.headers);
  await must(403, "POST", "/v1/tokens", { hostname: "x.two.example.org" }, issuer.headers);
  await must(403, "POST", "/v1/tokens", { hostname: "x.one.example.org" }, admin.headers);
  await must(404, "DELETE", `/v1/api-keys/${reader.id}`, undefined, (await add(["admin"], "two")).headers);
  await must(204, "DELETE", `/v1/api-keys/${reader.id}`, undefined, admin.headers);
  assert.equal((await call("GET", "/v1/agents", undefined, reader.headers)).status, 401);
  assert.equal(
    (await must(200, "GET", "/v1/audit", undefined, admin.headers)).body.items.every((
      { tenant }: { tenant: string },
    ) => tenant === "one"),
    true,
  );
});

test("Fernet keys are added and retired without a restart; the last one stays", async (master) => {
  const { must, ring, hub } = master;
  const before = (await must(201, "POST", "/v1/tokens", { hostname: "a.example.org" })).body.token;
  const heard: { keys?: readonly string[] }[] = [];
  await hub.listen(undefined, (message) => {
    if (message.kind === "keys" || message.kind === "all") heard.push(message);
  });
  const [old] = (await must(200, "GET", "/v1/keys")).body.items;
  await must(409, "DELETE", `/v1/keys/${old.id}`);
  const added = await must(201, "POST", "/v1/keys");
  assert.equal(added.body.makes_tokens, true);
  const after = (await must(201, "POST", "/v1/tokens", { hostname: "a.example.org" })).body.token;
  assert.equal(ring.size, 2);
  assert.ok(openToken(ring, before, WALL_MS / 1000));
  await must(204, "DELETE", `/v1/keys/${old.id}`);
  assert.throws(() => openToken(ring, before, WALL_MS / 1000));
  assert.ok(openToken(ring, after, WALL_MS / 1000));
  assert.deepEqual(heard.map(({ keys }) => keys?.length), [1, 2, 1]);
  await must(409, "POST", "/v1/keys", { key: heard[1]!.keys![0] });
  assert.ok(!JSON.stringify((await must(200, "GET", "/v1/audit")).body).includes(heard[1]!.keys![0]!));
});

test("sessions and usage are what edges report; CSV is a table", async (master) => {
  const { must, hub, store } = master;
  const agent = await enrolledAgent(master, "a");
  const heard: unknown[] = [];
  await hub.listen(undefined, (message) => heard.push(message));
  const report = {
    edge: "edge-1",
    epoch: "e",
    seq: 1,
    fresh: true,
    closed: [],
    sessions: [{
      id: "s1",
      agent: agent.id,
      tenant: "default",
      hostname: "a.example.org",
      remote: "192.0.2.9",
      transport: "sealed",
      protocolVersion: 2,
      cipher: "aes-gcm",
      sinceMs: WALL_MS,
      streams: 2,
      bytesToAgent: 5,
      bytesToVisitor: 6,
    }],
    usage: [{
      agent: agent.id,
      tenant: "default",
      day: "2030-03-17",
      bytesToAgent: 100,
      bytesToVisitor: 200,
      streams: 3,
      connectedMs: 61_000,
    }],
    watched: [agent.id],
  };
  const receipt = await hub.report(report);
  assert.deepEqual(receipt, {
    epoch: "e",
    seq: 1,
    month: "2030-03",
    used: [{ agent: agent.id, bytes: 300 }],
  });
  assert.deepEqual(await hub.report(report), receipt, "a repetition isn't counted");
  const [session] = (await must(200, "GET", "/v1/sessions?agent=a")).body.items;
  assert.deepEqual([session.id, session.remote_address, session.transport, session.streams], [
    "s1",
    "192.0.2.9",
    "sealed",
    2,
  ]);
  await enrolledAgent(master, "b");
  const listed = (await must(200, "GET", "/v1/agents")).body.items as { name: string; sessions: number }[];
  assert.deepEqual(listed.map(({ name, sessions }) => [name, sessions]), [["a", 1], ["b", 0]]);
  await must(204, "DELETE", "/v1/sessions/s1");
  assert.deepEqual((heard.at(-1) as { session: string }).session, "s1");
  await must(404, "DELETE", "/v1/sessions/s2");
  const usage = await must(200, "GET", "/v1/usage?from=2030-03-01&to=2030-03-31");
  assert.deepEqual(usage.body.items, [{
    agent: agent.id,
    name: "a",
    tenant: "default",
    day: "2030-03-17",
    bytes_to_agent: 100,
    bytes_to_visitor: 200,
    streams: 3,
    connected_seconds: 61,
  }]);
  const table = await must(200, "GET", "/v1/usage", undefined, { Accept: "text/csv" });
  assert.equal(
    table.body,
    `agent,name,tenant,day,bytes_to_agent,bytes_to_visitor,streams,connected_seconds\r\n${agent.id},a,default,2030-03-17,100,200,3,61\r\n`,
  );
  await must(422, "GET", "/v1/usage?from=2030-03-31&to=2030-03-01");
  const token = await agent.token();
  assert.equal(token.status, 201);
  await store.ping();
});

test("bad input is refused with the member at fault", async ({ must }) => {
  const cases: [string, Record<string, unknown>][] = [
    ["name", { name: "", hostnames: ["a.example.org"] }],
    ["hostnames", { name: "a", hostnames: [] }],
    ["hostnames", { name: "a", hostnames: ["*.*.example.org"] }],
    ["hostnames", { name: "a", hostnames: ["192.0.2.1"] }],
    ["limits", { name: "a", hostnames: ["a.example.org"], limits: { streams: 0 } }],
    ["limits", { name: "a", hostnames: ["a.example.org"], limits: { speed: 1 } }],
    ["agent_networks", { name: "a", hostnames: ["a.example.org"], agent_networks: ["10.0.0.1/8"] }],
    ["expires_at", { name: "a", hostnames: ["a.example.org"], expires_at: "tomorrow" }],
    ["publish", { name: "a", hostnames: ["a.example.org"], publish: [""] }],
    ["color", { name: "a", hostnames: ["a.example.org"], color: "red" }],
  ];
  for (const [member, wanted] of cases) {
    const { body } = await must(422, "POST", "/v1/agents", wanted);
    assert.equal(body.errors[0].member, member, JSON.stringify(wanted));
  }
  await must(422, "GET", "/v1/agents?limit=0");
  await must(422, "POST", "/v1/enrolments", {
    code: "long-enough-for-a-code",
    public_key: "A".repeat(42) + "B",
  });
  const { body } = await must(405, "PUT", "/v1/agents/a", {});
  assert.match(body.detail, /GET, HEAD, PATCH, DELETE, OPTIONS/);
});

test("a fleet that comes back with one key meets no limit; one name that asks in a loop does", async (master) => {
  for (let index = 0; index < 1_000; index++) {
    const answer = await master.post({ hostname: `n${index}.example.org` });
    if (answer.status !== 201) assert.fail(`agent ${index}: ${answer.status}`);
  }
  let answer = await master.post({ hostname: "n0.example.org" });
  for (let count = 0; count < 60 && answer.status === 201; count++) {
    answer = await master.post({ hostname: "n0.example.org" });
  }
  assert.equal(answer.status, 429);
  assert.ok(Number(answer.headers.get("retry-after")) > 0);
});

test("calls by one key are limited too", async ({ must }) => {
  await must(200, "GET", "/v1/agents");
  await must(200, "GET", "/v1/agents");
  const { headers } = await must(429, "GET", "/v1/agents");
  assert.ok(Number(headers.get("retry-after")) > 0);
}, { apiRequestsPerMinute: 2 });
