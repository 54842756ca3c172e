/** What the HTTP server bears of its clients, on real sockets; time is moved by hand. */
import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import {
  HTTP_HEAD_DEADLINE_MS,
  HTTP_IDLE_MS,
  HTTP_KEEP_ALIVE_MS,
  HTTP_LAST_HEAD_MS,
  HTTP_REQUEST_DEADLINE_MS,
} from "../../src/runtime/http_engine.ts";
import { Faults } from "../../src/runtime/shared.ts";
import { HTTP_PER_SOURCE_MAX, listenHttp } from "../../src/runtime/http_server.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Bytes, Conn, HttpOptions, HttpServer } from "../../src/runtime/port.ts";
import { VirtualClock } from "../support/virtual_clock.ts";
import { bytesOf, Watched } from "../conformance/runtime_helpers.ts";

const timeout = 20_000;
const TICK_MS = 5_000;

const runtime = await currentRuntime();
let servers: HttpServer[] = [];
let clients: Watched[] = [];
afterEach(async () => {
  for (const client of clients) client.abort();
  await Promise.all(servers.map((server) => server.close(0)));
  servers = [];
  clients = [];
});

async function serve(
  fetch: HttpOptions["fetch"],
): Promise<{ clock: VirtualClock; connect: () => Promise<Watched>; server: HttpServer }> {
  const clock = new VirtualClock();
  const server = await listenHttp(
    { host: "127.0.0.1", port: 0, fetch },
    (options) => runtime.listen(options),
    { clock, faults: new Faults() },
  );
  servers.push(server);
  const connect = async () => {
    const conn = await runtime.dial({ host: "127.0.0.1", port: server.address.port, timeoutMs: 5_000 });
    const client = new Watched(conn);
    clients.push(client);
    return client;
  };
  return { clock, connect, server };
}

const GET = bytesOf("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
const gone = (client: Watched) => client.until(() => client.ended || client.closes > 0);
/** After an answer to another connection, what went before has been taken in. */
async function settled(connect: () => Promise<Watched>): Promise<void> {
  const other = await connect();
  other.write(GET);
  await other.until(() => other.text.endsWith("ok"));
  other.abort();
}

describe("listenHttp", () => {
  it(
    "answers requests one after the other on one connection, each with its length",
    { timeout },
    async () => {
      const { connect } = await serve((request) => new Response(new URL(request.url).pathname));
      const client = await connect();
      for (const path of ["/one", "/two", "/three"]) {
        client.write(bytesOf(`GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`));
        await client.until(() => client.text.endsWith(path));
      }
      assert.equal(client.text.match(/HTTP\/1\.1 200/g)?.length, 3);
      assert.deepEqual([...client.text.matchAll(/content-length: (\d+)/gi)].map(([, length]) => length), [
        "4",
        "4",
        "6",
      ]);
      assert.equal(client.ended, false);
    },
  );

  it(
    "writes a small answer in one piece: a head and its body are one call of the system",
    { timeout },
    async () => {
      let writes = 0;
      const counted = (conn: Conn): Conn =>
        new Proxy(conn, {
          get: (target, name) => {
            const value = Reflect.get(target, name, target);
            if (name === "write") {
              return (chunk: Bytes) => {
                writes++;
                return target.write(chunk);
              };
            }
            return typeof value === "function" ? value.bind(target) : value;
          },
        });
      const server = await listenHttp(
        { host: "127.0.0.1", port: 0, fetch: () => Response.json({ a: "b" }) },
        (options) => runtime.listen({ ...options, accept: (conn) => options.accept(counted(conn)) }),
        { clock: new VirtualClock(), faults: new Faults() },
      );
      servers.push(server);
      const conn = await runtime.dial({ host: "127.0.0.1", port: server.address.port, timeoutMs: 5_000 });
      const client = new Watched(conn);
      clients.push(client);
      client.write(GET);
      await client.until(() => client.text.endsWith("}"));
      assert.match(client.text, /content-length: 9\r\n/i);
      assert.equal(writes, 1);
    },
  );

  it("answers the request after one that was refused before its body was read", { timeout }, async () => {
    const { connect } = await serve(({ method }) =>
      method === "PUT" ? new Response("too large", { status: 413 }) : new Response("next")
    );
    const client = await connect();
    client.write(bytesOf("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n"));
    client.write(new Uint8Array(300_000));
    client.write(GET);
    await client.until(() => client.text.endsWith("next"));
    assert.equal(client.text.match(/HTTP\/1\.1 413/g)?.length, 1);
    assert.equal(client.ended, false);
  });

  it("refuses methods that a Request can't have, and calls no handler for them", { timeout }, async () => {
    const { connect } = await serve(() => assert.fail("it isn't asked"));
    for (const method of ["TRACE", "TRACK"]) {
      const client = await connect();
      client.write(bytesOf(`${method} / HTTP/1.1\r\nhost: a\r\n\r\n`));
      await client.until(() => /\r\n\r\n/.test(client.text) || client.ended || client.closes > 0);
      assert.match(client.text, /^HTTP\/1\.1 40[05] /);
    }
  });

  it("answers a head that is too long, and what isn't HTTP, before it closes", { timeout }, async () => {
    const { connect } = await serve(() => assert.fail("it isn't asked"));
    const long = "a".repeat(70_000);
    for (
      const [text, answer] of [
        [`GET /?${long} HTTP/1.1\r\nhost: a\r\n\r\n`, /^HTTP\/1\.1 431 [\s\S]*too long\n$/],
        [`GET / HTTP/1.1\r\nhost: a\r\nx: ${long}\r\n\r\n`, /^HTTP\/1\.1 431 /],
        ["\x16\x03\x01\x02\x00\x01", /^HTTP\/1\.1 400 [\s\S]*isn't valid HTTP\/1\.1\n$/],
        ["GET / HTTP/1.1\r\nhost a\r\n\r\n", /^HTTP\/1\.1 400 /],
      ] as const
    ) {
      const client = await connect();
      client.write(bytesOf(text));
      await gone(client);
      assert.match(client.text, answer);
    }
  });

  it("sends the first part of an answer before there is a second", { timeout }, async () => {
    let next = (_part: string) => {};
    const { connect } = await serve(() =>
      new Response(
        new ReadableStream({
          start(controller) {
            next = (part) => controller.enqueue(bytesOf(part));
            next("first");
          },
        }),
      )
    );
    const client = await connect();
    client.write(GET);
    await client.until(() => client.text.includes("first"));
    next("second");
    await client.until(() => client.text.includes("second"));
    assert.match(client.text, /transfer-encoding: chunked/i);
  });

  it("ends a connection whose head doesn't become whole in time", { timeout }, async () => {
    const { clock, connect } = await serve(() => new Response("ok"));
    const silent = await connect();
    const slow = await connect();
    slow.write(bytesOf("GET / HTTP/1.1\r\nhost: "));
    const second = await connect();
    second.write(GET);
    await second.until(() => second.text.endsWith("ok"));
    second.write(bytesOf("GET / HT"));
    await settled(connect);
    clock.run(HTTP_HEAD_DEADLINE_MS - 1);
    slow.write(bytesOf("a"));
    await settled(connect);
    assert.equal(slow.ended, false);
    clock.run(TICK_MS);
    await Promise.all([silent, slow, second].map(gone));
    for (const client of [silent, slow, second]) assert.match(client.text, /HTTP\/1\.1 408 /);
  });

  it("ends what is idle, what stands still, and a request that takes for ever", { timeout }, async () => {
    const { clock, connect } = await serve(async (request) => {
      await request.text();
      return new Response("ok");
    });
    const idle = await connect();
    idle.write(GET);
    await idle.until(() => idle.text.endsWith("ok"));
    clock.run(HTTP_KEEP_ALIVE_MS + TICK_MS);
    await gone(idle);
    const [still, dripping] = [await connect(), await connect()];
    for (const client of [still, dripping]) {
      client.write(bytesOf("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nx"));
    }
    await settled(connect);
    for (let passedMs = 0; passedMs <= HTTP_REQUEST_DEADLINE_MS; passedMs += HTTP_IDLE_MS / 2) {
      clock.run(HTTP_IDLE_MS / 2);
      dripping.write(bytesOf("x"));
      if (passedMs > HTTP_IDLE_MS) await gone(still);
      if (passedMs < HTTP_REQUEST_DEADLINE_MS - HTTP_IDLE_MS) {
        await settled(connect);
        assert.equal(dripping.closes, 0);
      }
    }
    clock.run(TICK_MS);
    await gone(dripping);
  });

  it(
    "lets one address have so many connections, the newest rather than the oldest",
    { timeout },
    async () => {
      const { connect } = await serve(() => new Response("ok"));
      const held: Watched[] = [];
      for (let i = 0; i < HTTP_PER_SOURCE_MAX; i++) held.push(await connect());
      const one = await connect();
      one.write(GET);
      await one.until(() => one.text.endsWith("ok"));
      await gone(held[0]!);
      assert.equal(held.filter((client) => client.closes > 0 || client.ended).length, 1);
    },
  );

  it("ends idle connections when it closes, and answers what is under way", { timeout }, async () => {
    let answer = (_response: Response) => {};
    const { connect, server } = await serve((request) =>
      request.url.endsWith("/slow")
        ? new Promise<Response>((resolve) => answer = resolve)
        : new Response("ok")
    );
    const idle = await connect();
    idle.write(GET);
    await idle.until(() => idle.text.endsWith("ok"));
    const busy = await connect();
    busy.write(bytesOf("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n"));
    await settled(connect);
    const closing = server.close(60_000);
    await gone(idle);
    answer(new Response("late"));
    await busy.until(() => busy.text.endsWith("late"));
    await closing;
    const given = await serve(() => new Promise<Response>(() => {}));
    const waiting = await given.connect();
    waiting.write(GET);
    await settled(connectOf(await serve(() => new Response("ok"))));
    await given.server.close(0);
    await gone(waiting);
    assert.match(waiting.text, /^(HTTP\/1\.1 503 |$)/);
  });

  it("answers a request that was on its way when it closed, and waits for none", { timeout }, async () => {
    const { clock, connect, server } = await serve(() => new Response("ok"));
    const [asking, silent] = [await connect(), await connect()];
    await settled(connect);
    const closing = server.close(60_000);
    asking.write(GET);
    await asking.until(() => asking.text.endsWith("ok"));
    assert.match(asking.text, /^connection: close\r$/mi);
    await gone(asking);
    clock.run(HTTP_LAST_HEAD_MS - 1);
    assert.equal(silent.ended, false);
    clock.run(1);
    await gone(silent);
    await closing;
  });
});

function connectOf({ connect }: { connect: () => Promise<Watched> }): () => Promise<Watched> {
  return connect;
}
