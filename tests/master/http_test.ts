import { after, before, describe, it } from "node:test";
import assert from "node:assert/strict";
import type { HttpServer } from "../../src/runtime/port.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { ADMIN_KEY, problemOf, testMaster } from "./helpers.ts";

describe("the master over HTTP", () => {
  let server: HttpServer;
  let origin = "";

  before(async () => {
    const { app } = testMaster({ authFailuresPerMinute: 1 });
    const runtime = await currentRuntime();
    const fetch = (request: Request, remote: { host: string; port: number }) =>
      app.fetch(request, { remote });
    server = await runtime.serveHttp({ host: "127.0.0.1", port: 0, fetch });
    origin = `http://127.0.0.1:${server.address.port}`;
  });

  after(() => server.close(0));

  const post = (key: string) =>
    fetch(`${origin}/v1/tokens`, {
      method: "POST",
      headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
      body: JSON.stringify({ hostname: "a.example.org" }),
    });

  it("answers as the app does, and counts wrong keys by the peer's address", async () => {
    const answer = await post(ADMIN_KEY);
    assert.equal(answer.status, 201);
    assert.equal((await answer.json() as { hostname: string }).hostname, "a.example.org");
    const metrics = await fetch(`${origin}/metrics`);
    assert.match(await metrics.text(), /^sallyport_tokens_issued_total\{.*\} 1$/m);
    await problemOf(await post("wrong"), 401);
    await problemOf(await post(ADMIN_KEY), 429);
    const head = await fetch(`${origin}/healthz`, { method: "HEAD" });
    assert.equal(head.status, 200);
    assert.equal(await head.text(), "");
  });
});
