import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { parsePrometheus, sampleValue } from "../telemetry/prometheus.ts";
import { ADMIN_KEY, problemOf, testMaster } from "./helpers.ts";

const GETS = ["/", "/healthz", "/readyz", "/metrics", "/openapi.json"];
const BODY = JSON.stringify({ hostname: "a.example.org" });

describe("createMasterApp: GET", () => {
  it("/healthz says ok", async () => {
    const answer = await testMaster().request("/healthz");
    assert.equal(answer.status, 200);
    assert.deepEqual(await answer.json(), { status: "ok" });
  });

  it("/readyz follows what it is told, at each request", async () => {
    let listeners: boolean | string = "no listener is up";
    const { request } = testMaster({
      ready: () => ({ ok: listeners === true, checks: { listeners, keys: true } }),
    });
    const before = await request("/readyz");
    assert.equal(before.status, 503);
    assert.deepEqual(await before.json(), {
      status: "not ready",
      checks: { listeners: "no listener is up", keys: true },
    });
    listeners = true;
    const after = await request("/readyz");
    assert.equal(after.status, 200);
    assert.deepEqual(await after.json(), { status: "ready", checks: { listeners: true, keys: true } });
  });

  it("/readyz is ready by default", async () => {
    assert.equal((await testMaster().request("/readyz")).status, 200);
  });

  it("/metrics shows what was counted, requests by route and status too", async () => {
    const { request, post, metrics } = testMaster();
    metrics.bytesToAgent += 4711;
    await request("/healthz");
    await request("/nowhere/at/all");
    await post(JSON.parse(BODY));
    const answer = await request("/metrics");
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("content-type"), metrics.contentType);
    const seen = parsePrometheus(await answer.text());
    assert.equal(sampleValue(seen, "sallyport_bytes_total", { direction: "to_agent" }), 4711);
    const requests = (route: string, status: string) =>
      sampleValue(seen, "sallyport_master_requests_total", { route, status });
    assert.equal(requests("/healthz", "200"), 1);
    assert.equal(requests("other", "404"), 1);
    assert.equal(requests("/v1/tokens", "201"), 1);
  });

  it("/ names every endpoint of the document", async () => {
    const { request } = testMaster();
    const { endpoints } = await (await request("/")).json() as { endpoints: Record<string, string> };
    const { paths } = await (await request("/openapi.json")).json() as {
      paths: Record<string, Record<string, unknown>>;
    };
    const documented = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`)
    );
    assert.deepEqual(Object.keys(endpoints).sort(), documented.sort());
  });

  it("answers may not be stored or sniffed", async () => {
    const { request } = testMaster();
    for (const path of [...GETS, "/nowhere"]) {
      const answer = await request(path);
      assert.equal(answer.headers.get("cache-control"), "no-store", path);
      assert.equal(answer.headers.get("x-content-type-options"), "nosniff", path);
    }
  });
});

describe("createMasterApp: other methods", () => {
  it("HEAD answers as GET does, without a body", async () => {
    const { request } = testMaster();
    for (const path of GETS) {
      const answer = await request(path, { method: "HEAD" });
      assert.equal(answer.status, 200, path);
      assert.equal(await answer.text(), "");
      assert.equal(answer.headers.get("content-type"), (await request(path)).headers.get("content-type"));
    }
  });

  it("OPTIONS says what a path takes", async () => {
    const { request } = testMaster();
    for (const path of GETS) {
      const answer = await request(path, { method: "OPTIONS" });
      assert.equal(answer.status, 204, path);
      assert.equal(answer.headers.get("allow"), "GET, HEAD, OPTIONS");
    }
    const answer = await request("/v1/tokens", { method: "OPTIONS" });
    assert.equal(answer.status, 204);
    assert.equal(answer.headers.get("allow"), "POST, OPTIONS");
  });

  it("a method that a path doesn't take is refused with 405 and those that it takes", async () => {
    const { request } = testMaster();
    for (const method of ["GET", "PUT", "DELETE", "PATCH"]) {
      const answer = await request("/v1/tokens", { method });
      assert.equal(answer.headers.get("allow"), "POST, OPTIONS");
      await problemOf(answer, 405);
    }
    const head = await request("/v1/tokens", { method: "HEAD" });
    assert.equal(head.status, 405);
    for (const path of GETS) {
      const answer = await request(path, { method: "POST", body: "x" });
      assert.equal(answer.headers.get("allow"), "GET, HEAD, OPTIONS", path);
      await problemOf(answer, 405);
    }
  });

  it("a path that isn't there is refused with 404, whatever the method", async () => {
    const { request } = testMaster();
    for (
      const path of ["/nowhere", "/v1", "/v1/tokens/", "/healthz/", "/v1/tokens/x", "//", "/%2e%2e/x", "/%ff"]
    ) {
      for (const method of ["GET", "POST", "OPTIONS"]) await problemOf(await request(path, { method }), 404);
    }
  });
});

describe("createMasterApp: a fault of the program", () => {
  const cause = "secret detail of the inside";
  const headers = { Authorization: `Bearer ${ADMIN_KEY}`, "Content-Type": "application/json" };
  const faults: [name: string, fail: () => never][] = [
    ["an error", () => {
      throw new TypeError(cause);
    }],
    ["another value", () => {
      throw cause;
    }],
  ];
  for (const [name, fail] of faults) {
    it(`(${name}) is answered with 500, and told to the log alone`, async () => {
      for (
        const [options, path, init] of [
          [{ credentials: { find: fail } }, "/v1/tokens", { method: "POST", headers, body: BODY }],
          [{ edgeAddress: fail }, "/v1/tokens", { method: "POST", headers, body: BODY }],
          [{ ready: fail }, "/readyz", {}],
        ] as const
      ) {
        const { request, lines, metrics } = testMaster(options);
        const answer = await request(path, init);
        const text = await answer.clone().text();
        assert.ok(!text.includes("secret"), text);
        const problem = await problemOf(answer, 500);
        const line = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
          .find((line) => line.level === "error");
        assert.equal(line?.instance, problem.instance);
        assert.match(problem.instance ?? "", /^urn:uuid:/);
        assert.ok(JSON.stringify(line).includes(cause));
        const seen = parsePrometheus(await metrics.render());
        assert.equal(sampleValue(seen, "sallyport_master_requests_total", { route: path, status: "500" }), 1);
        assert.equal(line?.where, "http_request");
        assert.equal(line?.request_id, problem.request_id);
        assert.equal(sampleValue(seen, "sallyport_internal_errors_total", { where: "http_request" }), 1);
      }
    });
  }
});

describe("createMasterApp: the log of requests", () => {
  it("has method, path, status and duration; probes only at debug", async () => {
    const { request, lines, post } = testMaster();
    await request("/healthz?token=abc");
    await post("{");
    const requests = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter((line) => line.msg === "request")
      .map(({ time: _time, msg: _msg, request_id, ...line }) => {
        assert.match(String(request_id), /^[\w-]{36}$/);
        return line;
      });
    assert.deepEqual(requests, [
      { level: "debug", method: "GET", path: "/healthz", status: 200, duration_ms: 0 },
      { level: "info", method: "POST", path: "/v1/tokens", status: 400, duration_ms: 0 },
    ]);
  });

  it("has one line a request, whatever the path holds", async () => {
    const { request, lines } = testMaster();
    await request("/v1/%0a%0dforged%1b[31m");
    assert.equal(lines.length, 1);
    // deno-lint-ignore no-control-regex
    assert.doesNotMatch(lines[0].slice(0, -1), /[\u0000-\u001f]/);
  });
});
