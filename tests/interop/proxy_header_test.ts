/** The visitor's address, and the name that it asked for, as nginx and haproxy read them from our PROXY headers. */
import assert from "node:assert/strict";
import { transportsOf } from "../support/transports.ts";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { generate } from "selfsigned";
import { type Agent, createAgent } from "../../src/agent/agent.ts";
import { serviceDefaults } from "../../src/agent/services/service.ts";
import { ServiceTable } from "../../src/agent/services/table.ts";
import { parseTarget } from "../../src/agent/services/target.ts";
import { FernetRing } from "../../src/crypto/fernet.ts";
import { loadSodium, makeKeyPair } from "../../src/crypto/sodium.ts";
import { createEdge, type Edge } from "../../src/edge/edge.ts";
import { createToken } from "../../src/protocol/token/token.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import { freePorts } from "../support/free_ports.ts";
import { findProgram, skipWithout, untilListening } from "../support/system_programs.ts";
import { FERNET_KEY } from "../support/tunnel.ts";

const timeout = 60_000;
const NAME = "visitor.test";

let folder: string;
let edge: Edge;
/** Ports of the edge by address family. */
const edgePorts = new Map<string, number>();
const children: ChildProcess[] = [];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-proxy-"));
  const pair = await generate([{ name: "commonName", value: NAME }], { keyType: "ec" });
  await writeFile(join(folder, "cert.pem"), pair.cert);
  await writeFile(join(folder, "key.pem"), pair.private);
  await writeFile(join(folder, "both.pem"), `${pair.cert}\n${pair.private}`);
  const sodium = await loadSodium();
  const keys = makeKeyPair(sodium);
  edge = createEdge({
    runtime: await currentRuntime(),
    ring: new FernetRing([FERNET_KEY]),
    transports: transportsOf({ sealed: { sodium, keys } }),
  });
  for (const host of ["127.0.0.1", "::1"]) {
    try {
      edgePorts.set(host, (await edge.listen({ host, port: 0 })).address.port);
    } catch {
      // A machine without IPv6.
    }
  }
  publicKey = keys.publicKey;
});
let publicKey: Uint8Array<ArrayBuffer>;
after(async () => {
  for (const child of children) child.kill("SIGKILL");
  await edge.close(0);
  await rm(folder, { recursive: true, force: true });
});

/** Starts a program, and waits until it listens. */
async function start(program: string, args: readonly string[], port: number): Promise<void> {
  const child = spawn(program, [...args], { stdio: ["ignore", "ignore", "pipe"] });
  children.push(child);
  let errors = "";
  child.stderr.on("data", (part) => errors += String(part));
  await untilListening(child, port, () => errors);
}

async function serve(port: number, proxyProtocol: 1 | 2): Promise<{ agent: Agent; table: ServiceTable }> {
  const runtime = await currentRuntime();
  const table = new ServiceTable({ runtime, log: silentLogger });
  table.apply([
    serviceDefaults({ names: [NAME], targets: [parseTarget(`127.0.0.1:${port}`)], proxyProtocol }),
  ]);
  const agent = createAgent({
    runtime,
    connector: table.connector,
    transport: "sealed",
    grants: () => {
      const { token, claims } = createToken(new FernetRing([FERNET_KEY]), {
        hostname: NAME,
        nowMs: Date.now(),
        ttlSeconds: 600,
      });
      return Promise.resolve({
        ...claims,
        token,
        edge: { host: "127.0.0.1", port: edgePorts.get("127.0.0.1")!, publicKey },
      });
    },
  });
  void agent.run();
  while (!edge.serves(NAME)) await delay(20);
  return { agent, table };
}

/** GET / by TLS through the edge: the answer's body, and where the request came from. */
async function visit(host: string): Promise<{ body: string; from: string }> {
  const socket = connectTls({
    host,
    port: edgePorts.get(host)!,
    servername: NAME,
    rejectUnauthorized: false,
  });
  await once(socket, "secureConnect");
  const from = `${socket.localAddress} ${socket.localPort}`;
  socket.write(`GET / HTTP/1.1\r\nHost: ${NAME}\r\nConnection: close\r\n\r\n`);
  let text = "";
  for await (const part of socket) text += String(part);
  return { body: text.slice(text.indexOf("\r\n\r\n") + 4).trim(), from };
}

async function check(port: number, version: 1 | 2, hasAuthority: boolean): Promise<void> {
  const { agent, table } = await serve(port, version);
  try {
    for (const host of edgePorts.keys()) {
      const { body, from } = await visit(host);
      const [address, visitorPort, authority] = body.split(" ");
      assert.equal(`${address} ${visitorPort}`, from, host);
      if (hasAuthority) assert.equal(authority, version === 2 ? NAME : undefined);
    }
  } finally {
    await agent.close(0);
    await table.close(0);
    while (edge.serves(NAME)) await delay(20);
  }
}

describe("nginx", { skip: await skipWithout("nginx") }, () => {
  it("sees the visitor's address in both versions of the header, by IPv4 and IPv6", { timeout }, async () => {
    const port = await freePorts(1);
    const config = join(folder, "nginx.conf");
    await writeFile(
      config,
      `daemon off; pid ${folder}/nginx.pid; error_log stderr; worker_processes 1;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path ${folder}/b; proxy_temp_path ${folder}/p; fastcgi_temp_path ${folder}/f;
  uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
  server {
    listen 127.0.0.1:${port} ssl proxy_protocol;
    ssl_certificate ${folder}/cert.pem; ssl_certificate_key ${folder}/key.pem;
    location / { return 200 "$proxy_protocol_addr $proxy_protocol_port"; }
  }
}
`,
    );
    await start(await findProgram("nginx") ?? "nginx", ["-c", config, "-p", folder, "-e", "stderr"], port);
    await check(port, 1, false);
    await check(port, 2, false);
  });
});

describe("haproxy", { skip: await skipWithout("haproxy") }, () => {
  it("sees the visitor's address, and in version 2 the name that it asked for", { timeout }, async () => {
    const port = await freePorts(1);
    const config = join(folder, "haproxy.cfg");
    await writeFile(
      config,
      `defaults
  mode http
  timeout client 10s
  timeout server 10s
  timeout connect 5s
frontend visitors
  bind 127.0.0.1:${port} accept-proxy ssl crt ${folder}/both.pem
  http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[fc_pp_authority]"
`,
    );
    await start(await findProgram("haproxy") ?? "haproxy", ["-db", "-f", config], port);
    await check(port, 1, true);
    await check(port, 2, true);
  });
});
