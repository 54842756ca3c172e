import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createAgent } from "../../src/agent/agent.ts";
import { type MasterGrantOptions, masterGrants } from "../../src/agent/grant.ts";
import { SallyportError } from "../../src/errors.ts";
import { createMasterApp } from "../../src/master/app.ts";
import { staticCredentials } from "../../src/master/credentials.ts";
import type { Runtime } from "../../src/runtime/port.ts";
import {
  AGENT_HOST,
  bytesFrom,
  EDGE_HOST,
  EDGE_PORT,
  type LogLine,
  recordingLogger,
  TestEdge,
  WatchedStream,
} from "../support/tunnel.ts";
import { until } from "../support/until.ts";

const CREDENTIAL = "agent-key.for_tests~1234567890";
const OTHER_CREDENTIAL = "other-key.for_tests~1234567890";

/** A session master beside an edge, reached by a function in place of a network. */
async function withMaster() {
  const test = await TestEdge.start();
  const master = createMasterApp({
    ring: test.ring,
    credentials: staticCredentials([
      { id: "a", key: CREDENTIAL, names: ["a.test", "*.a.test"] },
      { id: "other", key: OTHER_CREDENTIAL, names: ["other.test"] },
    ]),
    edgeAddress: { host: EDGE_HOST, port: EDGE_PORT },
    clock: test.network.clock,
  });
  const requests: Request[] = [];
  const grants = (options: Partial<MasterGrantOptions> = {}) =>
    masterGrants({
      master: "https://master.test",
      credential: CREDENTIAL,
      hostname: "a.test",
      anyEdge: true,
      fetch: async (request) => {
        requests.push(request);
        return await master.fetch(request, { remote: { host: AGENT_HOST, port: 1 } });
      },
      ...options,
    });
  return { test, grants, requests };
}

/** Grants from a master that answers as it is told to. */
function answering(
  answer: () => Response | Promise<Response>,
  master = "https://master.test/base",
): Promise<unknown> {
  const grants = masterGrants({
    master,
    credential: CREDENTIAL,
    hostname: "a.test",
    fetch: async () => await answer(),
  });
  return grants().then(() => assert.fail("a grant came"), (error) => error);
}

function assertSaid(error: unknown, code: string, message: RegExp, retryable: boolean): void {
  assert.ok(error instanceof SallyportError, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, message);
  assert.equal(error.retryable, retryable);
  assert.ok(!error.message.includes(CREDENTIAL));
}

describe("masterGrants with the session master", () => {
  it("gives what a session needs, fresh each time", async () => {
    const { test, grants, requests } = await withMaster();
    const source = grants({
      aliases: ["b.a.test"],
      protocolVersion: 1,
      cipher: "aes-gcm-siv",
      ttlSeconds: 600,
    });
    const [one, two] = [await source(), await source()];
    assert.equal(one.hostname, "a.test");
    assert.deepEqual(one.aliases, ["b.a.test"]);
    assert.equal(one.protocolVersion, 1);
    assert.equal(one.cipher, "aes-gcm-siv");
    assert.equal(one.valid, Math.floor(test.network.clock.wallMs() / 1000) + 600);
    assert.deepEqual(one.edge, { host: EDGE_HOST, port: EDGE_PORT });
    assert.notEqual(one.token, two.token);
    assert.notDeepEqual(one.aesKey, two.aesKey);
    assert.equal(requests[0]!.url, "https://master.test/v1/tokens");
    assert.equal(requests[0]!.redirect, "error");
    await test.assertNothingLeft();
  });

  it("asks for version 2 and an authenticated cipher by leaving the choice to the master", async () => {
    const { grants } = await withMaster();
    const grant = await grants()();
    assert.equal(grant.protocolVersion, 2);
    assert.equal(grant.cipher, "aes-gcm");
  });

  it("serves an agent: sessions, renewal, visitors", async () => {
    const { test, grants, requests } = await withMaster();
    const inner = test.runtime(AGENT_HOST);
    // The agent's own wall clock is a year off; the master's counts.
    const runtime: Runtime = {
      ...inner,
      clock: { ...inner.clock, wallMs: () => inner.clock.wallMs() - 3e10 },
    };
    const streams: WatchedStream[] = [];
    const agent = createAgent({
      runtime,
      grants: grants({ ttlSeconds: 100, aliases: ["b.a.test"] }),
      connector: (stream) => void streams.push(new WatchedStream(stream)),
    });
    const running = agent.run();
    // The app's answer isn't made of virtual events: it needs turns of the real loop.
    await until(async () => {
      await test.advance(2);
      return test.edge.serves("a.test");
    });
    const { hello } = await test.visit("b.a.test");
    assert.deepEqual(bytesFrom(streams[0]!), hello);
    await test.advance(79_000);
    assert.equal(requests.length, 1);
    const first = agent.session;
    while (requests.length < 2) await test.advance(1);
    await until(async () => {
      await test.advance(2);
      return agent.session !== first;
    });
    await test.visit("a.test");
    assert.equal(streams.length, 2);
    await test.network.settle(agent.close(0));
    await running;
    await test.assertNothingLeft();
  });

  it("says plainly that a credential is refused, for a wrong key and for another's name", async () => {
    const { grants } = await withMaster();
    for (const options of [{ credential: "wrong-key.for_tests~1234567" }, { credential: OTHER_CREDENTIAL }]) {
      const error = await grants(options)().catch((error) => error);
      assertSaid(
        error,
        "credential_refused",
        /^Cannot get token from https:\/\/master\.test: credential refused: /,
        false,
      );
      assert.equal(error.side, "config");
    }
  });

  it("makes an agent's run reject where its first attempt shows that", async () => {
    const { test, grants } = await withMaster();
    const lines: LogLine[] = [];
    const agent = createAgent({
      runtime: test.runtime(AGENT_HOST),
      grants: grants({ credential: OTHER_CREDENTIAL }),
      connector: () => {},
      log: recordingLogger(lines),
    });
    await assert.rejects(agent.run(), { code: "credential_refused" });
    assert.ok(!JSON.stringify(lines).includes(OTHER_CREDENTIAL));
    await test.assertNothingLeft(0);
  });

  it("says which member the master found fault with", async () => {
    const { grants } = await withMaster();
    const error = await grants({ ttlSeconds: 1 })().catch((error) => error);
    assertSaid(error, "config_invalid", /it answered 422: .*ttl_seconds/, false);
  });
});

describe("masterGrants with a master that is out of order", () => {
  const problem = (status: number, body: string, type = "application/problem+json") => () =>
    new Response(body, { status, headers: { "content-type": type } });

  it("says so where it can't be reached", async () => {
    const error = await answering(() => Promise.reject(new TypeError("connection refused")));
    assertSaid(
      error,
      "master_unreachable",
      /^Cannot get token from https:\/\/master\.test: connection refused: /,
      true,
    );
  });

  it("counts answers that may be different later among these", async () => {
    for (const status of [408, 429, 500, 502, 503]) {
      assertSaid(
        await answering(problem(status, "busy", "text/html")),
        status === 429 ? "limit_exceeded" : "master_unreachable",
        new RegExp(`answered ${status}`),
        true,
      );
    }
  });

  it("gives the problem's own words", async () => {
    const detail = JSON.stringify({ title: "Too many", detail: "wait a minute" });
    assertSaid(
      await answering(problem(429, detail)),
      "limit_exceeded",
      /it answered 429: wait a minute$/,
      true,
    );
    assertSaid(
      await answering(problem(401, "{}")),
      "credential_refused",
      /it answered 401, not in a session master's words: check the address$/,
      false,
    );
    assertSaid(
      await answering(problem(404, "no")),
      "config_invalid",
      /it answered 404, not in a session master's words/,
      false,
    );
  });

  it("doesn't take an answer that isn't a grant", async () => {
    const whole = {
      token: `gAAAAA${"A".repeat(94)}`,
      hostname: "a.test",
      alias: [],
      aes_key: "00".repeat(32),
      aes_iv: "00".repeat(16),
      cipher: "aes-gcm",
      protocol_version: 2,
      valid: 1,
      edge: { host: "e", port: 1 },
    };
    const wrong: [string, unknown][] = [
      ["body", "<html>"],
      ["body", []],
      ["token", { ...whole, token: "" }],
      ["token", { ...whole, token: "GET / HTTP/1.1\r\nHost: router\r\n\r\n" }],
      ["token", { ...whole, token: `gAAAAA${"A".repeat(17_000)}` }],
      ["aes_key", { ...whole, aes_key: "00" }],
      ["aes_iv", { ...whole, aes_iv: "zz".repeat(16) }],
      ["cipher", { ...whole, cipher: "rot13" }],
      ["protocol_version", { ...whole, protocol_version: 3 }],
      ["edge.port", { ...whole, edge: { host: "e", port: 0 } }],
      ["valid", { ...whole, valid: "soon" }],
    ];
    for (const [member, body] of wrong) {
      const text = typeof body === "string" ? body : JSON.stringify(body);
      const error = await answering(problem(201, text, "application/json"));
      assertSaid(error, "master_unreachable", new RegExp(`its answer can't be used: ${member}`), true);
    }
  });

  it("insists on the cipher and the version that it asked for", async () => {
    const { test, grants } = await withMaster();
    const weaker = async (asked: Partial<MasterGrantOptions>, member: Record<string, unknown>) => {
      const real = masterGrants({
        master: "https://master.test",
        credential: "c",
        hostname: "a.test",
        fetch: () =>
          Promise.resolve(
            new Response(
              JSON.stringify({
                token: test.token().token,
                hostname: "a.test",
                aes_key: "00".repeat(32),
                aes_iv: "00".repeat(16),
                cipher: "aes-gcm",
                protocol_version: 2,
                valid: 1,
                edge: { host: "e", port: 1 },
                ...member,
              }),
              { status: 201 },
            ),
          ),
        ...asked,
      });
      return await real().then(
        ({ cipher, protocolVersion }) => `${cipher} ${protocolVersion}`,
        (error) => error,
      );
    };
    assert.equal(await weaker({ cipher: "aes-gcm", protocolVersion: 2 }, {}), "aes-gcm 2");
    assertSaid(
      await weaker({ cipher: "aes-gcm" }, { cipher: "aes-cbc" }),
      "token_invalid",
      /its cipher is aes-cbc, but aes-gcm was requested/,
      true,
    );
    assertSaid(
      await weaker({ protocolVersion: 2 }, { protocol_version: 0 }),
      "token_invalid",
      /its protocol_version is 0, but 2 was requested/,
      true,
    );
    assert.equal((await grants({ cipher: "aes-cbc" })()).cipher, "aes-cbc");
  });

  it("keeps the base URL's path", async () => {
    for (const master of ["https://master.test/base", "https://master.test/base/"]) {
      let url = "";
      const grants = masterGrants({
        master,
        credential: "c",
        hostname: "a.test",
        fetch: (request) => {
          url = request.url;
          return Promise.reject(new Error("enough"));
        },
      });
      await assert.rejects(grants(), { code: "master_unreachable" });
      assert.equal(url, "https://master.test/base/v1/tokens");
    }
  });

  it("says when the master wants to be asked again", async () => {
    for (const [header, waitMs] of [["7", 7_000], ["86400", 600_000], ["soon", undefined]] as const) {
      const error = await answering(() =>
        new Response("{}", { status: 429, headers: { "retry-after": header } })
      );
      assert.equal((error as SallyportError).retryAfterMs, waitMs, header);
    }
  });

  it("reads no more of an answer than it needs", async () => {
    let given = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        given += 65_536;
        controller.enqueue(new Uint8Array(65_536));
      },
    });
    assertSaid(
      await answering(() => new Response(endless, { status: 201 })),
      "master_unreachable",
      /more than 262144 bytes/,
      true,
    );
    assert.ok(given < 1_000_000, `${given} bytes`);
  });

  it("waits 15 s at most for a whole answer, for its body too", async (t) => {
    const time = new AbortController();
    const asked: number[] = [];
    t.mock.method(AbortSignal, "timeout", (ms: number) => {
      asked.push(ms);
      return time.signal;
    });
    const grants = masterGrants({
      master: "https://master.test",
      credential: CREDENTIAL,
      hostname: "a.test",
      fetch: ({ signal }) => {
        // As fetch does: the signal that ends a request ends the answer's body.
        const body = new ReadableStream<Uint8Array>({
          start: (controller) => {
            controller.enqueue(new TextEncoder().encode("{"));
            signal.addEventListener("abort", () => controller.error(signal.reason));
            queueMicrotask(() => time.abort(new DOMException("The time is over", "TimeoutError")));
          },
        });
        return Promise.resolve(new Response(body, { status: 201 }));
      },
    });
    const error = await grants().then(() => assert.fail("a grant came"), (error) => error);
    assertSaid(error, "master_unreachable", /^Cannot get token from https:\/\/master\.test: /, true);
    assert.deepEqual(asked, [15_000]);
  });

  it("lets nothing in the master's words steer a terminal", async () => {
    const detail = JSON.stringify({ detail: "\x1b[31mred\nline" });
    assertSaid(
      await answering(problem(404, detail)),
      "config_invalid",
      /404: \\u\{1b\}\[31mred\\u\{a\}line$/,
      false,
    );
  });

  it("doesn't call another machine by http without consent", async () => {
    const options = {
      credential: CREDENTIAL,
      hostname: "a.test",
      fetch: () => Promise.reject(new Error("called")),
    };
    assert.throws(() => masterGrants({ ...options, master: "http://master.test" }), {
      code: "config_invalid",
      message: /--insecure-master/,
    });
    for (
      const consent of [{ master: "http://master.test", insecure: true }, { master: "http://127.0.0.1:1" }, {
        master: "http://[::1]:1",
      }]
    ) {
      await assert.rejects(masterGrants({ ...options, ...consent })(), { code: "master_unreachable" });
    }
  });
});

describe("masterGrants and what a master may not talk an agent into", () => {
  const whole = {
    token: `gAAAAA${"A".repeat(94)}`,
    hostname: "a.test",
    aes_key: "00".repeat(32),
    aes_iv: "00".repeat(16),
    cipher: "aes-gcm",
    protocol_version: 2,
    valid: 1,
  };
  const from = (master: string, host: string, more: Partial<MasterGrantOptions> = {}) =>
    masterGrants({
      master,
      credential: CREDENTIAL,
      hostname: "a.test",
      fetch: () => Promise.resolve(Response.json({ ...whole, edge: { host, port: 1 } }, { status: 201 })),
      lookup: (name) =>
        Promise.resolve(name === "rebound.test" ? ["203.0.113.1", "192.168.1.1"] : ["203.0.113.1"]),
      ...more,
    })();

  it("an edge that is nearer than the master itself", async () => {
    const nearer = [
      "10.0.0.1",
      "192.168.1.1",
      "169.254.169.254",
      "127.0.0.1",
      "[::1]",
      "fe80::1",
      "::ffff:10.0.0.1",
      "localhost",
      "rebound.test",
      "0.0.0.0",
    ];
    for (const host of nearer) {
      await assert.rejects(from("https://master.test", host), { code: "access_denied" }, host);
      assert.equal((await from("https://master.test", host, { anyEdge: true })).edge.host, host);
    }
    await assert.rejects(from("https://192.168.1.2", "127.0.0.1"), { code: "access_denied" });
    for (
      const [master, host] of [["https://master.test", "edge.test"], ["https://192.168.1.2", "10.0.0.1"], [
        "http://127.0.0.1:1",
        "localhost",
      ]] as const
    ) {
      assert.equal((await from(master, host)).edge.host, host);
    }
  });

  it("an edge whose name has another address by the time it is dialled", async () => {
    const judged = async (master: string, host: string, more?: Partial<MasterGrantOptions>) => {
      const { edge: { permits } } = await from(master, host, more);
      return permits && ["203.0.113.1", "10.0.0.1", "::ffff:169.254.169.254", "::1"].map(permits);
    };
    assert.deepEqual(await judged("https://master.test", "edge.test"), [true, false, false, false]);
    assert.deepEqual(await judged("https://192.168.1.2", "edge.test"), [true, true, true, false]);
    assert.deepEqual(await judged("http://127.0.0.1:1", "edge.test"), [true, true, true, true]);
    assert.equal(await judged("https://master.test", "master.test"), undefined);
    assert.equal(await judged("https://master.test", "edge.test", { anyEdge: true }), undefined);
  });
});
