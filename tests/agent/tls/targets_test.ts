/** Services whose TLS ends in the agent, in front of each kind of target: HTTP/1.1, HTTP/2, WebSocket, large bodies. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import { connect as connectH2 } from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import type { Duplex } from "node:stream";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { MemoryCertificateStore } from "../../../src/agent/acme/certificate_store.ts";
import { serviceDefaults } from "../../../src/agent/services/service.ts";
import { parseTarget } from "../../../src/agent/services/target.ts";
import { TargetPool } from "../../../src/agent/services/targets.ts";
import { createServiceConnectors } from "../../../src/agent/tls/service_connectors.ts";
import { makeCertificate } from "../../../src/crypto/certificate.ts";
import { currentRuntime } from "../../../src/runtime/mod.ts";
import type { Conn } from "../../../src/runtime/port.ts";
import { silentLogger } from "../../../src/telemetry/log.ts";
import { connectionBuffersMaxBytes } from "../../support/kernel_buffers.ts";
import { portOf } from "../../support/plain_peer.ts";
import { until } from "../../support/until.ts";

const timeout = 60_000;
const NAME = "site.localhost";
const ANSWER_BYTES = 32_000_000;
/** What a visitor, an agent and their TLS may hold at most of an upload that the target doesn't read. */
const OWN_BYTES_MAX = 16_000_000;
const runtime = await currentRuntime();
/** The kernel holds more: between visitor and agent, and between agent and target. */
const HELD_BYTES_MAX = OWN_BYTES_MAX + 2 * await connectionBuffersMaxBytes();
const PIECE_BYTES = 64_000;
const UPLOAD_BYTES = PIECE_BYTES * Math.ceil((HELD_BYTES_MAX + 16_000_000) / PIECE_BYTES);

const answer: RequestListener = (request, response) => {
  if (request.url === "/large") {
    response.writeHead(200, { "content-length": ANSWER_BYTES });
    response.end(Buffer.alloc(ANSWER_BYTES, "sallyport"));
  } else response.end(JSON.stringify(request.headers));
};

/** Answers as a WebSocket does, and sends everything back. */
function upgrade(_request: IncomingMessage, socket: Duplex): void {
  socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  socket.pipe(socket);
}

/** An agent's service in front of a target, at a port of this machine. */
async function serve(target: string) {
  const connectors = createServiceConnectors({
    ...{ runtime, log: silentLogger, store: new MemoryCertificateStore() },
    manager: () => assert.fail("no authority is asked"),
  });
  const targets = [parseTarget(target)];
  const service = serviceDefaults({ names: [NAME], targets, tls: "self-signed" });
  const pool = new TargetPool({ targets, runtime, log: silentLogger });
  const connector = connectors.terminating(service, {
    runtime,
    log: silentLogger,
    targets: pool,
    failed() {},
  });
  const listener = await runtime.listen({
    host: "127.0.0.1",
    port: 0,
    accept: (conn) =>
      connector.connect(
        Object.assign(conn, {
          caller: { address: "192.0.2.7", port: 1, serverName: NAME },
          peerPaused: false,
        }),
      ),
  });
  return {
    port: listener.address.port,
    async stop() {
      listener.close();
      await connector.close?.(0);
      connectors.close();
    },
  };
}

async function visit(port: number, protocol: "h2" | "http/1.1") {
  const socket = connectTls({
    ...{ host: "127.0.0.1", port, servername: NAME, rejectUnauthorized: false },
    ALPNProtocols: [protocol],
  });
  await once(socket, "secureConnect");
  socket.on("error", () => {});
  return socket;
}

/** A target that reads a request's head and waits; node:http of both runtimes would read on. */
async function holdingTarget() {
  let received = "";
  let bodyBytes = 0;
  let conn: Conn | undefined;
  const whole = Promise.withResolvers<void>();
  const listener = await runtime.listen({
    host: "127.0.0.1",
    port: 0,
    accept: (accepted) => {
      conn = accepted;
      [received, bodyBytes] = ["", 0];
      accepted.attach({
        data(chunk) {
          const headEnds = received.includes("\r\n\r\n");
          if (headEnds) bodyBytes += chunk.length;
          else {
            received += Buffer.from(chunk).toString("latin1");
            const end = received.indexOf("\r\n\r\n");
            if (end >= 0) {
              bodyBytes = received.length - end - 4;
              accepted.pause();
            }
          }
          if (bodyBytes === UPLOAD_BYTES) whole.resolve();
        },
        end() {},
        drain() {},
        close() {},
      });
    },
  });
  return {
    target: `http://127.0.0.1:${listener.address.port}`,
    asked: () => received.includes("\r\n\r\n"),
    /** Reads the body, and answers. */
    async goOn(): Promise<void> {
      conn!.resume();
      await whole.promise;
      conn!.write(new Uint8Array(Buffer.from("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")));
    },
    stop: () => listener.close(),
  };
}

/** Writes until nothing more is taken; returns how much was. */
async function upload(stream: Duplex, asked: () => boolean): Promise<number> {
  const piece = Buffer.alloc(PIECE_BYTES, "u");
  let sent = 0;
  const send = () => {
    while (sent < UPLOAD_BYTES) {
      sent += piece.length;
      if (!stream.write(piece)) return;
    }
    stream.off("drain", send);
  };
  stream.on("drain", send);
  send();
  await until(asked);
  for (let before = -1; before !== sent;) {
    before = sent;
    await delay(200);
  }
  return sent;
}

describe("createServiceConnectors: a service whose TLS ends in the agent", () => {
  let folder: string;
  const servers: ReturnType<typeof createServer>[] = [];
  const targets: string[] = [];

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "sallyport-targets-"));
    // Expired, and for another name: no one else would accept it.
    const { certificatePem, keyPem } = await makeCertificate({
      commonName: "other.example.org",
      names: ["other.example.org"],
      validDays: 1,
      wallMs: Date.now() - 10 * 86_400_000,
    });
    const secure = createHttpsServer({ cert: certificatePem, key: keyPem }, answer);
    const [plain, unix] = [createServer(answer), createServer(answer)];
    servers.push(secure, plain, unix);
    for (const server of servers) server.on("upgrade", upgrade);
    secure.listen(0, "127.0.0.1");
    plain.listen(0, "127.0.0.1");
    unix.listen(join(folder, "app.sock"));
    await Promise.all(servers.map((server) => once(server, "listening")));
    targets.push(
      `http://127.0.0.1:${portOf(plain)}`,
      `unix:${join(folder, "app.sock")}`,
      `https+insecure://127.0.0.1:${portOf(secure)}`,
    );
  });
  after(async () => {
    for (const server of servers) {
      server.closeAllConnections?.();
      server.close();
    }
    await rm(folder, { recursive: true, force: true });
  });

  for (const [index, kind] of ["http://", "unix:", "https+insecure://"].entries()) {
    it(`reaches ${kind} by HTTP/1.1, HTTP/2 and WebSocket`, { timeout }, async () => {
      const site = await serve(targets[index]!);
      const first = await visit(site.port, "http/1.1");
      first.write(`GET / HTTP/1.1\r\nHost: ${NAME}\r\nConnection: close\r\n\r\n`);
      let text = "";
      for await (const part of first) text += String(part);
      assert.match(text, /^HTTP\/1\.1 200 OK\r\n.*"x-forwarded-for":"192\.0\.2\.7"/s);

      const second = await visit(site.port, "h2");
      const session = connectH2(`https://${NAME}`, { createConnection: () => second });
      const request = session.request({ ":path": "/", ":authority": NAME });
      let body = "";
      for await (const part of request) body += String(part);
      assert.equal((JSON.parse(body) as Record<string, string>)["x-forwarded-host"], NAME);
      session.close();

      const socket = await visit(site.port, "http/1.1");
      socket.write(
        `GET /chat HTTP/1.1\r\nHost: ${NAME}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
      );
      let said = "";
      socket.on("data", (part) => said += String(part));
      await until(() => /101 Switching Protocols.*\r\n\r\n/s.test(said));
      socket.write("ping");
      await until(() => said.endsWith("\r\n\r\nping"));
      socket.destroy();
      await site.stop();
    });
  }

  for (const protocol of ["http/1.1", "h2"] as const) {
    it(
      `stops a visitor whose upload the target doesn't read, and goes on, over ${protocol}`,
      { timeout },
      async () => {
        const target = await holdingTarget();
        const site = await serve(target.target);
        const socket = await visit(site.port, protocol);
        let stream: Duplex = socket;
        if (protocol === "h2") {
          const fields = {
            ":path": "/",
            ":method": "POST",
            ":authority": NAME,
            "content-length": UPLOAD_BYTES,
          };
          stream = connectH2(`https://${NAME}`, { createConnection: () => socket }).request(fields);
        } else socket.write(`POST / HTTP/1.1\r\nHost: ${NAME}\r\nContent-Length: ${UPLOAD_BYTES}\r\n\r\n`);
        const sent = await upload(stream, target.asked);
        assert.ok(sent < HELD_BYTES_MAX, `${sent} bytes were taken for a target that doesn't read`);
        let said = "";
        stream.on("data", (part) => said += String(part));
        await target.goOn();
        await until(() => said.endsWith("whole"));
        socket.destroy();
        await site.stop();
        target.stop();
      },
    );
  }

  it("carries a large answer whole, over both versions", { timeout }, async () => {
    const site = await serve(targets[0]!);
    const expected = createHash("sha256").update(Buffer.alloc(ANSWER_BYTES, "sallyport")).digest("hex");
    const first = await visit(site.port, "http/1.1");
    first.write(`GET /large HTTP/1.1\r\nHost: ${NAME}\r\nConnection: close\r\n\r\n`);
    const parts: Uint8Array[] = [];
    let left = ANSWER_BYTES;
    // Not until the end: Deno's node:tls sometimes reports none for a connection that its peer has closed.
    for await (const part of first) {
      parts.push(part as Uint8Array);
      left -= (part as Uint8Array).length;
      if (left <= -Buffer.from(parts[0]!).indexOf("\r\n\r\n") - 4) break;
    }
    const whole = Buffer.concat(parts);
    const body = whole.subarray(whole.indexOf("\r\n\r\n") + 4);
    assert.equal(createHash("sha256").update(body).digest("hex"), expected);

    const second = await visit(site.port, "h2");
    const session = connectH2(`https://${NAME}`, { createConnection: () => second });
    const digest = createHash("sha256");
    for await (const part of session.request({ ":path": "/large", ":authority": NAME })) {
      digest.update(part as Uint8Array);
    }
    assert.equal(digest.digest("hex"), expected);
    session.close();
    await site.stop();
  });
});
