import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { createStatusApp, type StatusOptions } from "../../src/master/status.ts";
import { Metrics } from "../../src/telemetry/metrics.ts";
import { parsePrometheus, sampleValue } from "../telemetry/prometheus.ts";
import { handClock, problemOf } from "./helpers.ts";

const PATHS = ["/healthz", "/readyz", "/metrics"];

function testStatus(options: Partial<StatusOptions> = {}) {
  const metrics = new Metrics();
  const app = createStatusApp({ clock: handClock().clock, metrics, ...options });
  return { metrics, request: async (path: string, init?: RequestInit) => await app.request(path, init) };
}

describe("createStatusApp", () => {
  it("has three paths", async () => {
    const { request, metrics } = testStatus();
    metrics.bytesToVisitor += 12;
    assert.deepEqual(await (await request("/healthz")).json(), { status: "ok" });
    assert.deepEqual(await (await request("/readyz")).json(), { status: "ready", checks: {} });
    const answer = await request("/metrics");
    assert.equal(answer.headers.get("content-type"), metrics.contentType);
    const seen = parsePrometheus(await answer.text());
    assert.equal(sampleValue(seen, "sallyport_bytes_total", { direction: "to_visitor" }), 12);
    // No master has answered anything.
    assert.ok(seen.samples.every(({ name }) => name !== "sallyport_master_requests_total"));
  });

  it("is not ready with 503, and says why", async () => {
    const { request } = testStatus({ ready: () => ({ ok: false, checks: { session: false } }) });
    const answer = await request("/readyz");
    assert.equal(answer.status, 503);
    assert.deepEqual(await answer.json(), { status: "not ready", checks: { session: false } });
    assert.equal((await request("/healthz")).status, 200);
  });

  it("has none of the master's own paths", async () => {
    const { request } = testStatus();
    for (const path of ["/", "/openapi.json", "/v1/tokens", "/metrics/"]) {
      for (const method of ["GET", "POST"]) {
        const { detail } = await problemOf(await request(path, { method }), 404);
        assert.equal(detail, "Cannot find this path; there are /healthz, /readyz, /metrics");
      }
    }
  });

  it("is asked for by GET and HEAD alone", async () => {
    const { request } = testStatus();
    for (const path of PATHS) {
      const head = await request(path, { method: "HEAD" });
      assert.deepEqual([head.status, await head.text()], [200, ""]);
      const options = await request(path, { method: "OPTIONS" });
      assert.deepEqual([options.status, options.headers.get("allow")], [204, "GET, HEAD, OPTIONS"]);
      const answer = await request(path, { method: "POST", body: "x" });
      assert.equal(answer.headers.get("allow"), "GET, HEAD, OPTIONS");
      await problemOf(answer, 405);
    }
  });

  it("tells a client of a fault by its number alone", async () => {
    const { request } = testStatus({
      ready: () => {
        throw new Error("secret detail");
      },
    });
    const problem = await problemOf(await request("/readyz"), 500);
    assert.doesNotMatch(JSON.stringify(problem), /secret/);
  });
});
