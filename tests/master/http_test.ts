import { after, before, describe, it } from "node:test";
import assert from "node:assert/strict";
import { connect } from "node:net";
import type { HttpServer } from "../../src/runtime/port.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { ADMIN_KEY, handClock, type HandTimer, problemOf, testMaster } from "./helpers.ts";

describe("createMasterApp: over HTTP", () => {
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

describe("createMasterApp: a body that never ends", () => {
  it("is answered with 408", async () => {
    const waiting = Promise.withResolvers<HandTimer>();
    const { app } = testMaster({ clock: handClock((timer) => waiting.resolve(timer)).clock });
    const runtime = await currentRuntime();
    const server = await runtime.serveHttp({
      host: "127.0.0.1",
      port: 0,
      fetch: (request, remote) => app.fetch(request, { remote }),
    });
    const socket = connect(server.address.port, "127.0.0.1");
    try {
      let answer = "";
      const over = new Promise<void>((resolve, reject) => {
        // Bun then closes the connection; Deno says that it will, and leaves it to the client.
        socket.on("data", (part) => {
          answer += String(part);
          if (answer.endsWith("}]}")) resolve();
        });
        socket.on("close", () => reject(new Error(`closed after ${answer}`)));
        socket.on("error", reject);
      });
      socket.write(
        `POST /v1/tokens HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${ADMIN_KEY}\r\n` +
          'Content-Type: application/json\r\nContent-Length: 30\r\n\r\n{"hostname":',
      );
      (await waiting.promise).run();
      await over;
      assert.match(answer, /^HTTP\/1\.1 408 Request Timeout\r\n/);
      assert.match(answer, /^content-type: application\/problem\+json\r$/im);
      assert.match(answer, /^connection: close\r$/im);
    } finally {
      socket.destroy();
      await server.close(0);
    }
  });
});
