import { describe, it } from "node:test";
import assert from "node:assert/strict";
import { register } from "prom-client";
import type { Clock } from "../../src/runtime/port.ts";
import { SERVICE_METRICS, ServiceMetrics } from "../../src/agent/services/metrics.ts";
import { METRICS, Metrics } from "../../src/telemetry/metrics.ts";
import { VERSION } from "../../src/version.ts";
import { CURVE_METRICS, CurveMetrics, type CurveSource } from "../../src/transport/curve/metrics.ts";
import { parsePrometheus, sampleValue } from "./prometheus.ts";

const ALL = [...METRICS, ...CURVE_METRICS, ...SERVICE_METRICS];
const LABELS = { protocolVersion: 2, cipher: "aes-gcm", transport: "snitun" };
const NAMED = { protocol_version: "2", cipher: "aes-gcm", transport: "snitun" };

async function scrape(metrics: Metrics) {
  return parsePrometheus(await metrics.render());
}

/** A clock whose one timer is fired by hand, late by as much as the test wants. */
function manualClock() {
  let nowMs = 1_000;
  let pending: { delayMs: number; run: () => void } | undefined;
  const clock: Clock = {
    nowMs: () => nowMs,
    wallMs: () => nowMs,
    after(delayMs, run) {
      const timer = { delayMs, run };
      pending = timer;
      return { cancel: () => void (pending = pending === timer ? undefined : pending) };
    },
    soon: (run) => run(),
  };
  return {
    clock,
    pending: () => pending !== undefined,
    fire(lateMs: number) {
      const timer = pending;
      assert.ok(timer);
      pending = undefined;
      nowMs += timer.delayMs + lateMs;
      timer.run();
    },
  };
}

/** A source with one connection; all its figures are multiples of `times`. */
function curveSource(times: number): CurveSource {
  const counts = {
    ...{ packetsSent: 1, packetsReceived: 2, packetsLost: 3, bytesResent: 4, duplicates: 5, reordered: 6 },
    ...{ replays: 7, forgeries: 8, pathMoves: 9, cookiesIssued: 10, cookiesRefused: 11, initsRefused: 12 },
    passed: 13,
  };
  const state = { rttLastMs: 10, rttMinMs: 5, rttSmoothedMs: 9, windowBytes: 1000, inFlightBytes: 100 };
  const scaled = <Of extends Record<string, number>>(of: Of) =>
    Object.fromEntries(Object.entries(of).map(([name, value]) => [name, value * times])) as Of;
  return { counts: () => scaled(counts), gauges: () => [scaled(state)] };
}

describe("Metrics", () => {
  it("writes exactly the metrics that the three tables list, with their types and labels", async () => {
    const metrics = new Metrics();
    metrics.sessionOpened(LABELS);
    metrics.transportAttempted("curve", "won");
    metrics.sessionEnded("closed");
    metrics.visitorForwarded("out");
    metrics.refused("agent", "token_invalid");
    metrics.pipeTransfer("received");
    metrics.tokenIssued(2, "aes-gcm");
    metrics.masterRequest("/v1/tokens", 201);
    metrics.internalError("connection");
    metrics.webhookAttempt("delivered");
    metrics.watchCluster(() => ({ size: 1, links: 0, directoryAnswers: true }));
    metrics.group(CurveMetrics).add(curveSource(1));
    metrics.group(ServiceMetrics).source = () => [
      { name: "a.test", visitors: 1, visitorsTotal: 2, targets: [{ target: "127.0.0.1:1", up: true }] },
    ];
    const { samples, families } = await scrape(metrics);
    assert.deepEqual([...families.keys()].sort(), ALL.map((metric) => metric.name).sort());
    for (const { name, type, help, labels } of ALL) {
      assert.deepEqual(families.get(name), { help, type });
      const sample = samples.find((sample) => sample.name === (type === "histogram" ? `${name}_sum` : name));
      assert.ok(sample, name);
      assert.deepEqual(Object.keys(sample.labels).sort(), [...labels].sort(), name);
    }
  });

  it("sums over curve connections, and forgets no counter of what is gone", async () => {
    const metrics = new Metrics();
    const remove = metrics.group(CurveMetrics).add(curveSource(1));
    metrics.group(CurveMetrics).add(curveSource(3));
    const value = async (name: string, labels = {}) =>
      sampleValue(await scrape(metrics), `sallyport_curve_${name}`, labels);
    assert.equal(await value("packets_lost_total"), 12);
    assert.equal(await value("cookies_refused_total"), 44);
    assert.equal(await value("handshakes_refused_total"), 48);
    assert.equal(await value("window_bytes"), 4000);
    assert.equal(await value("in_flight_bytes"), 400);
    assert.equal(await value("round_trip_seconds", { stat: "last" }), 0.02);
    assert.equal(await value("round_trip_seconds", { stat: "min" }), 0.005);
    assert.equal(await value("round_trip_seconds", { stat: "smoothed" }), 0.018);
    remove();
    assert.equal(await value("packets_lost_total"), 12);
    assert.equal(await value("window_bytes"), 3000);
  });

  it("asks each source of the curve transport once a scrape, however many connections it sums", async () => {
    const metrics = new Metrics();
    const asked: string[] = [];
    const { counts, gauges } = curveSource(1);
    const states = Array.from({ length: 200_000 }, () => [...gauges()][0]!);
    metrics.group(CurveMetrics).add({
      counts: () => (asked.push("counts"), counts()),
      gauges: () => (asked.push("gauges"), states),
    });
    for (let scrapes = 1; scrapes <= 2; scrapes++) {
      const { samples } = await scrape(metrics);
      assert.equal(samples.find(({ name }) => name === "sallyport_curve_window_bytes")?.value, 200_000_000);
      assert.equal(asked.length, 2 * scrapes);
    }
  });

  it("says what its text is", () => {
    assert.match(new Metrics().contentType, /^text\/plain; version=0\.0\.4/);
  });

  it("counts sessions up and down, and handshakes up", async () => {
    const metrics = new Metrics();
    metrics.sessionOpened(LABELS);
    metrics.sessionOpened(LABELS);
    metrics.sessionOpened({ ...LABELS, protocolVersion: 0, cipher: "aes-cbc" });
    metrics.sessionClosed(LABELS);
    metrics.sessionEnded("replaced");
    const seen = await scrape(metrics);
    assert.equal(sampleValue(seen, "sallyport_sessions", NAMED), 1);
    assert.equal(sampleValue(seen, "sallyport_sessions", { cipher: "aes-cbc", protocol_version: "0" }), 1);
    assert.equal(sampleValue(seen, "sallyport_handshakes_total", NAMED), 2);
    assert.equal(sampleValue(seen, "sallyport_session_ends_total", { reason: "replaced" }), 1);
  });

  it("hands plain counters over at each scrape, without adding them twice", async () => {
    const metrics = new Metrics();
    for (let round = 1; round <= 3; round++) {
      metrics.bytesToAgent += 10;
      metrics.bytesToVisitor += 2 ** 40;
      metrics.streamOpened();
      metrics.streamOpened();
      metrics.streamClosed();
      const seen = await scrape(metrics);
      assert.equal(sampleValue(seen, "sallyport_bytes_total", { direction: "to_agent" }), 10 * round);
      assert.equal(sampleValue(seen, "sallyport_bytes_total", { direction: "to_visitor" }), 2 ** 40 * round);
      assert.equal(sampleValue(seen, "sallyport_streams"), round);
      assert.equal(sampleValue(seen, "sallyport_streams_total"), 2 * round);
    }
    const [first, second] = await Promise.all([scrape(metrics), scrape(metrics)]);
    assert.equal(sampleValue(first, "sallyport_streams_total"), 6);
    assert.equal(sampleValue(second, "sallyport_streams_total"), 6);
  });

  it("starts bytes and streams at zero, so that rates exist from the first scrape", async () => {
    const { samples } = await scrape(new Metrics());
    for (const name of ["sallyport_bytes_total", "sallyport_streams", "sallyport_streams_total"]) {
      assert.equal(samples.find((sample) => sample.name === name)?.value, 0, name);
    }
  });

  it("counts refusals, tokens and requests by their labels", async () => {
    const metrics = new Metrics();
    metrics.refused("visitor", "unrecognized_name");
    metrics.refused("visitor", "unrecognized_name");
    metrics.refused("agent", "token_expired");
    metrics.tokenIssued(1, "aes-cbc");
    metrics.masterRequest("/healthz", 200);
    const seen = await scrape(metrics);
    const name = "sallyport_refusals_total";
    assert.equal(sampleValue(seen, name, { what: "visitor", reason: "unrecognized_name" }), 2);
    assert.equal(sampleValue(seen, name, { what: "agent", reason: "token_expired" }), 1);
    assert.equal(
      sampleValue(seen, "sallyport_tokens_issued_total", { protocol_version: "1", cipher: "aes-cbc" }),
      1,
    );
    assert.equal(
      sampleValue(seen, "sallyport_master_requests_total", { route: "/healthz", status: "200" }),
      1,
    );
  });

  it("says what it was built from and runs on", async () => {
    const metrics = new Metrics({ runtime: { name: "bun", version: "1.2.3" } });
    const labels = { version: VERSION, runtime: "bun", runtime_version: "1.2.3" };
    const seen = await scrape(metrics);
    assert.equal(sampleValue(seen, "sallyport_build_info", labels), 1);
    assert.ok(sampleValue(seen, "process_resident_memory_bytes") > 1_000_000);
    const started = sampleValue(seen, "process_start_time_seconds");
    assert.ok(started > 1_600_000_000 && started <= Date.now() / 1000 + 1);
  });

  it("keeps apart from other instances and from prom-client's own registry", async () => {
    const one = new Metrics();
    const two = new Metrics();
    one.streamOpened();
    one.refused("agent", "token_invalid");
    const seen = await scrape(two);
    assert.equal(sampleValue(seen, "sallyport_streams"), 0);
    assert.equal(sampleValue(seen, "sallyport_refusals_total"), 0);
    assert.deepEqual(register.getMetricsAsArray(), []);
  });

  it("measures the loop's delay by a timer's drift until it is cancelled", async () => {
    const metrics = new Metrics();
    const { clock, fire, pending } = manualClock();
    const timer = metrics.startLoopDelay(clock);
    fire(0);
    fire(15);
    fire(700);
    const seen = await scrape(metrics);
    const name = "sallyport_loop_delay_seconds";
    assert.equal(sampleValue(seen, `${name}_count`), 3);
    assert.equal(sampleValue(seen, `${name}_sum`), 0.715);
    assert.equal(sampleValue(seen, `${name}_bucket`, { le: "0.001" }), 1);
    assert.equal(sampleValue(seen, `${name}_bucket`, { le: "0.02" }), 2);
    assert.equal(sampleValue(seen, `${name}_bucket`, { le: "+Inf" }), 3);
    timer.cancel();
    timer.cancel();
    assert.equal(pending(), false, "a timer is left");
  });
});
