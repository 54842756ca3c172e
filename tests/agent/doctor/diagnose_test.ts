import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, createServer as createTcpServer, type Server } from "node:net";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { generate } from "selfsigned";
import { MemoryCertificateStore } from "../../../src/agent/acme/certificate_store.ts";
import { CertificateManager } from "../../../src/agent/acme/certificate_manager.ts";
import { type Agent, createAgent } from "../../../src/agent/agent.ts";
import { diagnose, type FaultName } from "../../../src/agent/doctor/diagnose.ts";
import type { Grant } from "../../../src/transport/grant.ts";
import { type Service, serviceDefaults } from "../../../src/agent/services/service.ts";
import { ServiceTable } from "../../../src/agent/services/table.ts";
import { parseTarget } from "../../../src/agent/services/target.ts";
import { createServiceConnectors } from "../../../src/agent/tls/service_connectors.ts";
import { STATUS_VERSION, type StatusReport } from "../../../src/agent/status/report.ts";
import { FernetRing } from "../../../src/crypto/fernet.ts";
import { createEdge, type Edge } from "../../../src/edge/edge.ts";
import { SallyportError } from "../../../src/errors.ts";
import { createToken } from "../../../src/protocol/token/token.ts";
import { currentRuntime } from "../../../src/runtime/mod.ts";
import { silentLogger } from "../../../src/telemetry/log.ts";
import { freePorts } from "../../support/free_ports.ts";
import { FERNET_KEY } from "../../support/tunnel.ts";

const HOST = "127.0.0.1";
const DAY_MS = 86_400_000;
const timeout = 60_000;

let edge: Edge;
let edgePort = 0;
let closedPort = 0;
const servers: Server[] = [];
const agents: Agent[] = [];
const tables: ServiceTable[] = [];

before(async () => {
  edge = createEdge({ runtime: await currentRuntime(), ring: new FernetRing([FERNET_KEY]) });
  edgePort = (await edge.listen({ host: HOST, port: 0 })).address.port;
  closedPort = await freePorts(1);
});
after(async () => {
  await Promise.all(agents.map((agent) => agent.close(0)));
  await Promise.all(tables.map((table) => table.close(0)));
  await edge.close(0);
  for (const server of servers) server.close();
});

async function listening(server: Server): Promise<number> {
  servers.push(server);
  server.listen(0, HOST);
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

async function site(name: string, validTo = new Date(Date.now() + DAY_MS)): Promise<number> {
  const pair = await generate([{ name: "commonName", value: name }], {
    keyType: "ec",
    notBeforeDate: new Date(Date.now() - 10 * DAY_MS),
    notAfterDate: validTo,
    extensions: [{ name: "subjectAltName", altNames: [{ type: 2, value: name }] }],
  });
  return await listening(
    createHttpsServer({ key: pair.private, cert: pair.cert }, (_, answer) => answer.end()),
  );
}

/** An agent with one service, and what it says of itself. */
async function agentFor(
  given: Partial<Service> & Pick<Service, "names">,
  target: string,
  grants?: () => Promise<Grant>,
): Promise<() => StatusReport> {
  const runtime = await currentRuntime();
  const connectors = createServiceConnectors({
    ...{ runtime, log: silentLogger, store: new MemoryCertificateStore() },
    manager: () =>
      new CertificateManager({
        ...{
          clock: runtime.clock,
          store: new MemoryCertificateStore(),
          authorities: [`https://${HOST}:1/dir`],
        },
      }),
  });
  const table = new ServiceTable({ runtime, log: silentLogger, connectors });
  tables.push(table);
  table.apply([serviceDefaults({ ...given, targets: [parseTarget(target)] })]);
  const [hostname, ...aliases] = given.names;
  const startedMs = Date.now();
  const agent = createAgent({
    runtime,
    connector: table.connector,
    grants: grants ?? (() => {
      const ring = new FernetRing([FERNET_KEY]);
      const { token, claims } = createToken(ring, {
        hostname: hostname!,
        aliases,
        nowMs: Date.now(),
        ttlSeconds: 600,
      });
      return Promise.resolve({ ...claims, token, edge: { host: HOST, port: edgePort } });
    }),
  });
  agents.push(agent);
  agent.run().catch(() => {});
  const isReady = () => grants === undefined ? edge.serves(hostname!) : agent.facts.lastFailure !== undefined;
  while (!isReady()) await delay(10);
  return () => ({
    ...{ statusVersion: STATUS_VERSION, version: "0", runtime: "test", pid: 1, startedMs, nowMs: Date.now() },
    ...{ master: "", agent: agent.facts, services: table.facts, published: [] },
  });
}

async function faultOf(
  name: string,
  report?: () => StatusReport,
  where: { readonly host?: string; readonly port?: number } = { host: HOST },
): Promise<{ fault: FaultName | undefined; text: string }> {
  const findings = await diagnose({
    runtime: await currentRuntime(),
    name,
    port: where.port ?? edgePort,
    ...where.host === undefined ? {} : { host: where.host },
    ...report === undefined ? {} : { ask: report },
  });
  assert.ok(findings.slice(0, -1).every(({ fault }) => fault === undefined));
  const { fault, message, next } = findings.at(-1)!;
  assert.equal(next !== undefined, fault !== undefined, "a fault comes with what to do");
  return { fault, text: message };
}

describe("diagnose", () => {
  it("finds nothing where all is in order", { timeout }, async () => {
    const report = await agentFor({ names: ["good.test"] }, `${HOST}:${await site("good.test")}`);
    const { fault, text } = await faultOf("good.test", report);
    assert.equal(fault, undefined, text);
    assert.match(text, /^good for good\.test, for another 23 h 59 min; this machine doesn't trust/);
    assert.equal((await faultOf("good.test")).fault, undefined);
  });

  it("visits a target behind TLS that ends in the agent, from any side", { timeout }, async () => {
    const site = await listening(createHttpServer((_, answer) => void answer.writeHead(404).end()));
    const odd = await listening(createTcpServer((socket) => void socket.end("SSH-2.0-x\r\n\r\n")));
    const tls = "self-signed";
    const good = await agentFor({ names: ["page.test"], tls }, `http://${HOST}:${site}`);
    const dead = await agentFor({ names: ["down.test"], tls }, `http://${HOST}:${closedPort}`);
    const strange = await agentFor({ names: ["odd.test"], tls }, `http://${HOST}:${odd}`);
    assert.equal((await faultOf("page.test", good)).fault, undefined);
    for (const report of [dead, undefined]) {
      const { fault, text } = await faultOf("down.test", report);
      assert.equal(fault, "endpoint_unreachable", text);
      assert.match(
        text,
        report === undefined ? /can't reach the service's target$/ : /the target http:.*refused/,
      );
    }
    const { fault, text } = await faultOf("odd.test", strange);
    assert.equal(fault, "endpoint_protocol", text);
    assert.match(text, /the target http:\/\/127\.0\.0\.1:\d+, but it doesn't answer in HTTP/);
  });

  it(
    "tells a certificate that the agent doesn't get from a target that it doesn't reach",
    { timeout },
    async () => {
      const site = await listening(createHttpServer((_, answer) => answer.end()));
      const target = `http://${HOST}:${site}`;
      const acme = await agentFor({ names: ["acme.test"], tls: "acme" }, target);
      const files = { certificateFile: "/none/cert.pem", keyFile: "/none/key.pem" };
      const unread = await agentFor({ names: ["file.test"], tls: files }, target);
      const cases = [
        [
          "acme.test",
          acme,
          /^The agent has no certificate for acme\.test: Cannot reach certificate authority/,
        ],
        ["file.test", unread, /^The agent has no certificate for file\.test: .*\/none\/cert\.pem/],
      ] as const;
      for (const [name, report, message] of cases) {
        const { fault, text } = await faultOf(name, report);
        assert.equal(fault, "certificate", text);
        assert.match(text, message);
      }
      const { fault, text } = await faultOf("acme.test");
      assert.equal(fault, "endpoint_unreachable");
      assert.match(text, /can't reach the service's target, or has no certificate for the name$/);
    },
  );

  it("names each planted fault", { timeout }, async () => {
    const http = await listening(createHttpServer((_, answer) => answer.end()));
    const refused = () =>
      Promise.reject(
        new SallyportError("credential_refused", "Cannot get token: credential refused", {
          side: "network",
          retryable: true,
        }),
      );
    const unreachable = () =>
      Promise.reject(
        new SallyportError("edge_unreachable", "Cannot reach edge: no route", {
          side: "network",
          retryable: true,
        }),
      );
    const offline = await agentFor({ names: ["offline.test"] }, "127.0.0.1:1", unreachable);
    const noToken = await agentFor({ names: ["token.test"] }, "127.0.0.1:1", refused);
    const policy = await agentFor({ names: ["policy.test"], block: ["127.0.0.0/8"] }, "127.0.0.1:1");
    const dead = await agentFor({ names: ["dead.test"] }, `${HOST}:${closedPort}`);
    const plain = await agentFor({ names: ["plain.test"] }, `${HOST}:${http}`);
    const old = await agentFor(
      { names: ["old.test"] },
      `${HOST}:${await site("old.test", new Date(Date.now() - DAY_MS))}`,
    );
    const other = await agentFor({ names: ["other.test"] }, `${HOST}:${await site("elsewhere.test")}`);
    const cases: readonly [FaultName, RegExp, ReturnType<typeof faultOf>][] = [
      ["dns", /nothing\.invalid/, faultOf("nothing.invalid", undefined, {})],
      ["port", /refused/, faultOf("a.test", undefined, { host: HOST, port: closedPort })],
      ["edge", /No edge listens .*HTTP/, faultOf("a.test", undefined, { host: HOST, port: http })],
      ["agent_offline", /no session since its start .* no route/, faultOf("offline.test", offline)],
      ["agent_offline", /No agent serves offline\.test/, faultOf("offline.test")],
      ["token", /gets no token: .*credential refused/, faultOf("token.test", noToken)],
      ["policy", /access list of policy\.test/, faultOf("policy.test", policy)],
      [
        "service_missing",
        /no service called missing\.test; it has dead\.test/,
        faultOf("missing.test", dead),
      ],
      [
        "endpoint_unreachable",
        /can't reach the target 127\.0\.0\.1:\d+ .*refused/,
        faultOf("dead.test", dead),
      ],
      [
        "endpoint_protocol",
        /the target 127\.0\.0\.1:\d+ answers "HTTP\/1\.1 400/,
        faultOf("plain.test", plain),
      ],
      ["certificate", /of old\.test expired 1 d/, faultOf("old.test", old)],
      ["certificate", /is for DNS:elsewhere\.test, not for other\.test/, faultOf("other.test", other)],
    ];
    for (const [fault, message, found] of cases) {
      const { fault: named, text } = await found;
      assert.equal(named, fault, text);
      assert.match(text, message);
    }
  });
});
