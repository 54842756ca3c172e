/** What an authenticated peer may try, and what anybody may throw at a socket. */
import assert from "node:assert/strict";
import { describe, it, test } from "node:test";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { CurveConnection, type CurveIo } from "../../../src/protocol/curve/connection.ts";
import { dataEnvelope } from "../../../src/protocol/curve/sender.ts";
import {
  FrameType,
  FrameWriter,
  writeControl,
  writeFixed,
  writeStreamHead,
} from "../../../src/wire/curve/curve_frame.ts";
import { PacketKey } from "../../../src/protocol/curve/key_schedule.ts";
import { curveOptions } from "../../../src/protocol/curve/options.ts";
import { writeDataHead } from "../../../src/wire/curve/curve_packet.ts";
import { errorCode, type SallyportError } from "../../../src/errors.ts";
import type { Passing } from "./sim.ts";
import { pattern, seeded, seededSource, seedOf } from "../../support/seeded.ts";
import {
  CLIENT_HOST,
  Collector,
  connect,
  cryptoForTests,
  digest,
  pour,
  SERVER,
  sink,
  startServer,
  world,
} from "./support.ts";

const crypto = await cryptoForTests();
const PEER = { host: "10.9.9.9", port: 9 };
const ID = new Uint8Array(8);

/** A server's connection whose client we are: we have its keys, and write what we like. */
function victim(admitted = true) {
  const sent: { size: number; to: string }[] = [];
  const slot: Bytes = new Uint8Array(16_384);
  const io: CurveIo = {
    slot: () => slot,
    send: (size, to) => void sent.push({ size, to: `${to.host}:${to.port}` }),
    wake: () => {},
    plain: new Uint8Array(16_384),
    random: seededSource(1),
  };
  const toServer = new PacketKey(crypto, pattern(44, 1));
  const toClient = new PacketKey(crypto, pattern(44, 2));
  const options = curveOptions({ windowBytes: 10_000, connectionWindowBytes: 15_000, streamsMax: 4 });
  const connection = new CurveConnection({
    role: "server",
    options,
    io,
    peer: PEER,
    envelope: dataEnvelope(toClient, ID),
    nowMs: 0,
  });
  let closed: SallyportError | undefined;
  const opened: number[] = [];
  connection.handler = {
    introduced: () => connection.admit(new Uint8Array(0)),
    stream: (stream) => {
      opened.push(stream.id);
      stream.pause();
      stream.attach(sink());
    },
    streamClosed: () => {},
    closed: (error) => void (closed = error),
  };
  connection.confirm(dataEnvelope(toClient, ID), toServer);
  let number = 0;
  const packet: Bytes = new Uint8Array(16_384);
  const writer = new FrameWriter(new Uint8Array(16_000));
  const send = (write: (writer: FrameWriter) => void, from = PEER) => {
    writer.reset(16_000);
    write(writer);
    const head = writeDataHead(packet, ID, number++);
    const size = toServer.seal(packet, head, writer.written.slice());
    connection.receive(packet.subarray(0, size), from, number);
    connection.turn(number);
  };
  if (admitted) {
    send((w) => {
      writeControl(w, FrameType.params, 1_000, 1_000, 10, 1_452);
      writeStreamHead(w, 0, 0, 0, true);
    });
    assert.ok(connection.admitted);
  }
  return { connection, send, sent, opened, closed: () => closed };
}

const stream = (id: number, offset: number, length: number, fin = false) => (writer: FrameWriter) => {
  writeStreamHead(writer, id, offset, length, fin);
  writer.take(length).fill(1);
};
const control = (...args: [number, number?, number?, number?, number?]) => (writer: FrameWriter) =>
  writeControl(writer, ...args);

describe("CurveConnection: an authenticated peer that breaks the rules ends its connection", () => {
  const cases: [name: string, steps: ((writer: FrameWriter) => void)[], message: RegExp][] = [
    ["beyond a stream's credit", [stream(2, 9_000, 1_001)], /exceeds its credit/],
    [
      "beyond the connection's credit",
      [stream(2, 0, 9_000), stream(4, 0, 6_001)],
      /exceeds the connection's credit/,
    ],
    ["by a far offset alone", [stream(2, 2 ** 40, 1)], /exceeds its credit/],
    ["more streams than allowed", [stream(10, 0, 1)], /more streams than are allowed/],
    [
      "a stream number beyond everything",
      [control(FrameType.maxStreamData, 2 ** 52, 5)],
      /more streams than are allowed/,
    ],
    ["a stream of ours that isn't open", [stream(7, 0, 1)], /isn't open/],
    ["bytes after the end", [stream(2, 0, 5, true), stream(2, 5, 1)], /final size changes/],
    ["another end", [stream(2, 0, 5, true), stream(2, 0, 4, true)], /final size changes/],
    ["an end before what came", [stream(2, 0, 50), stream(2, 0, 10, true)], /less than the bytes received/],
    [
      "a reset before what came",
      [stream(2, 0, 50), control(FrameType.reset, 2, 0, 10)],
      /less than the bytes received/,
    ],
    ["a reset beyond the credit", [control(FrameType.reset, 2, 0, 10_001)], /exceeds its credit/],
    ["an ACK of what wasn't sent", [(w) => w.bytes(Uint8Array.of(2, 60, 0, 0, 0))], /wasn't sent/],
    ["an unknown frame", [(w) => w.byte(40)], /type 40/],
    ["a frame cut short", [(w) => w.bytes(Uint8Array.of(3, 2))], /cut short/],
    ["datagrams too small", [control(FrameType.params, 0, 0, 0, 1_087)], /1088/],
    ["an id for the server", [(w) => writeFixed(w, FrameType.connectionId, pattern(8))], /after READY/],
    ["a long credential", [stream(0, 16_448, 1)], /exceeds its credit/],
  ];
  for (const [name, steps, message] of cases) {
    it(name, () => {
      const stage = victim();
      for (const step of steps.slice(0, -1)) stage.send(step);
      assert.equal(stage.closed(), undefined, "it ended too early");
      stage.send(steps.at(-1)!);
      assert.equal(errorCode(stage.closed()), name === "" ? "" : "frame_invalid");
      assert.match(stage.closed()!.message, message);
    });
  }

  it("streams before admission", () => {
    const stage = victim(false);
    stage.send(stream(2, 0, 1));
    assert.match(stage.closed()!.message, /before admission/);
  });

  it("thousands of pieces", { timeout: 60_000 }, () => {
    const stage = victim();
    for (let i = 0; i < 4_999 && stage.closed() === undefined; i++) stage.send(stream(2, 2 * i + 1, 1));
    assert.match(stage.closed()!.message, /too many pieces/);
  });
});

describe("CurveConnection: an authenticated peer that only annoys", () => {
  it("answers to challenges are few, and go where they came from", () => {
    const stage = victim();
    stage.sent.length = 0;
    stage.send((writer) => {
      for (let i = 0; i < 500; i++) writeFixed(writer, FrameType.pathChallenge, pattern(8, i));
    });
    assert.ok(stage.sent.length <= 6, `${stage.sent.length} packets`);
  });

  it("an unvalidated address gets at most three times what came from it", () => {
    const stage = victim();
    const there = { host: "203.0.113.1", port: 7 };
    stage.send(control(FrameType.ping), there);
    for (let now = 0; now < 60_000; now += 10) stage.connection.tick(now);
    const to = stage.sent.filter(({ to }) => to === "203.0.113.1:7").reduce((sum, { size }) => sum + size, 0);
    assert.ok(to > 0 && to <= 3 * 35, `${to} bytes`);
  });

  it("limits that fall are ignored, and a response nobody asked for too", () => {
    const stage = victim();
    stage.send(control(FrameType.maxData, 1));
    stage.send(control(FrameType.maxStreams, 0));
    stage.send((writer) => writeFixed(writer, FrameType.pathResponse, pattern(8)));
    assert.equal(stage.closed(), undefined);
    stage.connection.open();
  });
});

test("mutated and random datagrams never break a server or a client, and the transfer goes on", async () => {
  const net = world();
  net.link(CLIENT_HOST, { delayMs: 5 });
  const server = await startServer(net, crypto);
  const random = seeded(seedOf(31));
  const seen: Passing[] = [];
  let busy = false;
  net.watch = (datagram) => {
    if (busy) return true;
    busy = true;
    if (seen.length < 200) seen.push(datagram);
    for (let i = 0; i < 5; i++) {
      const base = seen[Math.floor(random() * seen.length)]!;
      const data = base.data.slice(
        0,
        random() < 0.3 ? Math.floor(random() * base.data.length) : base.data.length,
      );
      for (let flips = Math.floor(random() * 4); flips > 0 && data.length > 0; flips--) {
        const at = random() < 0.5
          ? Math.floor(random() * Math.min(80, data.length))
          : Math.floor(random() * data.length);
        data[at] = random() * 256;
      }
      const from = random() < 0.5 ? base.from : { host: "203.0.113.5", port: Math.floor(random() * 65_536) };
      net.inject({ data, from, to: base.to });
    }
    busy = false;
    return true;
  };
  const got = new Collector();
  const client = await connect(net, crypto);
  client.onStream = (other) => other.attach(got);
  const data = pattern(1_500_000);
  pour(server.connections[0]!.open(), data);
  assert.ok(net.clock.runUntil(() => got.ended, 60_000));
  assert.equal(got.digest(), digest(data));
  assert.equal(client.closed.length, 0);
  // Handshakes of others that were altered may wait for their end, nothing more.
  assert.ok(server.listener.size <= 1, `${server.listener.size} connections`);
  assert.deepEqual(server.connections[0]!.path.current.host, CLIENT_HOST);
  assert.ok(SERVER.port > 0);
});
