/** Points 4, 5, 7, 9 and 10 of the ten (issue 4), and what streams promise. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { PacketType, packetType } from "../../../src/wire/curve/curve_packet.ts";
import { SESSION_HELD_STALL_MS } from "../../../src/protocol/mux/stall_watch.ts";
import { errorCode, SallyportError } from "../../../src/errors.ts";
import type { LinkOptions, Passing } from "./sim.ts";
import { pattern, seeded, seedOf } from "../../support/seeded.ts";
import {
  CLIENT_HOST,
  Collector,
  connect,
  cryptoForTests,
  type CurveOptions,
  digest,
  pour,
  SERVER,
  sink,
  startServer,
  TestClient,
  world,
} from "./support.ts";

const crypto = await cryptoForTests();

async function pair(link: LinkOptions = { delayMs: 20 }, options: Partial<CurveOptions> = {}) {
  const net = world();
  const links = net.link(CLIENT_HOST, link);
  const server = await startServer(net, crypto, { options });
  const client = await connect(net, crypto, { options });
  const there = server.connections[0]!;
  const here = client.link.connection;
  net.clock.run(500);
  return { net, links, server, client, there, here };
}

/** A stream that the server opens and fills; what the client gets of it. */
function download(stage: Awaited<ReturnType<typeof pair>>, data: Bytes): Collector {
  const collector = new Collector();
  stage.client.onStream = (stream) => {
    stream.attach(collector);
    stream.closeWrite();
  };
  pour(stage.there.open(), data);
  return collector;
}

describe("CurveConnection: delivery", () => {
  it("4: a replayed or altered DATA packet is never delivered", async () => {
    const stage = await pair();
    const random = seeded(seedOf(11));
    const seen: Passing[] = [];
    const { net } = stage;
    net.watch = (datagram) => {
      if (packetType(datagram.data) !== PacketType.data) return true;
      seen.push(datagram);
      // The altered copy comes first, then a true one, then any old one, and in its time the packet itself.
      const altered = datagram.data.slice();
      const at = Math.floor(random() * altered.length);
      altered[at] = altered[at]! ^ (1 << Math.floor(random() * 8));
      net.inject({ ...datagram, data: altered });
      net.inject(datagram);
      net.inject(seen[Math.floor(random() * seen.length)]!);
      return true;
    };
    const data = pattern(400_000);
    const got = download(stage, data);
    assert.ok(net.clock.runUntil(() => got.ended, 30_000));
    assert.equal(got.size, data.length);
    assert.equal(got.digest(), digest(data));
    const { replays, forgeries } = stage.here.stats;
    assert.ok(replays > 200 && forgeries > 200, `${replays} replays, ${forgeries} forgeries`);
    // Forgeries of the head go to no connection at all.
    assert.ok(stage.server.listener.stats.strays > 0);
  });

  it("7: 10 MB through 20 % loss, reordering and duplication, intact and in order", async () => {
    const stage = await pair({
      delayMs: 15,
      rate: 6_250,
      bufferBytes: 300_000,
      loss: 0.2,
      duplicate: 0.1,
      reorder: 0.2,
      reorderMs: 30,
    });
    const data = pattern(10_000_000);
    const got = download(stage, data);
    assert.ok(stage.net.clock.runUntil(() => got.ended, 600_000), `${got.size} bytes`);
    assert.equal(got.size, data.length);
    assert.equal(got.digest(), digest(data));
    void stage.here.gauges;
    assert.ok(stage.there.stats.packetsLost > 1_000 && stage.here.stats.reordered > 1_000);
  });

  for (const congestion of ["vegas", "newreno"] as const) {
    it(`both ways at once, many streams, with loss (${congestion})`, async () => {
      const stage = await pair({ delayMs: 5, loss: 0.05, reorder: 0.1, reorderMs: 10 }, { congestion });
      const collectors: Collector[] = [];
      const data = Array.from({ length: 20 }, (_, i) => pattern(20_000 + 977 * i, i + 1));
      stage.client.onStream = (stream) => {
        const collector = new Collector();
        collectors.push(collector);
        stream.attach(collector);
        pour(stream, data[(stream.id - 1) / 2]!);
        stream.attach(collector);
      };
      const back = data.map((bytes) => {
        const collector = new Collector();
        const stream = stage.there.open();
        pour(stream, bytes);
        stream.attach(collector);
        return collector;
      });
      const all = () =>
        back.every((one) => one.closed) && collectors.length === 20 && collectors.every((one) => one.closed);
      assert.ok(stage.net.clock.runUntil(all, 60_000));
      for (const [i, bytes] of data.entries()) {
        assert.equal(back[i]!.digest(), digest(bytes));
        assert.equal(back[i]!.error, undefined);
      }
      assert.equal(stage.here.streams, 0);
      assert.equal(stage.there.streams, 0);
    });
  }

  it("a lost packet of one stream doesn't hold up another", async () => {
    const stage = await pair({ delayMs: 50 });
    const order: number[] = [];
    stage.client.onStream = (stream) => stream.attach(sink({ data: () => order.push(stream.id) }));
    const first = stage.there.open();
    const second = stage.there.open();
    let dropped = false;
    stage.net.watch = ({ data }) => {
      if (dropped || data.length < 500) return true;
      dropped = true;
      return false;
    };
    first.write(pattern(800));
    stage.net.clock.run(2);
    second.write(pattern(800));
    stage.net.clock.run(60);
    assert.deepEqual(order, [second.id]);
    stage.net.clock.run(2_000);
    assert.deepEqual(order, [second.id, first.id]);
  });
});

describe("CurveConnection: streams", () => {
  it("half-close: one direction ends, the other goes on", async () => {
    const stage = await pair();
    const answer = new Collector();
    stage.client.onStream = (stream) => {
      stream.attach(sink({ end: () => pour(stream, pattern(50_000)) }));
    };
    const stream = stage.there.open();
    stream.attach(answer);
    stream.write(pattern(10));
    stream.closeWrite();
    assert.ok(stage.net.clock.runUntil(() => answer.closed, 5_000));
    assert.equal(answer.digest(), digest(pattern(50_000)));
    assert.equal(answer.error, undefined);
  });

  it("a reset ends both directions, with its reason", async () => {
    const stage = await pair();
    const there = new Collector();
    const here = new Collector();
    const stream = stage.there.open();
    stream.attach(there);
    stream.write(pattern(100));
    stage.client.onStream = (other) => {
      other.attach(here);
      other.write(pattern(10));
    };
    stage.net.clock.run(300);
    stream.abort(new SallyportError("endpoint_unreachable", "no endpoint", { side: "peer" }));
    stage.net.clock.run(300);
    assert.equal(errorCode(here.error), "endpoint_unreachable");
    assert.equal(errorCode(there.error), "endpoint_unreachable");
    assert.deepEqual([stage.here.streams, stage.there.streams], [0, 0]);
  });

  it("a reader that pauses stops its writer, and nobody else", async () => {
    const stage = await pair({ delayMs: 5 }, {
      windowBytes: 100_000,
      sendHighBytes: 50_000,
      sendLowBytes: 20_000,
    });
    const slow = new Collector();
    const data = pattern(1_000_000);
    let paused: { resume(): void } | undefined;
    stage.client.onStream = (stream) => {
      stream.pause();
      paused = stream;
      stream.attach(slow);
    };
    const stream = stage.there.open();
    pour(stream, data);
    stage.net.clock.run(3_000);
    assert.equal(slow.size, 0);
    assert.ok(
      stream.bufferedBytes >= 50_000 && stream.bufferedBytes <= 80_000,
      `${stream.bufferedBytes} wait`,
    );
    const other = download(stage, pattern(300_000));
    assert.ok(stage.net.clock.runUntil(() => other.ended, 5_000));
    paused!.resume();
    assert.ok(stage.net.clock.runUntil(() => slow.ended, 30_000));
    assert.equal(slow.digest(), digest(data));
  });

  it("all streams together stay inside the connection's credit, and it comes back", async () => {
    const stage = await pair({ delayMs: 5 }, { windowBytes: 100_000, connectionWindowBytes: 150_000 });
    const collectors: Collector[] = [];
    const paused: { resume(): void }[] = [];
    stage.client.onStream = (stream) => {
      const collector = new Collector();
      collectors.push(collector);
      stream.pause();
      paused.push(stream);
      stream.attach(collector);
    };
    for (let i = 0; i < 4; i++) pour(stage.there.open(), pattern(90_000, i));
    stage.net.clock.run(SESSION_HELD_STALL_MS / 2);
    assert.ok(collectors.every((one) => one.size === 0));
    for (const stream of paused) stream.resume();
    assert.ok(stage.net.clock.runUntil(() => collectors.every((one) => one.ended), 10_000));
    assert.deepEqual(
      collectors.map((one) => one.digest()),
      [0, 1, 2, 3].map((i) => digest(pattern(90_000, i))),
    );
    // Reset streams give back the credit of what was never read.
    stage.client.onStream = (stream) => stream.abort();
    for (let i = 0; i < 20; i++) {
      pour(stage.there.open(), pattern(90_000, i));
      stage.net.clock.run(200);
    }
    const last = download(stage, pattern(500_000));
    assert.ok(stage.net.clock.runUntil(() => last.ended, 10_000));
  });

  it("streams that nobody reads don't stop the others, however many there are", async () => {
    const stage = await pair({ delayMs: 5 }, {
      firstWindowBytes: 20_000,
      windowBytes: 100_000,
      connectionWindowBytes: 400_000,
    });
    const stalled: Collector[] = [];
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 15; i++) {
        const collector = new Collector();
        stalled.push(collector);
        stage.client.onStream = (stream) => {
          stream.pause();
          stream.attach(collector);
        };
        pour(stage.there.open(), pattern(90_000, i));
        stage.net.clock.run(20);
      }
      const other = download(stage, pattern(300_000));
      assert.ok(stage.net.clock.runUntil(() => other.ended, 5_000), `round ${round}`);
      stage.net.clock.run(SESSION_HELD_STALL_MS);
    }
    assert.deepEqual(
      new Set(stalled.map(({ error }) => error && errorCode(error))),
      new Set([undefined, "stream_overflow"]),
    );
    assert.ok(stalled.filter(({ closed }) => !closed).length >= 10, "those that there is room for stay");
  });

  it("streams that were read fast before nobody reads them stop no other, and none is reset", async () => {
    const stage = await pair({ delayMs: 1 }, {
      firstWindowBytes: 10_000,
      windowBytes: 150_000,
      connectionWindowBytes: 3_000_000,
    });
    const visitors: Collector[] = [];
    const data = pattern(50_000);
    for (let i = 0; i < 100; i++) {
      const visitor = new Collector();
      visitors.push(visitor);
      stage.client.onStream = (stream) =>
        stream.attach(sink({
          data: (chunk) => {
            visitor.data(chunk);
            // As a kernel does for a visitor who reads nothing: it takes some, which lets the window grow.
            if (visitor.size > 200_000) stream.pause();
          },
          close: (error) => visitor.close(error),
        }));
      const stream = stage.there.open();
      for (let round = 0; round < 12; round++) {
        if (stream.bufferedBytes < 500_000) stream.write(data);
        stage.net.clock.run(2);
      }
    }
    const other = download(stage, pattern(200_000));
    assert.ok(stage.net.clock.runUntil(() => other.ended, 1_000));
    stage.net.clock.run(SESSION_HELD_STALL_MS);
    assert.ok(visitors.every(({ size, closed }) => size > 200_000 && !closed));
  });

  it("no more streams than the peer allows; ended ones make room", async () => {
    const stage = await pair({ delayMs: 5 }, { streamsMax: 3 });
    const streams = [stage.there.open(), stage.there.open(), stage.there.open()];
    assert.throws(() => stage.there.open(), (error) => errorCode(error) === "limit_exceeded");
    for (const stream of streams) {
      stream.attach(sink());
      stream.write(pattern(5));
    }
    stage.net.clock.run(100);
    streams[0]!.abort();
    stage.net.clock.run(500);
    stage.there.open();
    assert.throws(() => stage.there.open(), (error) => errorCode(error) === "limit_exceeded");
  });

  it("a released stream delivers what was written and lets go, also when the peer never ends", async () => {
    const stage = await pair();
    const got = new Collector();
    stage.client.onStream = (stream) => stream.attach(got);
    const stream = stage.there.open();
    const mine = new Collector();
    stream.attach(mine);
    stream.write(pattern(5_000));
    stream.release();
    stage.net.clock.run(2_000);
    assert.equal(got.size, 5_000);
    assert.ok(got.ended && !mine.closed);
    stage.net.clock.run(6_000);
    assert.ok(mine.closed && got.closed);
    assert.equal(stage.there.streams, 0);
  });

  it("a handler that throws harms its own stream only", async () => {
    const stage = await pair();
    stage.client.onStream = (stream) =>
      stream.attach(sink({
        data: () => {
          throw new Error("mine");
        },
      }));
    const bad = new Collector();
    const stream = stage.there.open();
    stream.attach(bad);
    stream.write(pattern(10));
    stage.net.clock.run(300);
    assert.ok(bad.closed);
    const good = download(stage, pattern(10_000));
    assert.ok(stage.net.clock.runUntil(() => good.ended, 2_000));
  });
});

describe("CurveConnection: paths", () => {
  it("5: the client's port changes in mid-transfer and the transfer completes", async () => {
    const stage = await pair({ delayMs: 20, rate: 1_250, bufferBytes: 200_000 });
    const data = pattern(3_000_000);
    const got = download(stage, data);
    stage.net.clock.run(500);
    const before = stage.there.path.current.port;
    await stage.client.link.rebind();
    assert.ok(stage.net.clock.runUntil(() => got.ended, 20_000));
    assert.equal(got.digest(), digest(data));
    void stage.there.gauges;
    assert.equal(stage.there.stats.pathMoves, 1);
    assert.notEqual(stage.there.path.current.port, before);
    assert.equal(stage.there.path.current.port, stage.client.link.local.port);
  });

  it("5: a NAT that forgets gives the client another address, twice; nothing is lost", async () => {
    const stage = await pair({ delayMs: 20, rate: 1_250, bufferBytes: 200_000 });
    const data = pattern(3_000_000);
    const got = download(stage, data);
    const { local } = stage.client.link;
    for (const host of ["198.51.100.1", "198.51.100.2"]) {
      stage.net.clock.run(600);
      stage.net.nat.set(`${CLIENT_HOST}:${local.port}`, { host, port: 1_234 });
    }
    assert.ok(stage.net.clock.runUntil(() => got.ended, 30_000));
    assert.equal(got.digest(), digest(data));
    assert.deepEqual(stage.there.path.current, { host: "198.51.100.2", port: 1_234 });
  });

  it("5: the server's address changes", async () => {
    const stage = await pair();
    const data = pattern(2_000_000);
    const got = download(stage, data);
    stage.net.clock.run(100);
    // Its packets come from elsewhere from now on, and what is sent there arrives.
    stage.net.nat.set(`${SERVER.host}:${SERVER.port}`, { host: "192.0.2.77", port: 4_501 });
    assert.ok(stage.net.clock.runUntil(() => got.ended, 20_000));
    assert.equal(got.digest(), digest(data));
    assert.deepEqual(stage.here.path.current, { host: "192.0.2.77", port: 4_501 });
  });

  it("5: copies sent from a third address neither steal the session nor flood that address", async () => {
    const stage = await pair({ delayMs: 20, rate: 1_250 });
    const { net } = stage;
    const victim = { host: "203.0.113.50", port: 53 };
    let copied = 0;
    let received = 0;
    const home = { ...stage.there.path.current };
    net.watch = ({ data, to, from }) => {
      if (to.host === victim.host) received += data.length;
      if (from.host === CLIENT_HOST && packetType(data) === PacketType.data) {
        // The copy is quicker than the original: it is the newest packet that the server has seen.
        copied += data.length;
        net.inject({ data, from: victim, to: SERVER });
      }
      return true;
    };
    const data = pattern(1_000_000);
    const got = download(stage, data);
    assert.ok(net.clock.runUntil(() => got.ended, 20_000));
    assert.equal(got.digest(), digest(data));
    assert.deepEqual(stage.there.path.current, home);
    void stage.there.gauges;
    assert.equal(stage.there.stats.pathMoves, 0);
    assert.ok(copied > 10_000);
    assert.ok(received > 0 && received <= 3 * copied, `${received} bytes for ${copied}`);
  });

  it("5: an older packet from elsewhere moves nothing, and isn't even challenged", async () => {
    const stage = await pair();
    const { net } = stage;
    const late: Passing[] = [];
    net.watch = (datagram) => {
      if (datagram.from.host === CLIENT_HOST && late.length === 0) {
        late.push(datagram);
        return false;
      }
      return true;
    };
    const stream = stage.here.open();
    stream.attach(sink());
    stream.write(pattern(10));
    net.clock.run(1_000);
    assert.equal(late.length, 1);
    net.watch = ({ to }) => to.host !== "203.0.113.50" || assert.fail("it answered there");
    net.inject({ ...late[0]!, from: { host: "203.0.113.50", port: 1 } });
    net.clock.run(1_000);
    void stage.there.gauges;
    assert.equal(stage.there.stats.pathMoves, 0);
  });

  it("the size of datagrams follows the path, down to 1088 bytes", async () => {
    for (const [mtu, expected] of [[65_535, 1_452], [1_400, 1_372], [1_100, 1_088]] as const) {
      const stage = await pair({ delayMs: 10, mtu });
      const got = download(stage, pattern(500_000));
      assert.ok(stage.net.clock.runUntil(() => got.ended, 20_000));
      assert.equal(stage.there.gauges.datagramBytes, expected);
    }
    // A path that shrinks under way.
    const stage = await pair({ delayMs: 10 });
    const got = download(stage, pattern(3_000_000));
    stage.net.clock.run(60);
    stage.links.down.options = { delayMs: 10, mtu: 1_200 };
    assert.ok(stage.net.clock.runUntil(() => got.ended, 60_000));
    assert.equal(stage.there.gauges.datagramBytes, 1_088);
  });
});

describe("CurveConnection: many connections, and their end", () => {
  it("9: 300 connections on one socket, with counters", { timeout: 60_000 }, async () => {
    const net = world();
    const server = await startServer(net, crypto);
    const clients: TestClient[] = [];
    const got: Collector[] = [];
    for (let i = 0; i < 300; i++) {
      const client = new TestClient();
      client.onStream = (stream) => {
        const collector = new Collector();
        got.push(collector);
        stream.attach(collector);
      };
      clients.push(client);
    }
    await Promise.all(
      clients.map((client, i) => connect(net, crypto, {}, `10.0.${i >> 8}.${i & 255}`, client)),
    );
    assert.equal(server.listener.size, 300);
    for (const connection of server.connections) pour(connection.open(), pattern(20_000));
    assert.ok(net.clock.runUntil(() => got.filter((one) => one.ended).length === 300, 20_000));
    const totals = server.listener.totals();
    assert.equal(totals.streamsOpened, 300);
    assert.ok(totals.bytesSent > 300 * 20_000);
    assert.equal(server.listener.stats.connectionsOpened, 300);
    assert.equal(server.listener.stats.cookiesIssued, 300);
    for (const client of clients) {
      client.link.connection.close(new SallyportError("shutdown", "over", { side: "local" }));
    }
    net.clock.run(5_000);
    assert.equal(server.listener.size, 0);
    assert.equal(server.listener.totals().bytesSent >= totals.bytesSent, true);
    assert.equal(server.listener.stats.connectionsClosed, 300);
  });

  for (const side of ["client", "server"] as const) {
    it(
      `10: the ${side}'s orderly end is seen by the other, with its reason`,
      { timeout: 60_000 },
      async () => {
        const stage = await pair();
        const got = new Collector();
        stage.client.onStream = (stream) => stream.attach(got);
        const mine = new Collector();
        const stream = stage.there.open();
        stream.attach(mine);
        stream.write(pattern(10));
        stage.net.clock.run(200);
        (side === "client" ? stage.here : stage.there).close(
          new SallyportError("replaced", "a newer one came", { side: "local" }),
        );
        stage.net.clock.run(200);
        assert.deepEqual(stage.server.closed, ["replaced"]);
        assert.deepEqual(stage.client.closed.map(errorCode), ["replaced"]);
        if (side === "server") assert.match(stage.client.closed[0]!.message, /a newer one came/);
        assert.ok(got.closed && mine.closed);
        stage.net.clock.run(5_000);
        assert.ok(stage.here.over && stage.there.over);
        assert.equal(stage.server.listener.size, 0);
      },
    );
  }

  it("10: an end whose packet is lost is told again", async () => {
    const stage = await pair();
    const stream = stage.there.open();
    stream.attach(sink());
    let lost = 0;
    stage.net.watch = ({ from }) => from.host !== CLIENT_HOST || lost++ > 0;
    stage.here.close(new SallyportError("shutdown", "over", { side: "local" }));
    stage.net.clock.run(1);
    stream.write(pattern(10));
    stage.net.clock.run(1_500);
    assert.deepEqual(stage.server.closed, ["shutdown"]);
  });

  it("10: a dead peer is noticed by a time-out, on both sides", async () => {
    const stage = await pair();
    stage.links.up.down = stage.links.down.down = true;
    stage.net.clock.run(14_000);
    assert.equal(stage.client.closed.length, 0);
    stage.net.clock.run(6_000);
    assert.deepEqual(stage.client.closed.map(errorCode), ["connection_lost"]);
    assert.deepEqual(stage.server.closed, ["connection_lost"]);
    assert.equal(stage.server.listener.size, 0);
  });

  for (const idle of [true, false]) {
    it(`a server that was started anew is noticed long before the time-out (${idle ? "idle" : "busy"})`, async () => {
      const stage = await pair();
      const got = idle ? undefined : download(stage, pattern(10_000_000));
      stage.net.clock.run(300);
      stage.net.watch = () => false;
      stage.server.listener.close();
      stage.net.clock.run(10);
      stage.net.watch = undefined;
      await startServer(stage.net, crypto);
      // The next PING may be ten seconds off; three probes and as many answers follow.
      const found = stage.net.clock.runUntil(() => stage.client.closed.length > 0, idle ? 15_000 : 5_000);
      assert.ok(found, "it still waits");
      assert.match(stage.client.closed[0]!.message, /no longer knows/);
      assert.equal(errorCode(stage.client.closed[0]), "connection_lost");
      assert.equal(stage.client.closed[0]!.retryable, true);
      assert.equal(got?.ended ?? false, false);
    });
  }

  it("an outage isn't taken for a restart, whatever strangers answer", async () => {
    const stage = await pair();
    const got = download(stage, pattern(3_000_000));
    stage.net.clock.run(100);
    let cookie: Passing | undefined;
    let asked = 0;
    // The server's own packets get lost for a while; a COOKIE to each HELLO doesn't, as if somebody forged it.
    stage.net.watch = (datagram) => {
      const type = packetType(datagram.data);
      if (type === PacketType.hello) asked++;
      if (type === PacketType.cookie) cookie = datagram;
      return type !== PacketType.data || datagram.from.host === CLIENT_HOST;
    };
    stage.net.clock.runUntil(() => asked === 3, 20_000);
    assert.equal(asked, 3);
    stage.net.watch = undefined;
    for (let i = 0; i < 100; i++) stage.net.inject(cookie!);
    assert.ok(stage.net.clock.runUntil(() => got.ended, 60_000));
    for (let i = 0; i < 100; i++) stage.net.inject(cookie!);
    stage.net.clock.run(60_000);
    assert.equal(stage.client.closed.length + stage.server.closed.length, 0);
    // And a path that is dead both ways is waited for.
    stage.links.up.down = stage.links.down.down = true;
    stage.net.clock.run(8_000);
    stage.links.up.down = stage.links.down.down = false;
    stage.net.clock.run(30_000);
    assert.equal(stage.client.closed.length + stage.server.closed.length, 0);
  });

  it("an idle connection is kept open, with few packets", async () => {
    const stage = await pair();
    stage.net.sent = 0;
    stage.net.clock.run(600_000);
    assert.equal(stage.client.closed.length + stage.server.closed.length, 0);
    assert.ok(stage.net.sent >= 60 && stage.net.sent <= 300, `${stage.net.sent} packets in ten minutes`);
  });

  it("an owner that throws loses its own connection, and the socket's others go on", async () => {
    const net = world();
    let count = 0;
    const server = await startServer(net, crypto, {
      accept: (connection) => {
        const bad = count++ === 0;
        server.connections.push(connection);
        return {
          introduced: () => {
            if (bad) throw new Error("mine");
            connection.admit(new Uint8Array(0));
          },
          stream: () => {},
          streamClosed: () => {},
          closed: () => {
            if (bad) throw new Error("mine too");
          },
        };
      },
    });
    await assert.rejects(connect(net, crypto), (error) => errorCode(error) === "aborted");
    const client = await connect(net, crypto, {}, "10.0.0.3");
    const got = new Collector();
    client.onStream = (stream) => stream.attach(got);
    pour(server.connections[1]!.open(), pattern(10_000));
    assert.ok(net.clock.runUntil(() => got.ended, 5_000));
    net.clock.run(5_000);
    assert.equal(server.listener.size, 1);
  });
});
