import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  createMemoryNetwork,
  type MemoryNetwork,
  type MemoryNetworkOptions,
} from "../../src/runtime/memory/memory.ts";
import { VirtualTime } from "../../src/runtime/memory/memory_time.ts";
import type { Conn } from "../../src/runtime/port.ts";
import { assertRejects, bytesOf, pattern, Watched } from "../conformance/runtime_helpers.ts";
import { LINGER_MS } from "../../src/runtime/port.ts";

const A = "10.0.0.1";
const B = "10.0.0.2";

async function connected(network: MemoryNetwork): Promise<{ client: Watched; server: Watched }> {
  let server: Watched | undefined;
  const accept = (conn: Conn) => void (server = new Watched(conn));
  const listener = await network.runtime(B).listen({ host: "0.0.0.0", port: 0, accept });
  const dialled = network.runtime(A).dial({ host: B, port: listener.address.port, timeoutMs: 10_000 });
  const client = new Watched(await network.settle(dialled));
  return { client, server: server! };
}

describe("createMemoryNetwork: time", () => {
  it("stands still except when it is let pass, and passes exactly", async () => {
    const network = createMemoryNetwork();
    const { clock } = network;
    const calls: number[] = [];
    clock.after(86_400_000, () => calls.push(clock.nowMs()));
    clock.after(10, () => clock.after(10, () => calls.push(clock.nowMs())));
    await Promise.resolve();
    assert.equal(clock.nowMs(), 0);
    await network.advance(19);
    assert.deepEqual(calls, []);
    await network.advance(1);
    assert.deepEqual(calls, [20]);
    await network.runUntilIdle();
    assert.deepEqual(calls, [20, 86_400_000]);
    await network.run(90_000_000);
    assert.equal(clock.nowMs(), 90_000_000);
  });

  it("ends where events set each other for the same moment without end", () => {
    const time = new VirtualTime();
    const again = () => time.soon(again);
    again();
    assert.throws(() => {
      while (time.step(0));
    }, /time stands still at 0 ms/);
  });

  it("settle names what can't happen within a limit", async () => {
    const network = createMemoryNetwork();
    const hour = new Promise<void>((resolve) => network.clock.after(3_600_000, resolve));
    await assertRejects(network.settle(hour, 1_000), "deadline_exceeded");
    await network.settle(hour);
    assert.equal(network.clock.nowMs(), 3_600_000);
  });

  it("the same seed gives the same course of events, another a different one", async () => {
    const course = async (options: MemoryNetworkOptions) => {
      const network = createMemoryNetwork(options);
      const { client, server } = await connected(network);
      const events: string[] = [];
      server.onData = (chunk) => {
        events.push(`${network.clock.nowMs()} ${chunk.length}`);
        server.write(chunk);
      };
      client.write(pattern(500_000));
      await network.runUntilIdle();
      assert.equal(server.byteLength, 500_000);
      return events.join("\n");
    };
    const link = { latencyMs: 5, jitterMs: 3, bytesPerSecond: 1e6 };
    const first = await course({ seed: 5, link });
    assert.equal(await course({ seed: 5, link }), first);
    assert.notEqual(await course({ seed: 6, link }), first);
  });
});

describe("createMemoryNetwork: links", () => {
  it("latency and bandwidth take the time they should", async () => {
    const network = createMemoryNetwork();
    const { client, server } = await connected(network);
    network.setLink(A, B, { latencyMs: 100, bytesPerSecond: 10_000, windowBytes: 1e9 });
    const startMs = network.clock.nowMs();
    client.write(pattern(20_000));
    await network.settle(server.received(20_000));
    assert.equal(network.clock.nowMs() - startMs, 2_100);
  });

  it("a cut link stalls streams without a word; healed, they go on", async () => {
    const network = createMemoryNetwork();
    const { client, server } = await connected(network);
    network.cut(A, B);
    client.write(bytesOf("one "));
    client.write(bytesOf("two"));
    client.closeWrite();
    await network.advance(3_600_000);
    assert.equal(server.byteLength, 0);
    assert.equal(client.closes + server.closes, 0);
    network.heal(A, B);
    await network.advance(100);
    assert.equal(server.text, "one two");
    assert.ok(server.ended);
  });

  it("reset breaks connections at both ends", async () => {
    const network = createMemoryNetwork();
    const { client, server } = await connected(network);
    network.reset(A, B);
    await network.runUntilIdle();
    client.assertOver("connection_lost");
    server.assertOver("connection_lost");
  });

  it("a dial to where nobody is, or over a cut link, ends with its deadline", async () => {
    const network = createMemoryNetwork();
    const dial = () => network.runtime(A).dial({ host: B, port: 443, timeoutMs: 700 });
    await assertRejects(network.settle(dial()), "deadline_exceeded");
    assert.equal(network.clock.nowMs(), 700);
    const accepted: Watched[] = [];
    const accept = (conn: Conn) => void accepted.push(new Watched(conn));
    await network.runtime(B).listen({ host: B, port: 443, accept });
    network.cut(A, B);
    await assertRejects(network.settle(dial()), "deadline_exceeded");
    network.heal(A, B);
    await network.runUntilIdle();
    // The late connection is not left standing.
    assert.equal(accepted.length, 1);
    accepted[0]!.assertOver("connection_lost");
  });

  it("a dial to a port without a listener is refused; names resolve once they are set", async () => {
    const network = createMemoryNetwork();
    network.runtime(B);
    const dial = (host: string) =>
      network.settle(network.runtime(A).dial({ host, port: 1, timeoutMs: 1_000 }));
    await assertRejects(dial(B), "connection_refused");
    await assertRejects(dial("edge.example"), "host_unknown");
    network.setName("edge.example", B);
    await assertRejects(dial("edge.example"), "connection_refused");
  });

  it("datagrams get lost, doubled and reordered in their shares, and none on a cut link", async () => {
    const network = createMemoryNetwork({
      seed: 3,
      link: { datagramLoss: 0.1, datagramDuplicates: 0.1, datagramReorder: 0.2 },
    });
    const seen: number[] = [];
    const receiver = await network.runtime(B).bindDatagram({
      host: B,
      port: 0,
      receive: (data) => void seen.push(data[0]! * 256 + data[1]!),
    });
    const sender = await network.runtime(A).bindDatagram({ host: A, port: 0, receive() {} });
    for (let i = 0; i < 2_000; i++) {
      sender.send(new Uint8Array([i >> 8, i & 255]), receiver.address);
      await network.advance(1);
    }
    await network.runUntilIdle();
    const distinct = new Set(seen).size;
    assert.ok(distinct > 1_700 && distinct < 1_900, `${distinct} of 2000 arrived`);
    assert.ok(
      seen.length - distinct > 100 && seen.length - distinct < 260,
      `${seen.length - distinct} doubles`,
    );
    assert.ok(seen.some((n, i) => i > 0 && n < seen[i - 1]!), "none overtook another");
    seen.length = 0;
    network.cut(A, B);
    sender.send(new Uint8Array(2), receiver.address);
    await network.runUntilIdle();
    assert.deepEqual(seen, []);
  });
});

describe("createMemoryNetwork: release", () => {
  it("closes LINGER_MS after the last byte when the peer doesn't end, in order", async () => {
    const network = createMemoryNetwork();
    const { client, server } = await connected(network);
    client.write(bytesOf("bye"));
    client.release();
    const startMs = network.clock.nowMs();
    await network.settle(client.sawClose);
    assert.equal(network.clock.nowMs() - startMs, LINGER_MS);
    client.assertOver();
    assert.equal(server.text, "bye");
    assert.ok(server.ended);
    // Who goes on writing learns that nobody is there.
    server.write(bytesOf("anyone?"));
    await network.runUntilIdle();
    server.assertOver("connection_lost");
  });

  it("gives a slow reader time as long as it reads, and one that doesn't read none", async () => {
    const network = createMemoryNetwork({ link: { windowBytes: 10_000, pieceMaxBytes: 5_000 } });
    const { client, server } = await connected(network);
    server.onData = () => {
      server.pause();
      network.clock.after(LINGER_MS / 2, () => server.resume());
    };
    client.write(pattern(100_000));
    client.release();
    await network.settle(server.sawEnd);
    assert.equal(server.byteLength, 100_000);
    server.closeWrite();
    await network.settle(client.sawClose);
    client.assertOver();

    const stalled = await connected(network);
    stalled.server.pause();
    stalled.client.write(pattern(100_000));
    stalled.client.release();
    const startMs = network.clock.nowMs();
    await network.settle(stalled.client.sawClose);
    assert.equal(network.clock.nowMs() - startMs, LINGER_MS);
    stalled.client.assertOver("deadline_exceeded");
    assert.equal(stalled.client.conn.bufferedBytes, 0);
  });
});
