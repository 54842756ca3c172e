/** Metrics and traces over OTLP, with a collector that stands, on the runtime that the tests run on. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { createLogger, silentLogger } from "../../src/telemetry/log.ts";
import { METRICS, Metrics } from "../../src/telemetry/metrics.ts";
import { startOpenTelemetry, wantsOpenTelemetry } from "../../src/telemetry/open_telemetry.ts";
import { programStarter } from "../cli/program.ts";
import { clientHello } from "../support/client_hello.ts";
import { freePorts } from "../support/free_ports.ts";
import { startCollector } from "../support/otlp_collector.ts";
import { until } from "../support/until.ts";

/** Kinds of spans on the wire. */
const [SERVER, CLIENT] = [2, 3];

const start = programStarter();
let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-otel-"));
});
after(() => rm(folder, { recursive: true, force: true }));

/** Runs with variables of the environment, which the SDK reads itself. */
async function withEnvironment<T>(env: Record<string, string>, work: () => Promise<T>): Promise<T> {
  Object.assign(process.env, env);
  try {
    return await work();
  } finally {
    for (const name of Object.keys(env)) delete process.env[name];
  }
}

describe("startOpenTelemetry", () => {
  it("is asked for by a collector's address, and by no other variable", () => {
    const wanted = (env: Record<string, string>) => wantsOpenTelemetry(env);
    assert.equal(wanted({}), false);
    assert.equal(
      wanted({ OTEL_SERVICE_NAME: "x", OTEL_DENO: "true", OTEL_EXPORTER_OTLP_ENDPOINT: "" }),
      false,
    );
    assert.equal(wanted({ OTEL_EXPORTER_OTLP_ENDPOINT: "http://x" }), true);
    assert.equal(wanted({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://x/v1/traces" }), true);
    assert.equal(wanted({ OTEL_METRICS_EXPORTER: "otlp" }), true);
    assert.equal(wanted({ OTEL_EXPORTER_OTLP_ENDPOINT: "http://x", OTEL_SDK_DISABLED: "true" }), false);
    const none = { OTEL_METRICS_EXPORTER: "none", OTEL_TRACES_EXPORTER: "none" };
    assert.equal(wanted({ OTEL_EXPORTER_OTLP_ENDPOINT: "http://x", ...none }), false);
  });

  it("what isn't supported is refused with the variable's name", async () => {
    const base = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1" };
    for (const wrong of [{ OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }, { OTEL_TRACES_SAMPLER: "jaeger_remote" }]) {
      const env = { ...base, OTEL_METRICS_EXPORTER: "none", ...wrong };
      await assert.rejects(startOpenTelemetry({ env, metrics: new Metrics(), log: silentLogger }), {
        code: "config_invalid",
        message: new RegExp(Object.keys(wrong)[0]!),
      });
    }
  });

  it("sends counters, gauges and histograms under the names that Prometheus has", async () => {
    const collector = await startCollector();
    const metrics = new Metrics();
    metrics.sessionOpened({ protocolVersion: 2, cipher: "aes-gcm", transport: "snitun" });
    metrics.bytesToAgent = 7;
    metrics.refused("agent", "token_expired");
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_TRACES_EXPORTER: "none" };
    await withEnvironment(env, async () => {
      const telemetry = await startOpenTelemetry({ env, metrics, log: silentLogger });
      await telemetry.close();
    });
    const point = (name: string, labels: Record<string, string>) =>
      collector.points.find((found) =>
        found.name === name &&
        Object.entries(labels).every(([label, value]) => found.attributes[label] === value)
      );
    assert.equal(point("sallyport_sessions", { cipher: "aes-gcm", protocol_version: "2" })?.value, 1);
    assert.equal(point("sallyport_bytes_total", { direction: "to_agent" })?.value, 7);
    assert.equal(point("sallyport_refusals_total", { reason: "token_expired" })?.value, 1);
    assert.equal(point("sallyport_loop_delay_seconds", {})?.count, 0);
    const known = new Set(METRICS.map(({ name }) => name));
    assert.deepEqual(collector.points.filter(({ name }) => !known.has(name)), []);
    await collector.stop();
  });

  it("a collector that is away is told of once in the log, and costs nothing else", async () => {
    const collector = await startCollector();
    collector.status.now = 400;
    const lines: string[] = [];
    const log = createLogger({ level: "info", format: "json", write: (line) => lines.push(line) });
    const env = {
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_TRACES_EXPORTER: "none",
      OTEL_METRIC_EXPORT_INTERVAL: "100",
    };
    await withEnvironment(env, async () => {
      const telemetry = await startOpenTelemetry({ env, metrics: new Metrics(), log });
      await until(() => collector.requests.length >= 3);
      collector.status.now = 200;
      await until(() => collector.points.length > 0);
      await telemetry.close();
    });
    const told = lines.map((line) => JSON.parse(line).msg as string);
    assert.deepEqual(told, ["Cannot send metrics to the collector", "metrics reach the collector again"]);
    await collector.stop();
  });

  it(
    "a session master sends metrics and a span for each request, with its id",
    { timeout: 60_000 },
    async () => {
      const collector = await startCollector();
      const dataDir = join(folder, "master");
      const master = start(["master", "--master-listen", "127.0.0.1:0", "--data-dir", dataDir], {
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
        OTEL_EXPORTER_OTLP_HEADERS: "authorization=Bearer%20abc",
        OTEL_METRIC_EXPORT_INTERVAL: "500",
        OTEL_SERVICE_NAME: "tunnels",
        OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=test",
      });
      const [, url = ""] = await master.seen(/session master +(http:\/\/127\.0\.0\.1:\d+)/);
      const key = (await readFile(join(dataDir, "admin.key"), "utf8")).trim();
      const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
      const answer = await fetch(`${url}/v1/agents/nobody`, {
        headers: {
          authorization: `Bearer ${key}`,
          "x-request-id": "request-77",
          traceparent: `00-${traceId}-00f067aa0ba902b7-01`,
        },
      });
      assert.equal(answer.status, 404);
      assert.equal(answer.headers.get("x-request-id"), "request-77");
      assert.equal((await answer.json()).request_id, "request-77");
      // The log names both.
      await master.seen(new RegExp(`request_?id[^\\n]*request-77[^\\n]*${traceId}`, "i"), "stderr");
      await until(
        () => collector.points.some(({ name }) => name === "sallyport_master_requests_total"),
        10_000,
      );
      master.signal("SIGTERM");
      assert.equal(await master.ended, 0);
      const span = collector.spans.find((found) => found.traceId === traceId);
      assert.equal(span?.name, "GET /v1/agents/{id}");
      assert.equal(span?.parentSpanId, "00f067aa0ba902b7");
      assert.equal(span?.attributes["sallyport.request_id"], "request-77");
      assert.equal(span?.attributes["http.response.status_code"], "404");
      const counted = collector.points.findLast(({ name, attributes }) =>
        name === "sallyport_master_requests_total" && attributes.route === "/v1/agents/{id}"
      );
      assert.equal(counted?.value, 1);
      assert.equal(collector.resources[0]?.["service.name"], "tunnels");
      assert.equal(collector.resources[0]?.["deployment.environment.name"], "test");
      assert.deepEqual(
        new Set(collector.requests.map(({ type }) => type)),
        new Set(["application/x-protobuf"]),
      );
      assert.deepEqual(
        new Set(collector.requests.map(({ authorization }) => authorization)),
        new Set(["Bearer abc"]),
      );
      await collector.stop();
    },
  );

  it(
    "a trace goes from the agent's and the edge's requests to the master; agents and visitors have spans at the edge",
    { timeout: 60_000 },
    async () => {
      const collector = await startCollector();
      const traced = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_METRICS_EXPORTER: "none" };
      const as = (name: string) => ({ ...traced, OTEL_SERVICE_NAME: name });
      const masterDir = join(folder, "traced-master");
      const masterPort = await freePorts(2);
      const edgePort = masterPort + 1;
      const url = `http://127.0.0.1:${masterPort}`;
      const master = start([
        ...["master", "--master-listen", `127.0.0.1:${masterPort}`, "--data-dir", masterDir],
        ...["--public-address", `127.0.0.1:${edgePort}`],
      ], as("master"));
      await master.seen(/session master +http/);
      const edge = start([
        ...["edge", "--listen", `127.0.0.1:${edgePort}`, "--data-dir", join(folder, "traced-edge")],
        ...["--master", url, "--fernet-keys-file", join(masterDir, "fernet.keys")],
      ], as("edge"));
      await edge.seen(/which knows this edge as edge-/);
      const agent = start([
        ...["agent", "--master", url, "--credential-file", join(masterDir, "admin.key")],
        ...[
          "--hostname",
          "home.example.org",
          "--to",
          "127.0.0.1:1",
          "--data-dir",
          join(folder, "traced-agent"),
        ],
      ], as("agent"));
      await agent.seen(/connected to the edge/, "stderr");
      for (const name of ["home.example.org", "nobody.example.org"]) {
        const socket = connect(edgePort, "127.0.0.1").on("error", () => {}).resume();
        socket.write(clientHello(name));
        await once(socket, "close");
      }
      for (const program of [agent, edge, master]) {
        program.signal("SIGTERM");
        await program.ended;
      }
      const spans = (name: string) => collector.spans.filter((span) => span.name === name);
      /** The client's span and the server's belong to one trace. */
      const joined = (name: string) => {
        const [client] = spans(name).filter(({ kind }) => kind === CLIENT);
        assert.ok(client !== undefined, `${name}: ${collector.spans.map(({ name }) => name)}`);
        const server = spans(name).find(({ kind, traceId }) => kind === SERVER && traceId === client.traceId);
        assert.equal(
          server?.attributes["http.response.status_code"],
          client.attributes["http.response.status_code"],
        );
      };
      for (const name of ["POST /v1/tokens", "POST /v1/edges/reports", "GET /v1/edges/changes"]) joined(name);
      const [admission] = spans("agent admission");
      assert.equal(admission?.attributes["sallyport.hostname"], "home.example.org");
      assert.equal(admission?.attributes["sallyport.transport"], "snitun");
      const visitors = spans("visitor").map(({ attributes }) =>
        [attributes["server.address"], attributes["client.address"], attributes["error.type"]].join(" ")
      );
      assert.deepEqual(visitors.sort(), [" 127.0.0.1 unrecognized_name", "home.example.org 127.0.0.1 "]);
      await collector.stop();
    },
  );
});
