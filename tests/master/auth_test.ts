import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { clientAddress } from "../../src/master/client_address.ts";
import { staticCredentials } from "../../src/master/credentials.ts";
import { FailureLimit, IssueLimit } from "../../src/master/rate_limits.ts";
import { NetworkSet } from "../../src/wire/ip/networks.ts";
import { parsePrometheus, sampleValue } from "../telemetry/prometheus.ts";
import { ADMIN_KEY, members, problemOf, testMaster } from "./helpers.ts";
import { AUTH_FAILURES_PER_MINUTE_MAX } from "../../src/master/app.ts";
import { TOKENS_PER_MINUTE_MAX } from "../../src/master/limits.ts";

const BODY = { hostname: "a.example.org" };

function retryAfter(answer: Response): number {
  const text = answer.headers.get("retry-after") ?? "";
  assert.match(text, /^\d+$/);
  return Number(text);
}

describe("authenticate", () => {
  it("asks for a key with 401 when there is none", async () => {
    const { request } = testMaster();
    const answer = await request("/v1/tokens", { method: "POST", body: "{" });
    assert.equal(answer.headers.get("www-authenticate"), 'Bearer realm="sallyport"');
    const problem = await problemOf(answer, 401);
    assert.deepEqual(members(problem), ["Authorization"]);
  });

  it("refuses wrong keys and other schemes with 401 before it looks at the body", async () => {
    const { post, metrics } = testMaster();
    const headers = [
      "Bearer wrong",
      `Bearer ${ADMIN_KEY}x`,
      `Bearer ${ADMIN_KEY.slice(0, -1)}`,
      `Basic ${btoa(`admin:${ADMIN_KEY}`)}`,
      ADMIN_KEY,
      "Bearer",
      `Bearer ${ADMIN_KEY} ${ADMIN_KEY}`,
      `Bearer ${"x".repeat(100_000)}`,
    ];
    for (const Authorization of headers) {
      const answer = await post("no json", { Authorization, "Content-Type": "text/plain" });
      assert.match(answer.headers.get("www-authenticate") ?? "", /^Bearer .*error="invalid_token"$/);
      const problem = await problemOf(answer, 401);
      assert.deepEqual(members(problem), ["Authorization"], Authorization.slice(0, 40));
    }
    const labels = { what: "agent", reason: "credential_refused" };
    const seen = parsePrometheus(await metrics.render());
    assert.equal(sampleValue(seen, "sallyport_refusals_total", labels), headers.length);
  });

  it("waits for a store that answers later", async () => {
    const found = { id: "late", mayServe: () => true };
    const credentials = { find: (key: string) => Promise.resolve(key === "k" ? found : undefined) };
    const { post } = testMaster({ credentials });
    assert.equal((await post(BODY, { Authorization: "Bearer k" })).status, 201);
    await problemOf(await post(BODY, { Authorization: "Bearer j" }), 401);
  });

  it("logs neither keys nor tokens", async () => {
    const { post, lines } = testMaster();
    const { token, aes_key } = await (await post(BODY)).json() as { token: string; aes_key: string };
    await post(BODY, { Authorization: "Bearer wrong-key-of-somebody" });
    const log = lines.join("");
    assert.match(log, /token issued/);
    assert.match(log, /credential_refused/);
    for (const secret of [token, aes_key, ADMIN_KEY, "wrong-key-of-somebody"]) {
      assert.ok(!log.includes(secret));
    }
  });
});

describe("FailureLimit: too many wrong keys", () => {
  const wrong = { Authorization: "Bearer wrong" };

  it("are answered with 429 from the address that they come from, right keys included, and from no other", async () => {
    const { post, metrics } = testMaster();
    const from = { host: "198.51.100.1", port: 1 };
    for (let count = 0; count < AUTH_FAILURES_PER_MINUTE_MAX; count++) {
      await problemOf(await post(BODY, wrong, { ...from, port: 1000 + count }), 401);
    }
    for (const headers of [wrong, {}]) {
      const answer = await post(BODY, headers, from);
      const waitS = retryAfter(answer);
      assert.ok(waitS > 0 && waitS <= 60);
      assert.deepEqual(members(await problemOf(answer, 429)), ["Authorization"]);
    }
    assert.equal((await post(BODY, {}, { host: "198.51.100.2", port: 1 })).status, 201);
    const labels = { what: "agent", reason: "limit_exceeded" };
    assert.equal(sampleValue(parsePrometheus(await metrics.render()), "sallyport_refusals_total", labels), 2);
  });

  it("count for the /64 of an IPv6 address, and for the IPv4 address of a mapped one", async () => {
    const { post } = testMaster({ authFailuresPerMinute: 2 });
    const at = (host: string) => ({ host, port: 1 });
    await problemOf(await post(BODY, wrong, at("2001:db8:1:2::1")), 401);
    await problemOf(await post(BODY, wrong, at("2001:db8:1:2:ffff::2")), 401);
    await problemOf(await post(BODY, wrong, at("2001:0db8:1:2:0:0:0:3")), 429);
    assert.equal((await post(BODY, {}, at("2001:db8:1:3::1"))).status, 201);
    await problemOf(await post(BODY, wrong, at("192.0.2.99")), 401);
    await problemOf(await post(BODY, wrong, at("::ffff:192.0.2.99")), 401);
    await problemOf(await post(BODY, wrong, at("192.0.2.99")), 429);
  });

  it("don't count where right ones come in between, nor where there is none", async () => {
    const { post, request } = testMaster({ authFailuresPerMinute: 1 });
    for (let count = 0; count < 5; count++) {
      await problemOf(await request("/v1/tokens", { method: "POST" }), 401);
      assert.equal((await post(BODY)).status, 201);
    }
  });

  it("count for whom a trusted proxy names, and for nobody whom the client names itself", async () => {
    const { post } = testMaster({
      authFailuresPerMinute: 1,
      forwardedFrom: new NetworkSet(["10.0.0.0/8", "fd00::/8"]),
    });
    const sent = (headers: Record<string, string>, forwarded: string, host = "10.0.0.1") =>
      post(BODY, { ...headers, "X-Forwarded-For": forwarded }, { host, port: 1 });
    await problemOf(await sent(wrong, "198.51.100.1"), 401);
    await problemOf(await sent({}, "198.51.100.1"), 429);
    await problemOf(await sent({}, "192.0.2.1, 198.51.100.1, 10.0.0.2"), 429);
    assert.equal((await sent({}, "198.51.100.1, 198.51.100.2")).status, 201);
    // A peer that is no proxy is believed nothing.
    await problemOf(await sent(wrong, "198.51.100.3", "203.0.113.9"), 401);
    await problemOf(await sent({}, "198.51.100.4", "203.0.113.9"), 429);
    assert.equal((await sent({}, "198.51.100.3")).status, 201);
  });

  it("work without an address", async () => {
    const { app } = testMaster({ authFailuresPerMinute: 1 });
    const init = { method: "POST", headers: wrong };
    assert.equal((await app.request("/v1/tokens", init)).status, 401);
    assert.equal((await app.request("/v1/tokens", init)).status, 429);
  });
});

/** Agents that come back after a restart. */
const FLEET = 500;

describe("IssueLimit: too many tokens", () => {
  it("are answered with 429 for the credential that has them, and for no other", async () => {
    const credentials = staticCredentials([
      { id: "one", key: "k1", names: ["*"] },
      { id: "two", key: "k2", names: ["*"] },
    ]);
    const { post, metrics } = testMaster({ credentials, tokensPerMinute: 3 });
    for (let count = 0; count < 3; count++) {
      assert.equal((await post(BODY, { Authorization: "Bearer k1" })).status, 201);
    }
    const answer = await post(BODY, { Authorization: "Bearer k1" });
    assert.ok(retryAfter(answer) > 0 && retryAfter(answer) <= 60);
    await problemOf(answer, 429);
    assert.equal((await post(BODY, { Authorization: "Bearer k2" })).status, 201);
    const seen = parsePrometheus(await metrics.render());
    assert.equal(sampleValue(seen, "sallyport_tokens_issued_total"), 4);
  });

  it("meet no limit where a fleet with one credential comes back, a name each", async () => {
    const { post } = testMaster({ tokensPerMinute: 1 });
    for (let count = 0; count < FLEET; count++) {
      assert.equal((await post({ ...BODY, hostname: `a${count}.example.org` })).status, 201);
    }
    await problemOf(await post({ ...BODY, hostname: "a7.example.org" }), 429);
  });

  it("don't count requests that fail before", async () => {
    const { post } = testMaster({ tokensPerMinute: 1 });
    for (let count = 0; count < 3; count++) await problemOf(await post({}), 422);
    assert.equal((await post(BODY)).status, 201);
  });

  it("stop at the limit of limits.ts unless told otherwise", async () => {
    const limit = new IssueLimit(TOKENS_PER_MINUTE_MAX);
    for (let count = 0; count < TOKENS_PER_MINUTE_MAX; count++) assert.equal(await limit.take("one"), 0);
    assert.ok(await limit.take("one") > 0);
  });
});

describe("FailureLimit and IssueLimit", () => {
  it("start anew when a minute has passed", async (t) => {
    t.mock.timers.enable({ apis: ["Date"], now: 1_900_000_000_000 });
    try {
      const failures = new FailureLimit(1);
      const issues = new IssueLimit(1);
      await failures.count("a");
      assert.equal(await issues.take("a"), 0);
      t.mock.timers.setTime(1_900_000_059_100);
      assert.equal(await failures.blockedForS("a"), 1);
      assert.equal(await issues.take("a"), 1);
      t.mock.timers.setTime(1_900_000_060_000);
      assert.equal(await failures.blockedForS("a"), 0);
      assert.equal(await issues.take("a"), 0);
    } finally {
      t.mock.timers.reset();
    }
  });
});

describe("clientAddress", () => {
  const trusted = new NetworkSet(["10.0.0.0/8", "::1/128"]);
  for (
    const [peer, header, client] of [
      ["10.0.0.1", undefined, "10.0.0.1"],
      ["10.0.0.1", "", "10.0.0.1"],
      ["10.0.0.1", "unknown", "10.0.0.1"],
      ["10.0.0.1", "192.0.2.1, unknown", "10.0.0.1"],
      ["10.0.0.1", "192.0.2.1", "192.0.2.1"],
      ["10.0.0.1", " 192.0.2.1:4711 ", "192.0.2.1"],
      ["10.0.0.1", "2001:db8::1", "2001:db8::1"],
      ["10.0.0.1", "[2001:DB8:0::1]:443", "2001:db8::1"],
      ["10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3"],
      ["::1", "192.0.2.1, 10.9.9.9", "192.0.2.1"],
      ["192.0.2.9", "192.0.2.1", "192.0.2.9"],
      ["unknown", "192.0.2.1", "unknown"],
      ["10.0.0.1", "192.0.2.1," + "10.0.0.2,".repeat(100_000) + "10.0.0.3", "10.0.0.2"],
    ] as const
  ) {
    it(`is ${client} for ${peer} and ${header?.slice(0, 40)}`, () => {
      assert.equal(clientAddress(peer, header, trusted), client);
    });
  }
});
