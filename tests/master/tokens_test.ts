import { describe, it } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { openToken } from "../../src/protocol/token/token.ts";
import { type Credentials, staticCredentials } from "../../src/master/credentials.ts";
import { type TokenResponse, TokenResponseSchema } from "../../src/master/schemas.ts";
import { parsePrometheus, sampleValue } from "../telemetry/prometheus.ts";
import { ADMIN_KEY, members, problemOf, testMaster, WALL_MS } from "./helpers.ts";
import { MASTER_BODY_DEADLINE_MS, MASTER_BODY_MAX_BYTES } from "../../src/master/guards.ts";
import { TOKEN_TTL_DEFAULT_S, TOKEN_TTL_MAX_S, TOKEN_TTL_MIN_S } from "../../src/protocol/token/token.ts";
import { seedOf } from "../support/seeded.ts";

async function issued(answer: Response): Promise<TokenResponse> {
  assert.equal(answer.status, 201, await answer.clone().text());
  return TokenResponseSchema.strict().parse(await answer.json());
}

describe("POST /v1/tokens", () => {
  it("issues a token for version 2 and an authenticated cipher unless asked otherwise", async () => {
    const { post } = testMaster();
    const answer = await post({ hostname: "a.example.org" });
    assert.match(answer.headers.get("content-type") ?? "", /^application\/json/);
    assert.equal(answer.headers.get("cache-control"), "no-store");
    const { token, aes_key, aes_iv, ...rest } = await issued(answer);
    assert.match(token, /^gA[\w-]+=*$/);
    assert.match(aes_key, /^[0-9a-f]{64}$/);
    assert.match(aes_iv, /^[0-9a-f]{32}$/);
    assert.deepEqual(rest, {
      hostname: "a.example.org",
      alias: [],
      cipher: "aes-gcm",
      protocol_version: 2,
      publish: [],
      valid: Math.floor(WALL_MS / 1000) + TOKEN_TTL_DEFAULT_S,
      edge: { host: "edge.example.net", port: 8443 },
    });
  });

  it("names the cluster's edges for the agent's region, the best first", async () => {
    const asked: (string | undefined)[] = [];
    const edges = [{ host: "near.example.net", port: 8443 }, { host: "far.example.net", port: 443 }];
    const { post } = testMaster({ edges: (region) => (asked.push(region), Promise.resolve(edges)) });
    const answer = await issued(await post({ hostname: "a.example.org", region: "eu" }));
    assert.deepEqual([answer.edge, answer.edges], [edges[0], edges]);
    assert.deepEqual(asked, ["eu"]);
    // Where no node says how agents reach it, the master's own setting holds.
    const alone = testMaster({ edges: () => Promise.resolve([]) });
    const { edge, edges: none } = await issued(await alone.post({ hostname: "a.example.org" }));
    assert.deepEqual([edge.host, none], ["edge.example.net", undefined]);
  });

  it("divides what an agent may have by the edges at which it keeps sessions", async () => {
    const limits = { sessions: 3, streams: 5, visitors_per_second: 10, monthly_bytes: 1_000 };
    const credentials: Credentials = {
      find: () => ({ id: "one", mayServe: () => true, claim: { id: "agent-1", limits } }),
    };
    const { post, ring } = testMaster({ credentials });
    const limitsOf = async (body: Record<string, unknown>) => {
      const { token } = await issued(await post({ hostname: "a.example.org", ...body }));
      return openToken(ring, token, WALL_MS / 1000).extra;
    };
    assert.deepEqual((await limitsOf({})).limits, limits);
    const { limits: share, instance } = await limitsOf({ instance: "run-of-agent.1", edges: 2 });
    assert.deepEqual(share, { sessions: 3, streams: 3, visitors_per_second: 5, monthly_bytes: 1_000 });
    assert.equal(instance, "run-of-agent.1/2");
    // Without a number it is as many as there may be.
    assert.deepEqual((await limitsOf({ instance: "run-of-agent.0" })).limits, {
      ...limits,
      streams: 2,
      visitors_per_second: 3,
    });
    assert.deepEqual(
      members(await problemOf(await post({ hostname: "a.b", instance: "run-of-agent.9" }), 422)),
      ["instance"],
    );
  });

  it("puts into the token what it says beside it", async () => {
    const { post, ring } = testMaster();
    for (const cipher of ["aes-cbc", "aes-gcm", "aes-gcm-siv"]) {
      for (const protocol_version of [0, 1, 2]) {
        const body = {
          hostname: "a.example.org",
          alias: ["b.example.org"],
          cipher,
          protocol_version,
          ttl_seconds: 60,
        };
        const answer = await issued(await post(body));
        assert.equal(answer.cipher, cipher);
        assert.equal(answer.protocol_version, protocol_version);
        assert.equal(answer.valid, Math.floor(WALL_MS / 1000) + 60);
        const inside = openToken(ring, answer.token, WALL_MS / 1000);
        assert.equal(inside.hostname, "a.example.org");
        assert.deepEqual(inside.aliases, ["b.example.org"]);
        assert.equal(inside.valid, answer.valid);
        assert.equal(inside.cipher, cipher);
        assert.equal(inside.protocolVersion, protocol_version);
        assert.equal(inside.aesKey.toHex(), answer.aes_key);
        assert.equal(inside.aesIv.toHex(), answer.aes_iv);
      }
    }
  });

  it("makes fresh key material each time", async () => {
    const { post } = testMaster();
    const seen = new Set<string>();
    for (let round = 0; round < 8; round++) {
      const { aes_key, aes_iv, token } = await issued(await post({ hostname: "a.example.org" }));
      seen.add(aes_key).add(aes_iv).add(token);
    }
    assert.equal(seen.size, 24);
  });

  it("answers with canonical names, each once", async () => {
    const { post } = testMaster();
    const alias = ["B.example.org.", "b.EXAMPLE.org", "A.example.org", "c.example.org"];
    const answer = await issued(await post({ hostname: "A.Example.ORG.", alias }));
    assert.equal(answer.hostname, "a.example.org");
    assert.deepEqual(answer.alias, ["b.example.org", "c.example.org"]);
    // Each once inside the token as well: written out, these would make it too long.
    const many = new Array<string>(200).fill(`${"a".repeat(60)}.${"b".repeat(60)}.example.org`);
    assert.equal((await issued(await post({ hostname: "a", alias: many }))).alias.length, 1);
  });

  it("asks for the edge's address at each request when it is a function", async () => {
    let port = 1;
    const { post } = testMaster({ edgeAddress: () => ({ host: "::1", port: port++ }) });
    assert.deepEqual((await issued(await post({ hostname: "a" }))).edge, { host: "::1", port: 1 });
    assert.deepEqual((await issued(await post({ hostname: "a" }))).edge, { host: "::1", port: 2 });
  });

  it("takes the whole range of lifetimes and no more", async () => {
    const { post } = testMaster();
    for (const ttl of [TOKEN_TTL_MIN_S, TOKEN_TTL_MAX_S]) {
      const { valid } = await issued(await post({ hostname: "a.example.org", ttl_seconds: ttl }));
      assert.equal(valid, Math.floor(WALL_MS / 1000) + ttl);
    }
    for (const ttl of [TOKEN_TTL_MIN_S - 1, TOKEN_TTL_MAX_S + 1, 60.5, -60, "60", null]) {
      const problem = await problemOf(await post({ hostname: "a.example.org", ttl_seconds: ttl }), 422);
      assert.deepEqual(members(problem), ["ttl_seconds"], String(ttl));
    }
  });

  it("keeps to lifetimes of its own", async () => {
    const { post } = testMaster({ ttl: { defaultS: 30, minS: 20, maxS: 40 } });
    assert.equal((await issued(await post({ hostname: "a" }))).valid, Math.floor(WALL_MS / 1000) + 30);
    const problem = await problemOf(await post({ hostname: "a", ttl_seconds: 41 }), 422);
    assert.match(problem.detail, /from 20 to 40/);
  });

  it("takes a charset after the content type, and the scheme in any case", async () => {
    const { post } = testMaster();
    await issued(await post({ hostname: "a" }, { "Content-Type": "Application/JSON; charset=utf-8" }));
    await issued(await post({ hostname: "a" }, { Authorization: `bearer   ${ADMIN_KEY}` }));
  });

  it("counts tokens by version and cipher", async () => {
    const { post, metrics } = testMaster();
    await issued(await post({ hostname: "a", protocol_version: 1, cipher: "aes-gcm-siv" }));
    await problemOf(await post({ hostname: "a", protocol_version: 9 }), 422);
    const seen = parsePrometheus(await metrics.render());
    const labels = { protocol_version: "1", cipher: "aes-gcm-siv" };
    assert.equal(sampleValue(seen, "sallyport_tokens_issued_total", labels), 1);
    assert.equal(seen.samples.filter((sample) => sample.name === "sallyport_tokens_issued_total").length, 1);
  });
});

describe("POST /v1/tokens refuses", () => {
  const wrong: [name: string, body: unknown, pointers: string[]][] = [
    ["a missing hostname", {}, ["#/hostname"]],
    ["a hostname that is no text", { hostname: 5 }, ["#/hostname"]],
    ["an empty hostname", { hostname: "" }, ["#/hostname"]],
    ["a hostname with a space", { hostname: "a b" }, ["#/hostname"]],
    ["a hostname with an empty label", { hostname: "a..b" }, ["#/hostname"]],
    ["a hostname with a control", { hostname: "a\u0000b" }, ["#/hostname"]],
    ["a long hostname", { hostname: "a.".repeat(127) + "a" }, ["#/hostname"]],
    ["a very long hostname", { hostname: "a".repeat(9999) }, ["#/hostname"]],
    ["a wildcard of a top-level domain", { hostname: "*.org" }, ["#/hostname"]],
    ["an alias that is text", { hostname: "a", alias: "b" }, ["#/alias"]],
    ["an alias that is null", { hostname: "a", alias: null }, ["#/alias"]],
    ["aliases at fault, each", { hostname: "a", alias: ["b", "c c", 7] }, ["#/alias/1", "#/alias/2"]],
    ["too many aliases", { hostname: "a", alias: new Array(256).fill("b") }, ["#/alias"]],
    ["an unknown version", { hostname: "a", protocol_version: 3 }, ["#/protocol_version"]],
    ["a version as text", { hostname: "a", protocol_version: "2" }, ["#/protocol_version"]],
    ["an unknown cipher", { hostname: "a", cipher: "rot13" }, ["#/cipher"]],
    ["a null cipher", { hostname: "a", cipher: null }, ["#/cipher"]],
    ["unknown members", { hostname: "a", "aes/key~": "00", x: 1 }, ["#/aes~1key~0", "#/x"]],
    ["__proto__ as a member", '{"hostname":"a","__proto__":{"x":1}}', ["#/__proto__"]],
    ["a list", [], ["#"]],
    ["null", null, ["#"]],
    ["a number", 5, ["#"]],
    ["several faults at once", { cipher: 1, ttl_seconds: 0 }, ["#/hostname", "#/cipher", "#/ttl_seconds"]],
  ];
  for (const [name, body, pointers] of wrong) {
    it(`${name} with 422 and where it is`, async () => {
      const { post } = testMaster();
      const problem = await problemOf(await post(body), 422);
      const seen = (problem.errors ?? []).map((fault) => decodeURIComponent(fault.pointer ?? ""));
      assert.deepEqual(seen.sort(), [...pointers].sort());
      assert.match(problem.detail, /^Cannot issue token: /);
      assert.ok(problem.errors?.every((fault) => fault.detail !== ""));
    });
  }

  it("says what a missing member is and what a wrong one should be", async () => {
    const { post } = testMaster();
    const missing = await problemOf(await post({}), 422);
    assert.equal(missing.detail, "Cannot issue token: hostname is required");
    const cipher = await problemOf(await post({ hostname: "a", cipher: "x" }), 422);
    assert.equal(cipher.detail, "Cannot issue token: cipher must be one of aes-cbc, aes-gcm, aes-gcm-siv");
  });

  it("a token that no edge would take", async () => {
    const { post } = testMaster();
    const alias = Array.from(
      { length: 200 },
      (_, index) => `${"a".repeat(60)}.${"b".repeat(60)}.x${index}.org`,
    );
    const problem = await problemOf(await post({ hostname: "a", alias }), 422);
    assert.deepEqual(members(problem), ["alias"]);
    assert.match(problem.detail, /edges accept at most 16384/);
  });

  it("a list of unknown members without giving all of it back", async () => {
    const { post } = testMaster();
    const body = Object.fromEntries(
      Array.from({ length: 1000 }, (_, index) => [`${"n".repeat(40)}${index}`, 1]),
    );
    const answer = await post({ hostname: "a", ...body });
    const text = await answer.clone().text();
    await problemOf(answer, 422);
    assert.ok(text.length < 6_000, `${text.length} characters`);
  });

  it("a body that is no JSON with 400", async () => {
    const { post } = testMaster();
    for (const body of ["", "{", "{'hostname':'a'}", '{"hostname":"a"} x', "\ufeff\ufeff{}", "NaN"]) {
      const problem = await problemOf(await post(body), 400);
      assert.deepEqual(members(problem), ["body"], body);
    }
  });

  it("a body that is not UTF-8 with 400", async () => {
    const { request } = testMaster();
    const body = new Uint8Array([...new TextEncoder().encode('{"hostname":"'), 0xff, 0xfe, 0x22, 0x7d]);
    const headers = { Authorization: `Bearer ${ADMIN_KEY}`, "Content-Type": "application/json" };
    await problemOf(await request("/v1/tokens", { method: "POST", headers, body }), 400);
  });

  it("a body that breaks off with 400", async () => {
    const { request, lines } = testMaster();
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        controller.enqueue(new TextEncoder().encode('{"hostname":'));
        controller.error(new Error("connection reset"));
      },
    });
    const headers = { Authorization: `Bearer ${ADMIN_KEY}`, "Content-Type": "application/json" };
    const init = { method: "POST", headers, body, duplex: "half" } as RequestInit;
    await problemOf(await request("/v1/tokens", init), 400);
    assert.ok(lines.every((line) => !line.includes('"level":"error"')), "a client's fault is logged as ours");
  });

  it("a body that isn't complete in time with 408, and reads no more of it", async () => {
    const { request, lines, timers } = testMaster();
    const cancelled = Promise.withResolvers<void>();
    const asked = Promise.withResolvers<void>();
    let parts = 0;
    const slow = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (parts++ === 0) controller.enqueue(new TextEncoder().encode('{"hostname":'));
        else asked.resolve();
        return parts > 1 ? new Promise(() => {}) : undefined;
      },
      cancel: () => cancelled.resolve(),
    });
    const headers = { Authorization: `Bearer ${ADMIN_KEY}`, "Content-Type": "application/json" };
    const init = { method: "POST", headers, body: slow, duplex: "half" } as RequestInit;
    const answering = request("/v1/tokens", init);
    await asked.promise;
    const [timer] = timers;
    assert.deepEqual([timers.length, timer?.delayMs], [1, MASTER_BODY_DEADLINE_MS]);
    timer?.run();
    const answer = await answering;
    assert.equal(answer.headers.get("connection"), "close");
    const problem = await problemOf(answer, 408);
    assert.equal(problem.detail, "Cannot read body: it must be complete within 10 s");
    assert.deepEqual(members(problem), ["body"]);
    await cancelled.promise;
    assert.ok(lines.every((line) => !line.includes('"level":"error"')), "a client's fault is logged as ours");
  });

  it("no body for the time that others took: its deadline ends with it", async () => {
    const { post, timers } = testMaster();
    for (const body of [{ hostname: "a" }, "{", "x".repeat(MASTER_BODY_MAX_BYTES + 1)]) await post(body);
    assert.ok(timers.length >= 2 && timers.every((timer) => timer.cancelled));
  });

  it("valid JSON cut at any byte", async () => {
    const { post } = testMaster({ tokensPerMinute: 1 });
    const whole = JSON.stringify({ hostname: "a.example.org", alias: ["b"], ttl_seconds: 60 });
    for (let length = 0; length < whole.length; length++) {
      await problemOf(await post(whole.slice(0, length)), 400);
    }
    assert.equal((await post(whole)).status, 201);
  });

  it("another content type, or none, with 415", async () => {
    const { post, request } = testMaster();
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "x"]) {
      const problem = await problemOf(await post({ hostname: "a" }, { "Content-Type": type }), 415);
      assert.deepEqual(members(problem), ["Content-Type"], type);
    }
    const headers = { Authorization: `Bearer ${ADMIN_KEY}` };
    await problemOf(await request("/v1/tokens", { method: "POST", headers }), 415);
  });

  it("a body over its limit with 413, whether it says so or not", async () => {
    const { post, request } = testMaster();
    const pad = (bytes: number) => {
      const body = JSON.stringify({ hostname: "a", x: "" });
      return body.replace('""', `"${"y".repeat(bytes - body.length)}"`);
    };
    assert.deepEqual(members(await problemOf(await post(pad(MASTER_BODY_MAX_BYTES)), 422)), ["x"]);
    await problemOf(await post(pad(MASTER_BODY_MAX_BYTES + 1)), 413);
    const announced = { "Content-Length": String(MASTER_BODY_MAX_BYTES + 1) };
    await problemOf(await post("{}", announced), 413);

    let pulled = 0;
    let cancelled = false;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        pulled++;
        controller.enqueue(new Uint8Array(16_384).fill(0x20));
      },
      cancel() {
        cancelled = true;
      },
    });
    const headers = { Authorization: `Bearer ${ADMIN_KEY}`, "Content-Type": "application/json" };
    const init = { method: "POST", headers, body: endless, duplex: "half" } as RequestInit;
    await problemOf(await request("/v1/tokens", init), 413);
    assert.ok(cancelled, "the rest is still being read");
    assert.ok(pulled < 10, `${pulled} chunks were read`);
  });

  it("names that the credential may not serve with 403, each of them", async () => {
    const credentials = staticCredentials([{
      id: "c1",
      key: "k1",
      names: ["*.example.org", "a.example.net"],
    }]);
    const { post, metrics } = testMaster({ credentials });
    const as = { Authorization: "Bearer k1" };
    await issued(await post({ hostname: "A.example.net", alias: ["b.example.org", "c.d.example.org"] }, as));
    const alias = ["b.example.org", "evil.org", "example.org"];
    const problem = await problemOf(await post({ hostname: "b.example.net", alias }, as), 403);
    assert.deepEqual(problem.errors?.map((fault) => fault.pointer), ["#/hostname", "#/alias/1", "#/alias/2"]);
    assert.equal(
      problem.detail,
      'Cannot issue token: hostname "b.example.net" is not a name that this key may serve',
    );
    const seen = parsePrometheus(await metrics.render());
    assert.equal(sampleValue(seen, "sallyport_tokens_issued_total"), 1);
  });
});

describe("POST /v1/tokens, transports", () => {
  it("stand in the token where they are asked for", async () => {
    const { post, ring } = testMaster();
    const answer = await issued(await post({ hostname: "a.example.org", transports: ["sealed", "curve"] }));
    assert.deepEqual(openToken(ring, answer.token, WALL_MS / 1000).extra, {
      transports: ["sealed", "curve"],
    });
    for (const wrong of ["sealed", [], ["TLS 1.3"], [7], new Array(17).fill("sealed")]) {
      const problem = await problemOf(await post({ hostname: "a.example.org", transports: wrong }), 422);
      assert.match(problem.errors?.[0]?.pointer ?? "", /^#\/transports/);
    }
  });
});

describe("POST /v1/tokens, wildcards", () => {
  it("are given to who may serve them, and to nobody else", async () => {
    const credentials = staticCredentials([
      { id: "all", key: "k1", names: ["*.example.org"] },
      { id: "one", key: "k2", names: ["a.home.example.org"] },
    ]);
    const { post, ring } = testMaster({ credentials });
    const body = { hostname: "home.example.org", alias: ["*.Home.example.org.", "*.example.org"] };
    const answer = await issued(await post(body, { Authorization: "Bearer k1" }));
    assert.deepEqual(openToken(ring, answer.token, WALL_MS / 1000).aliases, [
      "*.home.example.org",
      "*.example.org",
    ]);
    const refused = { hostname: "a.home.example.org", alias: ["*.home.example.org"] };
    const problem = await problemOf(await post(refused, { Authorization: "Bearer k2" }), 403);
    assert.deepEqual(problem.errors?.map((fault) => fault.pointer), ["#/alias/0"]);
  });
});

describe("POST /v1/tokens, public ports", () => {
  it("go into the token and the answer in one form, and only where they are asked for", async () => {
    const { post, ring } = testMaster();
    const claims = async (body: Record<string, unknown>) => {
      const answer = await issued(await post({ hostname: "a.example.org", ...body }));
      return { answer: answer.publish, extra: openToken(ring, answer.token, WALL_MS / 1000).extra };
    };
    assert.deepEqual(await claims({}), { answer: [], extra: {} });
    const publish = ["tcp:2222", "tcp", "tcp"];
    assert.deepEqual(await claims({ publish: ["tcp:2222", "tcp", "tcp:0"] }), {
      answer: publish,
      extra: { publish },
    });
    for (const wrong of ["tcp", ["udp:1"], ["tcp:65536"], [7], new Array(17).fill("tcp")]) {
      const problem = await problemOf(await post({ hostname: "a.example.org", publish: wrong }), 422);
      assert.match(problem.errors?.[0]?.pointer ?? "", /^#\/publish/);
    }
  });

  it("are refused with 403 to a key that may not have them, each of them", async () => {
    const credentials = staticCredentials([
      { id: "none", key: "k0", names: ["*"] },
      { id: "one", key: "k1", names: ["*"], publish: ["tcp:2222"] },
      { id: "any", key: "k2", names: ["*"], publish: ["tcp"] },
    ]);
    const { post } = testMaster({ credentials });
    const asked = (key: string, publish: string[]) =>
      post({ hostname: "a.example.org", publish }, { Authorization: `Bearer ${key}` });
    const refused = async (key: string, publish: string[]) =>
      (await problemOf(await asked(key, publish), 403)).errors?.map((fault) => fault.pointer);
    assert.deepEqual(await refused("k0", ["tcp"]), ["#/publish/0"]);
    assert.deepEqual(await refused("k1", ["tcp:2222", "tcp:2223", "tcp"]), ["#/publish/1", "#/publish/2"]);
    await issued(await asked("k1", ["tcp:2222"]));
    await issued(await asked("k2", ["tcp", "tcp:2223"]));
  });
});

describe("POST /v1/tokens, random bodies", () => {
  it("never fails with 500, and never issues without a fit hostname", async () => {
    const { post } = testMaster({ tokensPerMinute: 1_000_000 });
    const member = fc.constantFrom(
      "hostname",
      "alias",
      "protocol_version",
      "cipher",
      "ttl_seconds",
      "__proto__",
    );
    const value = fc.oneof(
      fc.constantFrom<unknown>("a.example.org", ["b.example.org"], 0, 1, 2, 60, "aes-gcm", null),
      fc.jsonValue({ maxDepth: 3 }),
      fc.string({ unit: "binary" }),
    );
    const body = fc.oneof(
      fc.array(fc.tuple(member, value), { maxLength: 6 }).map((entries) => {
        return `{${
          entries.map(([name, value]) => `"${name}":${JSON.stringify(value) ?? "null"}`).join(",")
        }}`;
      }),
      fc.json(),
      fc.string({ unit: "binary" }),
    );
    await fc.assert(
      fc.asyncProperty(body, async (text) => {
        const answer = await post(text);
        assert.ok([201, 400, 413, 422].includes(answer.status), `${answer.status} for ${text}`);
        if (answer.status === 201) {
          assert.equal(typeof (JSON.parse(text) as { hostname: unknown }).hostname, "string");
        } else {
          assert.ok((await problemOf(answer, answer.status as 400)).errors?.length);
        }
      }),
      { seed: seedOf(20_260_131), numRuns: 400 },
    );
  });
});
