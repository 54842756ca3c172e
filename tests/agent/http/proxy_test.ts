/** Visitors' HTTP, from their TLS to a server behind the agent, with this runtime's own client and server. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectH2 } from "node:http2";
import { createServer as createTcpServer, type Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { joinStreams } from "../../support/join_streams.ts";
import { layered, ownHostsOnly, setFields } from "../../../src/agent/http/front.ts";
import { httpProxy, type HttpProxyOptions, type ProxyFault } from "../../../src/agent/http/proxy.ts";
import { Faults } from "../../../src/runtime/shared.ts";
import { LOG_SAMPLE_VISITORS_BURST } from "../../../src/telemetry/log_sampler.ts";
import { currentRuntime } from "../../../src/runtime/mod.ts";
import { pattern } from "../../conformance/runtime_helpers.ts";
import { connectionBuffersMaxBytes } from "../../support/kernel_buffers.ts";
import { portOf } from "../../support/plain_peer.ts";
import { startTarget, startTerminatedSite, type TerminatedSite } from "../../support/terminated.ts";
import { type LogLine, recordingLogger } from "../../support/tunnel.ts";

const timeout = 30_000;
const runtime = await currentRuntime();

/** What the server under the name saw last. */
interface Seen {
  connections: number;
  closedEarly: PromiseWithResolvers<void>;
}

const seen: Seen = { connections: 0, closedEarly: Promise.withResolvers() };
let target: Awaited<ReturnType<typeof startTarget>>;
let site: TerminatedSite;
let stopProxy = () => {};

function proxyTo(port: number, options: Partial<HttpProxyOptions> = {}) {
  return httpProxy({
    clock: runtime.clock,
    faults: new Faults(),
    answerTimeoutMs: 20_000,
    dial: () => runtime.dial({ host: "127.0.0.1", port, timeoutMs: 5_000 }),
    ...options,
  });
}

before(async () => {
  target = await startTarget((request, response) => {
    const path = request.url ?? "";
    if (path === "/echo") request.pipe(response);
    else if (path === "/events") {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: first\n\n");
      response.on("close", () => seen.closedEarly.resolve());
    } else if (path.startsWith("/bytes/")) {
      const body = Buffer.from(pattern(Number(path.slice(7))));
      response.writeHead(200, { "content-length": body.length });
      response.end(request.method === "HEAD" ? undefined : body);
    } else if (path === "/cut") {
      response.writeHead(200, { "content-length": "10" });
      response.write("half");
      setTimeout(() => response.destroy(), 20);
    } else {
      request.resume();
      response.setHeader("set-cookie", ["a=1", "b=2"]);
      response.end(JSON.stringify(request.headers));
    }
  });
  target.server.on("connection", () => seen.connections++);
  target.server.on("upgrade", (_request, socket: Socket) => {
    socket.write(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Made: up\r\n\r\n",
    );
    socket.pipe(socket);
  });
  const proxy = proxyTo(target.port, { requestBodyMaxBytes: 4_000_000 });
  stopProxy = () => proxy.close();
  const handler = layered(
    proxy.handler,
    ownHostsOnly((host) => host === "site.localhost"),
    setFields({ "x-added": "yes", "x-secret": "" }, { "strict-transport-security": "max-age=60" }),
  );
  site = await startTerminatedSite(handler);
});

after(async () => {
  stopProxy();
  await site.stop();
  target.stop();
});

/** A visitor's TLS connection. */
async function visit(
  at = site,
  alpn = "http/1.1",
): Promise<TLSSocket & { text: () => string; until: Until }> {
  const socket = connectTls({
    host: "127.0.0.1",
    port: at.port,
    servername: "site.localhost",
    ca: at.identity.certificatePem,
    ALPNProtocols: [alpn],
  });
  socket.on("error", () => {});
  await once(socket, "secureConnect");
  let text = "";
  socket.on("data", (chunk) => text += chunk.toString("latin1"));
  const until: Until = (pattern) =>
    new Promise((resolve, reject) => {
      const look = () => {
        const match = pattern.exec(text);
        if (match === null) return;
        socket.off("data", look);
        resolve(match);
      };
      socket.on("data", look);
      socket.once("close", () => {
        look();
        reject(new Error(`closed before ${pattern} came: ${text.slice(0, 2_000)}`));
      });
      look();
    });
  return Object.assign(socket, { text: () => text, until });
}

type Until = (pattern: RegExp) => Promise<RegExpExecArray>;

/** One request over HTTP/2. */
async function requestH2(
  headers: Record<string, string>,
  body?: Uint8Array,
): Promise<{ headers: Record<string, unknown>; body: Buffer }> {
  const session = connectH2(`https://site.localhost:${site.port}`, {
    createConnection: () =>
      connectTls({
        host: "127.0.0.1",
        port: site.port,
        servername: "site.localhost",
        ca: site.identity.certificatePem,
        ALPNProtocols: ["h2"],
      }),
  });
  try {
    const stream = session.request({ ":authority": "site.localhost", ...headers });
    const answered = once(stream, "response");
    const parts: Buffer[] = [];
    stream.on("data", (part: Buffer) => parts.push(part));
    const ended = once(stream, "end");
    stream.end(body);
    const [got] = await answered as [Record<string, unknown>];
    await ended;
    return { headers: got, body: Buffer.concat(parts) };
  } finally {
    session.close();
  }
}

const GET = (path: string, ...fields: string[]) =>
  ["GET " + path + " HTTP/1.1", "Host: site.localhost", ...fields, "", ""].join("\r\n");
const jsonIn = (text: string) => JSON.parse(/\{.*\}/s.exec(text)?.[0] ?? "{}") as Record<string, string>;

describe("httpProxy: HTTP/1.1", () => {
  it(
    "tells the server who the visitor is, and not what the visitor says of itself",
    { timeout },
    async () => {
      const socket = await visit();
      const lies = [
        "X-Forwarded-For: 6.6.6.6",
        "Forwarded: for=6.6.6.6",
        "X-Real-IP: 6.6.6.6",
        "Keep-Alive: 5",
      ];
      socket.write(GET("/", ...lies, "X-Secret: 1", "X-Own: 2", "Connection: X-Own"));
      await socket.until(/\{.*\}/s);
      const told = jsonIn(socket.text());
      assert.equal(told["x-forwarded-for"], "127.0.0.1");
      assert.equal(told["x-forwarded-proto"], "https");
      assert.equal(told["x-forwarded-host"], "site.localhost");
      assert.equal(told["forwarded"], 'for=127.0.0.1;host="site.localhost";proto=https');
      assert.equal(told["host"], "site.localhost");
      assert.equal(told["x-added"], "yes");
      for (const name of ["x-real-ip", "x-secret", "x-own", "keep-alive"]) {
        assert.equal(
          told[name],
          undefined,
          name,
        );
      }
      assert.match(socket.text(), /strict-transport-security: max-age=60/);
      assert.match(socket.text(), /set-cookie: a=1\r\nset-cookie: b=2/);
      socket.destroy();
    },
  );

  it(
    "uses connections again, on both sides, and answers requests that come together in turn",
    { timeout },
    async () => {
      const socket = await visit();
      const before = seen.connections;
      socket.write(GET("/bytes/3") + GET("/bytes/5") + GET("/bytes/4", "Connection: close"));
      await once(socket, "close");
      const lengths = [...socket.text().matchAll(/content-length: (\d)/g)].map((match) => match[1]);
      assert.deepEqual(lengths, ["3", "5", "4"]);
      assert.ok(
        seen.connections - before <= 1,
        `${seen.connections - before} connections for three requests`,
      );
    },
  );

  it(
    "keeps a visitor from forging or removing the fields that are set on its requests",
    { timeout },
    async () => {
      const socket = await visit();
      socket.write(GET(
        "/",
        "Connection: close, X-Added, X-Forwarded-For",
        ...["X_Forwarded_For: 6.6.6.6", "X_Added: no", "X-Forwarded_Proto: http", "X_Own: kept"],
      ));
      await once(socket, "close");
      const { "x-added": added, "x-forwarded-for": from, "x_own": own, ...others } = jsonIn(socket.text());
      assert.deepEqual([added, own, from !== undefined], ["yes", "kept", true]);
      assert.deepEqual(Object.keys(others).filter((name) => name.includes("_")), []);
    },
  );

  it("lets no visitor change to a protocol that carries requests past its layers", { timeout }, async () => {
    const socket = await visit();
    socket.write(
      GET("/", "Connection: close, Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
    );
    await once(socket, "close");
    assert.match(socket.text(), /^HTTP\/1\.1 200 /);
    const { upgrade, "http2-settings": settings } = jsonIn(socket.text());
    assert.deepEqual([upgrade, settings], [undefined, undefined]);
  });

  it("carries bodies both ways, chunked or with a length", { timeout }, async () => {
    const socket = await visit();
    const body = pattern(300_000);
    socket.write(
      "POST /echo HTTP/1.1\r\nHost: site.localhost\r\nContent-Length: 300000\r\nConnection: close\r\n\r\n",
    );
    socket.write(body);
    await once(socket, "close");
    assert.ok(unchunked(socket.text()).equals(Buffer.from(body)));
    const next = await visit();
    next.write(
      "POST /echo HTTP/1.1\r\nHost: site.localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
    );
    next.write("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n");
    await once(next, "close");
    assert.equal(unchunked(next.text()).toString(), "hello world");
  });

  it("asks for a body that is held back", { timeout }, async () => {
    const socket = await visit();
    socket.write(
      "POST /echo HTTP/1.1\r\nHost: site.localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    );
    await socket.until(/100 Continue\r\n\r\n/);
    socket.write("hello");
    await socket.until(/200 OK.*hello/s);
    socket.destroy();
  });

  it("changes the protocol, as WebSockets do", { timeout }, async () => {
    const socket = await visit();
    socket.write(
      GET("/chat", "Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"),
    );
    await socket.until(/101 Switching Protocols.*x-made: up.*\r\n\r\n/s);
    socket.write("ping");
    await socket.until(/\r\n\r\nping$/);
    socket.write(" pong");
    await socket.until(/ping pong$/);
    socket.end();
    await once(socket, "close");
  });

  it(
    "delivers events as they come, and tells the server when the visitor has gone",
    { timeout },
    async () => {
      const socket = await visit();
      socket.write(GET("/events"));
      await socket.until(/data: first/);
      socket.destroy();
      await seen.closedEarly.promise;
    },
  );

  it("answers 421 for a name that isn't its own, 400 for what is no HTTP", { timeout }, async () => {
    const socket = await visit();
    socket.write(GET("/").replace("site.localhost", "other.localhost"));
    await socket.until(/^HTTP\/1.1 421 /);
    socket.destroy();
    const next = await visit();
    next.write(
      "POST / HTTP/1.1\r\nHost: site.localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    await next.until(/^HTTP\/1.1 400 /);
    await once(next, "close");
  });

  it("refuses a body that is larger than allowed", { timeout }, async () => {
    const socket = await visit();
    socket.write("POST /echo HTTP/1.1\r\nHost: site.localhost\r\nContent-Length: 5000000\r\n\r\n");
    await socket.until(/^HTTP\/1.1 413 /);
    socket.destroy();
  });

  it("shows an answer that was cut short as what it is", { timeout }, async () => {
    const socket = await visit();
    socket.write(GET("/cut"));
    await once(socket, "close");
    assert.match(socket.text(), /^HTTP\/1.1 200 .*content-length: 10.*half$/s);
  });

  it(
    "answers 502 where nobody listens, and where no HTTP is spoken; 504 where no answer comes",
    { timeout },
    async () => {
      const mute = createTcpServer(() => {});
      const odd = createTcpServer((socket) => void socket.end("SSH-2.0-x\r\n\r\n"));
      mute.listen(0, "127.0.0.1");
      odd.listen(0, "127.0.0.1");
      await Promise.all([once(mute, "listening"), once(odd, "listening")]);
      const cases: readonly [number, Partial<HttpProxyOptions>, number, ProxyFault][] = [
        [1, {}, 502, "destination_unavailable"],
        [portOf(odd), {}, 502, "http_protocol_error"],
        [portOf(mute), { answerTimeoutMs: 50 }, 504, "http_response_timeout"],
      ];
      for (const [port, options, status, fault] of cases) {
        const proxy = proxyTo(port, options);
        const other = await startTerminatedSite(proxy.handler);
        const socket = await visit(other);
        socket.write(GET("/", "Connection: close"));
        await once(socket, "close");
        assert.match(
          socket.text(),
          new RegExp(`^HTTP/1.1 ${status} .*\r\n\r\nThe server behind this name`, "s"),
        );
        assert.ok(socket.text().includes(`\r\nproxy-status: sallyport; error=${fault}\r\n`));
        proxy.close();
        await other.stop();
      }
      mute.close();
      odd.close();
    },
  );

  it("logs a few of the requests that it can't pass on", { timeout }, async () => {
    const lines: LogLine[] = [];
    const proxy = proxyTo(1, { log: recordingLogger(lines) });
    const other = await startTerminatedSite(proxy.handler);
    const socket = await visit(other);
    const requests = LOG_SAMPLE_VISITORS_BURST + 5;
    for (let n = 1; n < requests; n++) socket.write(GET("/"));
    socket.write(GET("/", "Connection: close"));
    await once(socket, "close");
    assert.equal(socket.text().match(/HTTP\/1.1 502 /g)?.length, requests);
    assert.equal(lines.length, LOG_SAMPLE_VISITORS_BURST);
    proxy.close();
    await other.stop();
  });

  it(
    "holds a server back that writes faster than the visitor reads, and goes on",
    { timeout },
    async () => {
      let sent = 0;
      const fast = createTcpServer((socket) => {
        socket.on("error", () => {});
        socket.write("HTTP/1.1 200 OK\r\n\r\n");
        const piece = Buffer.alloc(65_536);
        const more = () => {
          while (!socket.destroyed && socket.write(piece)) sent += piece.length;
          sent += piece.length;
        };
        socket.on("drain", more);
        more();
      });
      fast.listen(0, "127.0.0.1");
      await once(fast, "listening");
      const proxy = proxyTo(portOf(fast));
      const other = await startTerminatedSite(proxy.handler);
      // TLS in this process reads on whether anybody reads from it or not: what doesn't is a connection on the way.
      const far = await runtime.dial({ host: "127.0.0.1", port: other.port, timeoutMs: 5_000 });
      const relay = await runtime.listen({
        host: "127.0.0.1",
        port: 0,
        accept: (near) => joinStreams(near, far, () => {}),
      });
      const socket = await visit({ ...other, port: relay.address.port });
      socket.write(GET("/"));
      await socket.until(/200 OK/);
      far.pause();
      // Until it stands still: what is on the way fits into buffers.
      for (let before = -1; before !== sent;) {
        before = sent;
        await new Promise((resolve) => setTimeout(resolve, 150));
      }
      // Three connections: from the server to the proxy, from TLS to the relay, and from the relay to the visitor.
      const heldMaxBytes = 16_000_000 + 3 * await connectionBuffersMaxBytes();
      assert.ok(
        sent < heldMaxBytes,
        `${sent} bytes were taken from the server for a visitor who doesn't read`,
      );
      const stood = sent;
      far.resume();
      await new Promise<void>((resolve) => {
        const look = () => sent > stood + 10_000_000 ? resolve() : setTimeout(look, 10);
        look();
      });
      socket.destroy();
      proxy.close();
      await other.stop();
      relay.close();
      fast.close();
    },
  );
});

function unchunked(answer: string): Buffer {
  const [head = "", ...rest] = answer.split("\r\n\r\n");
  let body = Buffer.from(rest.join("\r\n\r\n"), "latin1");
  if (!/transfer-encoding: chunked/i.test(head)) return body;
  const parts: Buffer[] = [];
  for (;;) {
    const end = body.indexOf("\r\n");
    const size = parseInt(body.subarray(0, end).toString(), 16);
    if (size === 0) return Buffer.concat(parts);
    parts.push(body.subarray(end + 2, end + 2 + size));
    body = body.subarray(end + 4 + size);
  }
}

describe("httpProxy: HTTP/2", () => {
  it("tells the server who the visitor is", { timeout }, async () => {
    const { headers, body } = await requestH2({ ":path": "/", cookie: "a=1", "x-forwarded-for": "6.6.6.6" });
    assert.equal(headers[":status"], 200);
    assert.deepEqual(headers["set-cookie"], ["a=1", "b=2"]);
    assert.equal(headers["connection"], undefined);
    const told = jsonIn(body.toString());
    assert.equal(told["x-forwarded-for"], "127.0.0.1");
    assert.equal(told["host"], "site.localhost");
    assert.equal(told["cookie"], "a=1");
  });

  it("carries bodies both ways", { timeout }, async () => {
    const sent = pattern(700_000);
    const { body } = await requestH2({ ":path": "/echo", ":method": "POST" }, sent);
    assert.ok(body.equals(Buffer.from(sent)));
    const got = await requestH2({ ":path": "/bytes/900000" });
    assert.ok(got.body.equals(Buffer.from(pattern(900_000))));
  });

  it("answers 421 for a name that isn't its own, and HEAD without a body", { timeout }, async () => {
    assert.equal((await requestH2({ ":path": "/", ":authority": "b.example" })).headers[":status"], 421);
    const head = await requestH2({ ":path": "/bytes/70", ":method": "HEAD" });
    assert.deepEqual([head.headers["content-length"], head.body.length], ["70", 0]);
  });
});
