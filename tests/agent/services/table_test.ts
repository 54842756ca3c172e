import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { ServiceConnectors } from "../../../src/agent/services/port.ts";
import { type Service, serviceDefaults } from "../../../src/agent/services/service.ts";
import { CHANGED_SERVICE_GRACE_MS, ServiceTable } from "../../../src/agent/services/table.ts";
import { parseTarget } from "../../../src/agent/services/target.ts";
import { TARGET_PENALTY_MS } from "../../../src/agent/services/targets.ts";
import { LOG_SAMPLE_INTERVAL_MS, LOG_SAMPLE_VISITORS_BURST } from "../../../src/telemetry/log_sampler.ts";
import type { SessionStream } from "../../../src/transport/port.ts";
import { parseProxyHeader } from "../../../src/wire/proxy/proxy_header.ts";
import { pattern, Watched } from "../../conformance/runtime_helpers.ts";
import {
  AGENT_HOST,
  assertAlert,
  bytesFrom,
  type LogLine,
  recordingLogger,
  TestEdge,
} from "../../support/tunnel.ts";

const HOST = "10.0.9.9";
const NAMES = ["a.test", "b.test", "deep.b.test", "x.w.test", "y.w.test"];
/** A TLS handshake record's beginning, as a server answers. */
const TLS_ANSWER = Uint8Array.of(22, 3, 3, 0, 1, 2);

function service(names: string[], targets: string[], more: Partial<Service> = {}): Service {
  return serviceDefaults({ names, targets: targets.map((text) => parseTarget(text)), ...more });
}

/** An edge, a session that serves NAMES by a table, and endpoints at ports of one host. */
async function world(services: readonly Service[], connectors?: ServiceConnectors) {
  const test = await TestEdge.start({ answerTimeoutMs: 0 });
  const lines: LogLine[] = [];
  const table = new ServiceTable({
    runtime: test.runtime(AGENT_HOST),
    log: recordingLogger(lines),
    ...connectors === undefined ? {} : { connectors },
  });
  table.apply(services);
  const endpoints = new Map<number, Watched[]>();
  test.runtime(HOST);
  const listen = async (port: number) => {
    const conns: Watched[] = [];
    endpoints.set(port, conns);
    return await test.runtime(HOST).listen({
      host: HOST,
      port,
      accept: (conn) => void conns.push(new Watched(conn)),
    });
  };
  await test.connect({ hostname: NAMES[0]!, aliases: NAMES.slice(1) }, {
    admitted: () => ({
      stream: (s) => void table.connector(s),
      streamClosed() {},
      streamRefused() {},
      ended() {},
    }),
  });
  const at = (port: number) => endpoints.get(port) ?? [];
  return { test, table, lines, listen, at };
}

describe("ServiceTable", () => {
  it("hands each visitor to the service of its name: exact before wildcard, one label deep", async () => {
    const { test, table, listen, at } = await world([
      service(["a.test", "b.test"], [`${HOST}:1`]),
      service(["*.w.test"], [`${HOST}:2`]),
      service(["x.w.test"], [`${HOST}:3`]),
    ]);
    for (const port of [1, 2, 3]) await listen(port);
    for (const [name, port] of [["a.test", 1], ["b.test", 1], ["x.w.test", 3], ["y.w.test", 2]] as const) {
      const before = at(port).length;
      const { hello } = await test.visit(name, { more: pattern(1_000) });
      assert.equal(at(port).length, before + 1, name);
      assert.equal(at(port).at(-1)!.byteLength, hello.length + 1_000, name);
    }
    assert.deepEqual(table.facts.map(({ visitors }) => visitors), [2, 1, 1]);
    const { conn } = await test.visit("deep.b.test");
    assertAlert(conn, 112);
    assert.equal(table.find("z.y.w.test"), undefined);
  });

  it("names an endpoint that answers in plain HTTP where TLS was promised, and the remedy", async () => {
    const { test, table, lines, listen, at } = await world([service(["a.test"], [`${HOST}:80`])]);
    await listen(80);
    const { conn } = await test.visit();
    const answer = new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n");
    at(80)[0]!.write(answer);
    await test.advance(10);
    assert.deepEqual(bytesFrom(conn), answer);
    const [line] = lines.filter(({ fields }) => fields.reason === "endpoint_not_tls");
    assert.equal(line?.level, "warn");
    assert.match(line!.message, /10\.0\.9\.9:80 should speak TLS itself, but answers in plain HTTP/);
    assert.match(line!.message, /Name it as http:\/\/10\.0\.9\.9:80/);
    assert.equal(table.facts[0]!.errors.length, 1);
    // Not for every visitor.
    await test.visit();
    at(80)[1]!.write(answer);
    await test.advance(10);
    assert.equal(lines.filter(({ fields }) => fields.reason === "endpoint_not_tls").length, 1);
  });

  it("says nothing of an endpoint that speaks TLS, nor of one whose visitor left first", async () => {
    const { test, lines, listen, at } = await world([service(["a.test"], [`${HOST}:80`])]);
    await listen(80);
    const { conn } = await test.visit();
    at(80)[0]!.write(TLS_ANSWER);
    await test.advance(10);
    assert.equal(conn.byteLength, TLS_ANSWER.length);
    const other = await test.visit();
    other.conn.abort();
    await test.advance(10);
    at(80)[1]!.closeWrite();
    await test.advance(10);
    assert.deepEqual(lines.filter(({ level }) => level === "warn"), []);
  });

  it("goes on with the next target where one doesn't answer, and tries that one last for a while", async () => {
    const { test, table, listen, at } = await world([service(["a.test"], [`${HOST}:1`, `${HOST}:2`])]);
    await listen(2);
    await test.visit();
    assert.equal(at(2).length, 1);
    assert.deepEqual(table.facts[0]!.targets.map(({ up }) => up), [false, true]);
    await listen(1);
    await test.visit();
    assert.equal(at(2).length, 2);
    await test.advance(TARGET_PENALTY_MS);
    await test.visit();
    assert.equal(at(1).length, 1);
    assert.deepEqual(
      table.facts[0]!.targets,
      [`${HOST}:1`, `${HOST}:2`].map((target) => ({ target, up: true })),
    );
  });

  it("answers with alert internal_error where no target answers, and names them all", async () => {
    const { test, table, lines } = await world([service(["a.test"], [`${HOST}:1`, `${HOST}:2`])]);
    const { conn } = await test.visit();
    await test.advance(10);
    assertAlert(conn, 80);
    const told = lines.filter(({ fields }) => fields.reason === "endpoint_unreachable");
    assert.deepEqual(told.map(({ message }) => message), [
      "Cannot reach endpoint 10.0.9.9:1: connection refused; 10.0.9.9:2: connection refused",
    ]);
    assert.equal(table.facts[0]!.errors.length, 1);
    assert.equal(table.facts[0]!.visitors, 0);
    await test.assertNothingLeft();
  });

  it("puts the visitor's address and the name before the bytes, in the PROXY version that is asked for", async () => {
    for (const version of [1, 2] as const) {
      for (
        const [from, host] of [["198.51.100.7", "198.51.100.7"], ["2001:db8::7", "2001:db8::7"]] as const
      ) {
        const { test, listen, at } = await world([
          service(["a.test"], [`${HOST}:1`], { proxyProtocol: version }),
        ]);
        await listen(1);
        const { hello } = await test.visit("a.test", { from });
        const got = bytesFrom(at(1)[0]!);
        const outcome = parseProxyHeader(got);
        assert.equal(outcome.kind, "header");
        if (outcome.kind !== "header") return;
        assert.equal(outcome.source?.host, host);
        assert.deepEqual(got.subarray(outcome.length), hello);
        const text = new TextDecoder("latin1").decode(got.subarray(0, outcome.length));
        assert.equal(text.endsWith("\x02\x00\x06a.test"), version === 2);
      }
    }
  });

  it("keeps out visitors by network, and those beyond its limits", async () => {
    const { test, listen, at, lines } = await world([
      service(["a.test"], [`${HOST}:1`], {
        block: ["198.51.100.66"],
        limits: { connections: 3, connectionsPerVisitor: 2 },
      }),
    ]);
    await listen(1);
    assertAlert((await test.visit("a.test", { from: "198.51.100.66" })).conn, 49);
    const first = await test.visit("a.test", { from: "198.51.100.1" });
    await test.visit("a.test", { from: "198.51.100.1" });
    assertAlert((await test.visit("a.test", { from: "198.51.100.1" })).conn, 80);
    await test.visit("a.test", { from: "198.51.100.2" });
    assertAlert((await test.visit("a.test", { from: "198.51.100.3" })).conn, 80);
    assert.equal(at(1).length, 3);
    first.conn.abort();
    await test.advance(10);
    at(1)[0]!.abort();
    await test.advance(10);
    await test.visit("a.test", { from: "198.51.100.1" });
    assert.equal(at(1).length, 4);
    assert.deepEqual(lines.filter(({ fields }) => "reason" in fields).map(({ fields }) => fields.reason), [
      "access_denied",
      "limit_exceeded",
      "limit_exceeded",
    ]);
  });

  it("logs a few of the visitors that it refuses, and counts the others", async () => {
    const { test, lines } = await world([service(["a.test"], [`${HOST}:1`], { block: ["198.51.100.66"] })]);
    const refused = LOG_SAMPLE_VISITORS_BURST + 20;
    for (let n = 0; n < refused; n++) {
      await test.visit("a.test", { from: "198.51.100.66" });
      await test.visit("b.test");
    }
    const of = (reason: string) => lines.filter(({ fields }) => fields.reason === reason);
    for (const reason of ["access_denied", "unrecognized_name"]) {
      assert.equal(of(reason).length, LOG_SAMPLE_VISITORS_BURST, reason);
    }
    await test.advance(LOG_SAMPLE_INTERVAL_MS);
    await test.visit("a.test", { from: "198.51.100.66" });
    assert.match(of("access_denied").at(-2)!.message, /^20 more in \d+ s, the last: /);
  });

  it("applies new services without touching visitors of those that are as they were", async () => {
    const same = service(["a.test"], [`${HOST}:1`]);
    const { test, table, listen, at } = await world([
      same,
      service(["b.test"], [`${HOST}:2`]),
      service(["deep.b.test"], [`${HOST}:3`]),
    ]);
    for (const port of [1, 2, 3, 4]) await listen(port);
    const kept = await test.visit("a.test");
    const changed = await test.visit("b.test");
    const removed = await test.visit("deep.b.test");
    assert.deepEqual(
      table.apply([
        service(["a.test"], [`${HOST}:1`]),
        service(["b.test"], [`${HOST}:4`]),
        service(["x.w.test"], [`${HOST}:3`]),
      ]),
      { kept: ["a.test"], changed: ["b.test"], removed: ["deep.b.test"], added: ["x.w.test"] },
    );
    await test.advance(10);
    assert.equal(removed.conn.ended, true);
    assert.equal(changed.conn.ended, false);
    await test.visit("b.test");
    assert.equal(at(4).length, 1);
    await test.advance(CHANGED_SERVICE_GRACE_MS);
    assert.equal(changed.conn.ended, true);
    kept.conn.write(pattern(100));
    await test.advance(10);
    assert.equal(at(1)[0]!.byteLength, kept.hello.length + 100);
    assert.equal(table.facts[0]!.visitors, 1);
  });

  it("refuses services that share a name, and keeps those that it has", async () => {
    const { table } = await world([service(["a.test"], [`${HOST}:1`])]);
    const twice = [service(["b.test"], [`${HOST}:1`]), service(["x.w.test", "b.test"], [`${HOST}:2`])];
    assert.throws(() => table.apply(twice), {
      code: "config_invalid",
      message: "Cannot use services: b.test belongs to the service b.test and to x.w.test",
    });
    assert.throws(() => table.apply([service(["b.test"], ["http://10.0.9.9:1"])]), { code: "not_supported" });
    assert.deepEqual(table.names, ["a.test"]);
  });

  it("ends idle visitors by the service's own time", async () => {
    const { test, listen } = await world([service(["a.test"], [`${HOST}:1`], { idleTimeoutMs: 60_000 })]);
    await listen(1);
    const { conn } = await test.visit();
    await test.advance(59_000);
    assert.equal(conn.ended, false);
    await test.advance(31_000);
    assert.equal(conn.ended, true);
  });

  it("gives a service whose TLS ends here to what the embedder plugs in, with the name", async () => {
    const seen: SessionStream[] = [];
    const closed: number[] = [];
    const connectors: ServiceConnectors = {
      terminating: (made) => ({
        connect: (stream) => {
          assert.deepEqual(made.names, ["*.w.test"]);
          if (stream.caller.address === "198.51.100.66") throw new Error("planted");
          seen.push(stream);
          new Watched(stream as never);
        },
        close: (graceMs) => void closed.push(graceMs),
      }),
      close: () => Promise.resolve(),
    };
    const { test, table, lines } = await world([service(["*.w.test"], ["http://10.0.9.9:1"])], connectors);
    await test.visit("y.w.test");
    assert.equal(seen[0]!.caller.serverName, "y.w.test");
    const bad = await test.visit("y.w.test", { from: "198.51.100.66" });
    assert.equal(bad.conn.ended, true);
    assert.match(lines.at(-2)?.message ?? "", /planted/);
    assert.equal(table.facts[0]!.visitors, 1);
    table.apply([]);
    await test.advance(10);
    assert.deepEqual(closed, [0]);
  });
});
