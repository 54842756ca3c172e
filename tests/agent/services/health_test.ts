import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { checkTarget, HealthChecks } from "../../../src/agent/services/health.ts";
import { type HealthCheck, serviceDefaults } from "../../../src/agent/services/service.ts";
import { parseTarget, type Target } from "../../../src/agent/services/target.ts";
import { TargetPool } from "../../../src/agent/services/targets.ts";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import { currentRuntime } from "../../../src/runtime/mod.ts";
import { type LogLine, recordingLogger } from "../../support/tunnel.ts";
import { startTlsSite } from "../../support/tls_site.ts";

const TCP: HealthCheck = { kind: "tcp", intervalMs: 10_000, timeoutMs: 2_000 };
const HTTP: HealthCheck = { kind: "http", path: "/healthz", intervalMs: 10_000, timeoutMs: 2_000 };

function serviceOf(targets: readonly Target[], healthCheck: HealthCheck) {
  return serviceDefaults({ names: ["a.test"], targets, healthCheck });
}

describe("HealthChecks", () => {
  it("put a target that fails behind the others until it is well again, and say so once", async () => {
    const network = createMemoryNetwork({ seed: 1 });
    const runtime = network.runtime("10.0.0.2");
    const lines: LogLine[] = [];
    const targets = ["10.0.9.9:1", "10.0.9.9:2"].map((text) => parseTarget(text));
    const service = serviceOf(targets, TCP);
    const pool = new TargetPool({ targets, runtime, log: recordingLogger(lines) });
    const down = new Set<Target>();
    const asked: number[] = [0, 0];
    const checks = new HealthChecks({
      service,
      targets: pool,
      runtime,
      check: (target) => {
        asked[targets.indexOf(target)]!++;
        return down.has(target)
          ? Promise.reject(new Error("Cannot connect to 10.0.9.9:1: planted"))
          : Promise.resolve();
      },
    });
    await network.advance(1);
    assert.deepEqual(pool.candidates(), targets);
    down.add(targets[0]!);
    await network.advance(25_000);
    assert.deepEqual(pool.candidates(), targets.toReversed());
    assert.deepEqual(pool.facts[0], { target: "10.0.9.9:1", up: false, error: "planted" });
    down.clear();
    await network.advance(10_000);
    assert.deepEqual(pool.candidates(), targets);
    assert.deepEqual(lines.map(({ level, message }) => `${level} ${message}`), [
      "warn Target 10.0.9.9:1 fails its health check: planted",
      "info Target 10.0.9.9:1 passes its health check again",
    ]);
    const before = [...asked];
    checks.stop();
    await network.advance(60_000);
    assert.deepEqual(asked, before);
  });
});

describe("checkTarget", () => {
  async function listening(server: Server, where: string | number): Promise<Server> {
    server.listen(where as number, ...typeof where === "number" ? ["127.0.0.1"] : []);
    await once(server, "listening");
    return server;
  }
  const site = () =>
    createServer((request, response) => {
      response.statusCode = request.url === "/healthz" ? 204 : 500;
      response.end();
    });

  it("asks by HTTP over TCP, over a unix socket, and over TLS with any certificate", async () => {
    const runtime = await currentRuntime();
    const folder = await mkdtemp(join(tmpdir(), "sallyport-"));
    const tcp = await listening(site(), 0);
    const unix = await listening(site(), join(folder, "app.sock"));
    const tls = await startTlsSite("a.test");
    try {
      const { port } = tcp.address() as AddressInfo;
      const check = (text: string, more: Partial<HealthCheck> = {}) => {
        const target = parseTarget(text);
        return checkTarget(target, { ...HTTP, ...more }, serviceOf([target], HTTP), runtime);
      };
      for (
        const text of [`http://127.0.0.1:${port}`, `unix:${folder}/app.sock`, `https://127.0.0.1:${tls.port}`]
      ) {
        await check(text);
      }
      await check(`http://127.0.0.1:${port}`, { status: 204 });
      await assert.rejects(check(`http://127.0.0.1:${port}`, { status: 200 }), /with 204, expected 200/);
      await assert.rejects(check(`http://127.0.0.1:${port}`, { path: "/" }), /with 500, expected 200 to 399/);
      for (const absent of ["http://127.0.0.1:1", "unix:/none/app.sock"]) {
        await assert.rejects(check(absent), { code: "connection_refused" });
      }
    } finally {
      tcp.close();
      unix.close();
      await tls.stop();
      await rm(folder, { recursive: true });
    }
  });

  it("connects by TCP", async () => {
    const runtime = await currentRuntime();
    const server = await listening(site(), 0);
    const { port } = server.address() as AddressInfo;
    const target = parseTarget(`127.0.0.1:${port}`);
    await checkTarget(target, TCP, serviceOf([target], TCP), runtime);
    server.close();
    await once(server, "close");
    await assert.rejects(checkTarget(target, TCP, serviceOf([target], TCP), runtime), {
      code: "connection_refused",
    });
  });
});
