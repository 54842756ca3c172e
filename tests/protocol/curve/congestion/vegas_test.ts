/** Point 8 of the ten (issue 4), and how the congestion controls live with losses and with each other. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { AckInfo } from "../../../../src/protocol/curve/congestion/congestion.ts";
import { Vegas } from "../../../../src/protocol/curve/congestion/vegas.ts";
import { Link, type LinkOptions } from "../sim.ts";
import {
  Collector,
  connect,
  cryptoForTests,
  type CurveOptions,
  pour,
  startServer,
  TestClient,
  world,
} from "../support.ts";
import { pattern } from "../../../support/seeded.ts";

const crypto = await cryptoForTests();
/** 10 Mbit/s, a round trip of 50 ms, a buffer of half a second. */
const DEEP: LinkOptions = { delayMs: 25, rate: 1_250, bufferBytes: 625_000 };
const PACKET = 1_452 + 28;

function average(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Downloads of several clients over one link; the congestion control of each. */
async function share(link: LinkOptions, flows: CurveOptions["congestion"][], bytes: number) {
  const net = world();
  const down = new Link(net.clock, link, 21);
  const up = new Link(net.clock, { delayMs: link.delayMs }, 22);
  const got: Collector[] = [];
  const servers = [];
  for (const [i, congestion] of flows.entries()) {
    const host = `10.0.0.${i + 10}`;
    net.links.set(host, { up, down });
    const address = { host: `192.0.2.${i + 1}`, port: 4_500 };
    const server = await startServer(net, crypto, { options: { congestion } }, address);
    const collector = new Collector();
    got.push(collector);
    const client = new TestClient();
    client.onStream = (stream) => stream.attach(collector);
    await connect(net, crypto, { server: address }, host, client);
    servers.push(server);
  }
  for (const server of servers) pour(server.connections[0]!.open(), pattern(bytes));
  return { net, down, got, connections: servers.map((server) => server.connections[0]!) };
}

describe("Vegas", () => {
  it("8: keeps the standing queue at a few packets and uses the link", async () => {
    const { net, down, got } = await share(DEEP, ["vegas"], 20_000_000);
    net.clock.run(3_000);
    down.samples.length = 0;
    const before = got[0]!.size;
    net.clock.run(10_000);
    const use = (got[0]!.size - before) / (10_000 * 1_250);
    const queue = average(down.samples) / PACKET;
    assert.ok(use >= 0.8, `${use} of the link is used`);
    assert.ok(queue <= 6, `${queue} packets wait on average`);
    assert.equal(down.dropped, 0);
  });

  it("8: the window falls when the round trip rises without loss", async () => {
    const { net, down, connections } = await share(DEEP, ["vegas"], 20_000_000);
    net.clock.run(4_000);
    const before = connections[0]!.gauges.windowBytes;
    down.options = { ...DEEP, delayMs: 40 };
    // Soon: it grows again once the longer round trip is taken for the path's.
    net.clock.run(1_000);
    const after = connections[0]!.gauges.windowBytes;
    assert.ok(after < 0.9 * before, `${before} → ${after}`);
    assert.equal(connections[0]!.stats.packetsLost, 0);
  });

  it("two of them share a link, and keep the queue short", async () => {
    const { net, down, got } = await share(DEEP, ["vegas", "vegas"], 40_000_000);
    net.clock.run(20_000);
    const shares = got.map((one) => one.size).sort((a, b) => a - b);
    assert.ok(shares[0]! > 0.3 * shares[1]!, `${shares}`);
    down.samples.length = 0;
    net.clock.run(5_000);
    assert.ok(average(down.samples) / PACKET < 20, `${average(down.samples) / PACKET}`);
  });

  it("lives beside a loss-based flow that fills the buffer", async () => {
    const { net, got } = await share({ ...DEEP, bufferBytes: 125_000 }, ["vegas", "newreno"], 60_000_000);
    net.clock.run(40_000);
    const [vegas, reno] = got.map((one) => one.size) as [number, number];
    assert.ok(vegas > 0.15 * (vegas + reno), `${vegas} beside ${reno}`);
    assert.ok(vegas + reno > 0.85 * 40_000 * 1_250);
  });

  it("one percent of loss doesn't cost the path, as it does NewReno", async () => {
    const link = { delayMs: 30, rate: 6_250, bufferBytes: 375_000, loss: 0.01 };
    const size: number[] = [];
    for (const congestion of ["vegas", "newreno"] as const) {
      const { net, got } = await share(link, [congestion], 60_000_000);
      net.clock.run(8_000);
      size.push(got[0]!.size);
    }
    assert.ok(size[0]! > 3 * size[1]!, `${size}`);
    assert.ok(size[0]! > 0.7 * 8_000 * 6_250, `${size}`);
  });

  it("gives way where a tenth is lost without a queue", () => {
    const vegas = new Vegas(1_200);
    const info: AckInfo = {
      nowMs: 0,
      bytes: 1_200,
      packets: 1,
      largest: 0,
      nextNumber: 0,
      rttMs: 50,
      inFlightBytes: 0,
      limited: true,
    };
    const round = (lost: number) => {
      for (let i = 0; i < 100; i++) {
        const number = info.nextNumber++;
        if (i < lost) {
          vegas.onLoss({
            nowMs: info.nowMs,
            bytes: 1_200,
            packets: 1,
            largest: number,
            nextNumber: info.nextNumber,
            persistent: false,
          });
        } else {vegas.onAck({
            ...info,
            nowMs: info.nowMs += 0.5,
            largest: number,
            nextNumber: info.nextNumber,
          });}
      }
    };
    for (let i = 0; i < 20; i++) round(1);
    const grown = vegas.windowBytes;
    for (let i = 0; i < 20; i++) round(30);
    assert.ok(vegas.windowBytes < grown / 2, `${grown} → ${vegas.windowBytes}`);
    assert.ok(vegas.windowBytes >= 8 * 1_200);
  });
});
