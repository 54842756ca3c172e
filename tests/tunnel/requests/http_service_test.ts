/** HTTP on streams, by this runtime's own node:http. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import { currentRuntime } from "../../../src/runtime/mod.ts";
import type { ByteStream, Conn } from "../../../src/runtime/port.ts";
import { httpService, type HttpServiceOptions } from "../../../src/tunnel/requests/http_service.ts";
import type { TunnelRequest } from "../../../src/tunnel/requests/router.ts";
import { bytesOf, Watched } from "../../conformance/runtime_helpers.ts";

const timeout = 60_000;
const by = { tunnel: { name: "the tunnel" } } as unknown as TunnelRequest;

/** A connection to the service over this runtime's own TCP. */
async function connect(
  fetch: HttpServiceOptions["fetch"],
): Promise<{ near: Watched; close: () => Promise<void> }> {
  const runtime = await currentRuntime();
  const serve = await httpService({ fetch, clock: runtime.clock })(by);
  const listener = await runtime.listen({ host: "127.0.0.1", port: 0, accept: (conn) => serve(conn) });
  const near = new Watched(await runtime.dial({ ...listener.address, timeoutMs: 10_000 }));
  const close = async () => {
    near.abort();
    await near.sawClose;
    listener.close();
  };
  return { near, close };
}

const until = (near: Watched, text: string) => near.until(() => near.text.includes(text));

describe("httpService", () => {
  it("is answered by a fetch handler, and ends after the answer", { timeout }, async () => {
    const { near, close } = await connect(async (request, { tunnel }) => {
      const { pathname, search, host } = new URL(request.url);
      const body = await request.text();
      return new Response(`${tunnel.name}: ${request.method} ${host} ${pathname}${search} ${body}.`, {
        status: 201,
        headers: [["set-cookie", "a=1"], ["set-cookie", "b=2"], ["x-was", request.headers.get("x-is") ?? ""]],
      });
    });
    near.write(
      bytesOf("POST /a?b=1 HTTP/1.1\r\nhost: a.test\r\nx-is: here\r\ncontent-length: 5\r\n\r\nhello"),
    );
    await until(near, "hello.");
    assert.match(near.text, /^HTTP\/1\.1 201 /);
    assert.match(near.text, /set-cookie: a=1\r\nset-cookie: b=2\r\n/i);
    assert.match(near.text, /x-was: here\r\n/i);
    assert.ok(near.text.includes("the tunnel: POST a.test /a?b=1 hello."), near.text);
    await near.sawEnd;
    await close();
  });

  const HOSTS: readonly (readonly [fields: string, target: string, url: string | undefined])[] = [
    ["host: a.test:8080\r\n", "/p?q=1", "http://a.test:8080/p?q=1"],
    ["host: [2001:db8::1]:80\r\n", "/", "http://[2001:db8::1]/"],
    ["host: a.test\r\n", "http://b.test/whole", "http://b.test/whole"],
    ["host: x/secret?\r\n", "/public", undefined],
    ["host: x#\r\n", "/public", undefined],
    ["host: x\\y\r\n", "/public", undefined],
    ["host: user@x\r\n", "/public", undefined],
    ["host: a b\r\n", "/public", undefined],
    ["host: a:99999\r\n", "/public", undefined],
    ["host: [::1\r\n", "/public", undefined],
    ["host: \r\n", "/public", undefined],
    ["host: a.test\r\nhost: b.test\r\n", "/public", undefined],
    ["", "/public", undefined],
    ["host: a.test\r\n", "http://x%2f@y/public", undefined],
  ];
  for (const [fields, target, url] of HOSTS) {
    it(
      `takes the address from Host and target alone: ${JSON.stringify([fields, target])}`,
      { timeout },
      async () => {
        const seen: string[] = [];
        const { near, close } = await connect((request) => {
          seen.push(request.url);
          return new Response("ok");
        });
        near.write(bytesOf(`GET ${target} HTTP/1.1\r\n${fields}\r\n`));
        await near.sawEnd;
        assert.match(near.text, url === undefined ? /^HTTP\/1\.1 400 / : /^HTTP\/1\.1 200 /);
        assert.deepEqual(seen, url === undefined ? [] : [url]);
        await close();
      },
    );
  }

  it("answers what the handler throws with 500, and ends at what is no HTTP", { timeout }, async () => {
    const { near, close } = await connect(() => {
      throw new Error("a secret of the handler's");
    });
    near.write(bytesOf("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    await until(near, "internal error");
    assert.match(near.text, /^HTTP\/1\.1 500 /);
    assert.ok(!near.text.includes("secret"));
    await close();
    const next = await connect(() => new Response("x"));
    next.near.write(bytesOf("\x16\x03\x01 no HTTP\r\n\r\n"));
    await next.near.until(() => next.near.ended || next.near.closes > 0);
    assert.ok(!next.near.text.includes(" 200 "));
    await next.close();
  });

  it("sends as much as is read, and hears when the reader has gone", { timeout }, async () => {
    let made = 0;
    const gone = Promise.withResolvers<void>();
    const { near, close } = await connect((request) => {
      request.signal.addEventListener("abort", () => gone.resolve());
      return new Response(
        new ReadableStream({
          pull: (controller) => {
            made++;
            controller.enqueue(new Uint8Array(64 * 1024));
          },
        }),
      );
    });
    near.write(bytesOf("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
    await near.received(1);
    near.pause();
    // At rest when other exchanges come and go and nothing more is made.
    for (let quiet = 0, seen = -1; quiet < 20; quiet = made === seen ? quiet + 1 : 0, seen = made) {
      const other = await connect(() => new Response("x"));
      other.near.write(bytesOf("GET / HTTP/1.1\r\nhost: a\r\n\r\n"));
      await until(other.near, "x");
      await other.close();
      assert.ok(made < 1_000, `${made} chunks of 64 KiB for a reader that doesn't read`);
    }
    const held = made;
    near.resume();
    await near.until(() => made > held + 50);
    await close();
    await gone.promise;
  });

  it("reads as much of a body as the handler takes", { timeout }, async () => {
    const release = Promise.withResolvers<void>();
    let length = 0;
    const { near, close } = await connect(async (request) => {
      await release.promise;
      for await (const chunk of request.body!) length += chunk.length;
      return new Response(`got ${length}.`);
    });
    const chunk = new Uint8Array(64 * 1024);
    const total = 1024 * chunk.length;
    near.write(bytesOf(`PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: ${total}\r\n\r\n`));
    let sent = 0;
    while (sent < total && near.write(chunk)) sent += chunk.length;
    sent += chunk.length;
    assert.ok(sent < total, "the sender was held back");
    release.resolve();
    while (sent < total) {
      const drains = near.drains;
      if (!near.write(chunk)) await near.until(() => near.drains > drains);
      sent += chunk.length;
    }
    await until(near, "got");
    assert.ok(near.text.includes(`got ${total}.`), near.text.slice(-40));
    await close();
  });

  it("ends when no request comes, and says why", { timeout }, async () => {
    const network = createMemoryNetwork();
    const serve = await httpService({ fetch: () => new Response("x"), clock: network.clock })(by);
    let released = 0;
    let said = "";
    const silent: ByteStream = {
      attach() {},
      write: (chunk) => (said += new TextDecoder().decode(chunk)) !== "",
      closeWrite() {},
      abort() {},
      release: () => void released++,
      pause() {},
      resume() {},
      bufferedBytes: 0,
    };
    serve(silent as Conn);
    await network.advance(9_000);
    assert.equal(released, 0);
    await network.advance(6_000);
    assert.equal(released, 1);
    assert.match(said, /^HTTP\/1\.1 408 /);
  });
});
