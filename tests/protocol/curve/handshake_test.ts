/** Points 1, 2, 3 and 6 of the ten (issue 4): cookies before state, replays of INIT, pinning. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { keyPair } from "../../../src/crypto/sodium.ts";
import { MINUTE_MS } from "../../../src/protocol/curve/minute_keys.ts";
import {
  COOKIE_PACKET_BYTES,
  HELLO_BYTES,
  PacketType,
  packetType,
  readCookie,
  writeCookie,
  writeHello,
} from "../../../src/wire/curve/curve_packet.ts";
import { errorCode, SallyportError } from "../../../src/errors.ts";
import type { Passing } from "./sim.ts";
import { pattern, seededSource } from "../../support/seeded.ts";
import { CLIENT_HOST, connect, cryptoForTests, SERVER, startServer, text, world } from "./support.ts";

const crypto = await cryptoForTests();
const STRANGER = { host: "203.0.113.9", port: 9 };

async function stage(more: Parameters<typeof startServer>[2] = {}) {
  const net = world();
  net.link(CLIENT_HOST, { delayMs: 20 });
  return { net, server: await startServer(net, crypto, more) };
}

/** Runs a dial up to its INIT and keeps all that went by. */
async function record(): Promise<
  {
    all: Passing[];
    init: Passing;
    net: ReturnType<typeof world>;
    server: Awaited<ReturnType<typeof startServer>>;
  }
> {
  const { net, server } = await stage();
  const all: Passing[] = [];
  net.watch = (datagram) => {
    all.push(datagram);
    return true;
  };
  await connect(net, crypto);
  net.watch = undefined;
  return { all, net, server, init: all.find(({ data }) => packetType(data) === PacketType.init)! };
}

describe("CurveServer: cookies before state", () => {
  it("1: 100,000 HELLOs leave nothing behind, and no answer is larger than its question", async () => {
    const { net, server } = await stage();
    const hello: Bytes = new Uint8Array(HELLO_BYTES);
    const key: Bytes = new Uint8Array(32);
    let answers = 0;
    net.watch = ({ data }) => {
      answers++;
      assert.ok(data.length < HELLO_BYTES, `${data.length} bytes in answer to ${HELLO_BYTES}`);
      return false;
    };
    const flood = (count: number) => {
      for (let i = 0; i < count; i++) {
        new DataView(key.buffer).setFloat64(0, i * Math.PI);
        writeHello(hello, key);
        net.inject({ data: hello, from: { host: "198.51.100.7", port: i % 65_536 }, to: SERVER });
        if (i % 1_000 === 0) net.clock.run(1);
      }
      net.clock.run(1);
    };
    const memory = () => process.memoryUsage().heapUsed;
    flood(10_000);
    const before = memory();
    flood(100_000);
    assert.equal(answers, 110_000);
    assert.equal(server.listener.stats.cookiesIssued, 110_000);
    assert.equal(server.listener.size, 0);
    assert.equal(server.connections.length, 0);
    // A hundred bytes kept for each would be 10 MB; garbage that waits for its collection is allowed for.
    assert.ok(memory() - before < 64e6, `${memory() - before} bytes more`);
  });

  it("connects where a side takes datagrams of 1,088 bytes alone", async () => {
    const options = { maxDatagramBytes: 1_088 };
    const { net } = await stage({ options });
    let largest = 0;
    net.watch = ({ data }) => {
      largest = Math.max(largest, data.length);
      return true;
    };
    const client = await connect(net, crypto, { options });
    assert.ok(client.link.connection.admitted);
    net.clock.run(60_000);
    assert.equal(largest, 1_088);
  });

  it("1: HELLOs that are too short, too long or of another version get no answer", async () => {
    const { net, server } = await stage();
    const good: Bytes = new Uint8Array(HELLO_BYTES);
    writeHello(good, pattern(32));
    const other = good.slice();
    other[2] = 2;
    net.watch = () => assert.fail("it answered");
    for (
      const data of [good.slice(0, HELLO_BYTES - 1), new Uint8Array([...good, 0]), other, new Uint8Array(0)]
    ) {
      net.inject({ data, from: STRANGER, to: SERVER });
    }
    assert.equal(server.listener.stats.strays, 4);
  });

  it("1: of the cookies that answer a HELLO four are looked at, and another HELLO brings others", async () => {
    for (const [forged, hellos] of [[3, 1], [4, 2]] as const) {
      const { net } = await stage();
      let seen = 0;
      net.watch = (datagram) => {
        if (packetType(datagram.data) === PacketType.hello) seen++;
        if (packetType(datagram.data) !== PacketType.cookie || seen > 1) return true;
        // Keys of low order, which cost the client as much as good ones.
        for (let i = 0; i < forged; i++) {
          const { connectionKey, cookie } = readCookie(datagram.data)!;
          const data = new Uint8Array(COOKIE_PACKET_BYTES);
          writeCookie(data, {
            connectionKey,
            serverKey: new Uint8Array(32),
            minuteKey: new Uint8Array(32),
            cookie,
          });
          net.inject({ ...datagram, data });
        }
        return true;
      };
      const client = await connect(net, crypto);
      assert.deepEqual([client.link.connection.admitted, seen], [true, hellos], `${forged} forged`);
    }
  });

  it("each connection has an ephemeral key of its own, drawn at random", async () => {
    const { net } = await stage();
    const keys = new Set<string>();
    net.watch = ({ data }) => {
      if (packetType(data) === PacketType.ready) keys.add(Buffer.from(data.subarray(36, 68)).toString("hex"));
      return true;
    };
    for (let i = 0; i < 3; i++) await connect(net, crypto, {}, `192.0.2.${i + 20}`);
    assert.equal(keys.size, 3);
    const zero = keyPair(crypto, new Uint8Array(32)).publicKey;
    assert.equal(keys.has(Buffer.from(zero).toString("hex")), false);
  });

  it("1: a READY whose key is of low order is ignored, and the genuine one accepted", async () => {
    const { net } = await stage();
    let forged = 0;
    net.watch = (datagram) => {
      if (packetType(datagram.data) === PacketType.ready && forged++ === 0) {
        const data = datagram.data.slice();
        data.fill(0, 36, 68);
        net.inject({ ...datagram, data });
      }
      return true;
    };
    const client = await connect(net, crypto);
    assert.deepEqual([forged > 0, client.link.connection.admitted], [true, true]);
  });

  it("2: an INIT with a forged or foreign cookie is dropped without an answer", async () => {
    const { init, ...home } = await record();
    // The same long-term key, other minute keys: another edge, or this one before its restart.
    const elsewhere = await stage({ random: seededSource(77) });
    for (
      const { net, server, from, alter } of [
        { ...elsewhere, from: init.from, alter: -1 },
        { ...home, from: { ...init.from, port: init.from.port + 1 }, alter: -1 },
        { ...home, from: STRANGER, alter: -1 },
        { ...home, from: init.from, alter: 40 },
        { ...home, from: init.from, alter: 67 },
        { ...home, from: init.from, alter: 4 },
      ]
    ) {
      const size = server.listener.size;
      const refused = server.listener.stats.cookiesRefused;
      // The connection that stands goes on talking.
      net.watch = ({ data }) => packetType(data) === PacketType.data || assert.fail("it answered");
      const data = init.data.slice();
      if (alter >= 0) data[alter] = data[alter]! ^ 1;
      net.inject({ data, from, to: SERVER });
      net.clock.run(200);
      net.watch = undefined;
      assert.equal(server.listener.stats.cookiesRefused, refused + 1);
      assert.equal(server.listener.size, size);
    }
  });

  it("2: one rotation of the minute key in the middle of a handshake does no harm", async () => {
    const { net, server } = await stage();
    net.clock.run(MINUTE_MS - 1_000);
    let inits = 0;
    const from = net.clock.nowMs();
    net.watch = ({ data }) => {
      if (packetType(data) !== PacketType.init) return true;
      inits++;
      return net.clock.nowMs() > from + 1_500;
    };
    const client = await connect(net, crypto);
    assert.ok(client.link.connection.admitted && inits > 1);
    assert.equal(server.listener.stats.cookiesIssued, 1, "it needed another cookie");
    assert.equal(server.listener.stats.cookiesRefused, 0);
  });

  for (
    const { waitMs, stands } of [{ waitMs: MINUTE_MS, stands: true }, {
      waitMs: 2 * MINUTE_MS,
      stands: false,
    }]
  ) {
    it(`2: a cookie is good after one rotation and bad after two (${waitMs} ms)`, async () => {
      const { net, server } = await stage();
      const held: Passing[] = [];
      net.watch = (datagram) => {
        if (packetType(datagram.data) !== PacketType.init) return true;
        held.push(datagram);
        return false;
      };
      const dial = connect(net, crypto).catch((error) => error);
      await net.clock.settle(() => held.length > 0, 5_000);
      net.clock.run(waitMs);
      net.inject(held[0]!);
      assert.equal(server.connections.length, stands ? 1 : 0);
      assert.equal(server.listener.stats.cookiesRefused, stands ? 0 : 1);
      await dial;
    });
  }

  it("3: state exists only once INIT verifies", async () => {
    const { net, server } = await stage();
    const seen: Passing[] = [];
    net.watch = (datagram) => {
      seen.push(datagram);
      return packetType(datagram.data) !== PacketType.init;
    };
    const dial = connect(net, crypto).catch((error) => error);
    await net.clock.settle(() => seen.some(({ data }) => packetType(data) === PacketType.init), 5_000);
    const fresh = seen.find(({ data }) => packetType(data) === PacketType.init)!;
    for (const at of [68, 73, 74, 500, fresh.data.length - 1]) {
      const data = fresh.data.slice();
      data[at] = data[at]! ^ 1;
      net.inject({ ...fresh, data });
    }
    assert.equal(server.listener.size, 0);
    assert.equal(server.listener.stats.initsRefused, 5);
    net.inject(fresh);
    assert.equal(server.listener.size, 1);
    assert.equal(server.connections.length, 1);
    net.watch = undefined;
    await dial;
  });

  it("3: a replayed INIT makes no second connection, while the first lives and after", async () => {
    const { init, net, server } = await record();
    assert.equal(server.listener.size, 1);
    net.watch = ({ data }) =>
      packetType(data) !== PacketType.ready || assert.fail("it answered an INIT that was played again");
    net.inject(init);
    net.clock.run(100);
    assert.equal(server.connections.length, 1);
    server.connections[0]!.close(new SallyportError("shutdown", "over", { side: "local" }));
    net.clock.run(10_000);
    assert.equal(server.listener.size, 0);
    net.inject(init);
    net.clock.run(100);
    assert.equal(server.listener.stats.initsRepeated, 2);
    assert.equal(server.connections.length, 1);
    net.clock.run(2 * MINUTE_MS);
    net.inject(init);
    assert.equal(server.listener.stats.cookiesRefused, 1);
    assert.equal(server.connections.length, 1);
  });

  it("3: a server that has forgotten a connection never confirms its INIT played again", async () => {
    // Even without the memory of used keys: READY has another E, and nobody can answer it.
    const { net, server } = await stage();
    const seen: Passing[] = [];
    net.watch = (datagram) => {
      seen.push(datagram);
      return packetType(datagram.data) !== PacketType.init;
    };
    const dial = connect(net, crypto).catch((error) => error);
    await net.clock.settle(() => seen.some(({ data }) => packetType(data) === PacketType.init), 5_000);
    net.watch = ({ data }) => packetType(data) !== PacketType.init && packetType(data) !== PacketType.ready;
    net.inject(seen.find(({ data }) => packetType(data) === PacketType.init)!);
    assert.equal(server.listener.pending, 1);
    await dial;
    net.clock.run(20_000);
    assert.deepEqual(server.credentials, [], "the credential was looked at");
    assert.equal(server.listener.size, 0);
    assert.equal(server.listener.pending, 0);
    assert.deepEqual(server.closed, ["deadline_exceeded"]);
  });

  it("pending connections are bounded, also from one address", async () => {
    const { net, server } = await stage({ limits: { pendingPerSourceMax: 3, pendingMax: 5 } });
    net.link("10.0.0.3", { delayMs: 20 });
    net.watch = ({ data }) => packetType(data) !== PacketType.ready;
    const dials = ["10.0.0.2", "10.0.0.2", "10.0.0.2", "10.0.0.2", "10.0.0.3", "10.0.0.3", "10.0.0.3"]
      .map((host) => connect(net, crypto, {}, host).catch((error) => errorCode(error)));
    await net.clock.settle(() => net.clock.nowMs() > 3_000, 5_000);
    assert.equal(server.connections.length, 5);
    assert.equal(server.listener.pending, 5);
    for (const dial of dials) assert.equal(await dial, "edge_unreachable");
  });

  it("an INIT of another size than READY's gets no answer, whatever it holds", async () => {
    const { init, net, server } = await record();
    const before = { ...server.listener.stats };
    net.watch = () => assert.fail("it answered");
    for (const size of [75, 91, init.data.length - 1]) {
      net.inject({ ...init, data: init.data.slice(0, size) });
    }
    net.inject({ ...init, data: new Uint8Array([...init.data, 0]) });
    assert.equal(server.listener.stats.strays - before.strays, 4);
    assert.equal(server.listener.stats.initsRepeated, before.initsRepeated);
  });

  for (const kind of ["forged", "refused"] as const) {
    it(`an address whose handshakes come to nothing is left alone for a minute (${kind})`, async () => {
      let computed = 0;
      const counting = { ...crypto, name: crypto.name };
      // Methods live on the class.
      const spied = Object.setPrototypeOf(counting, crypto) as typeof crypto;
      spied.publicKey = (secret) => crypto.publicKey(secret);
      spied.sharedSecret = (secret, key) => {
        computed++;
        return crypto.sharedSecret(secret, key);
      };
      spied.seal = (...args) => crypto.seal(...args);
      spied.open = (...args) => crypto.open(...args);
      const { net, server } = await stage({ crypto: spied, limits: { failuresPerSourceMax: 5 } });
      net.link("10.0.0.3", { delayMs: 20 });
      if (kind === "refused") {
        server.refusal = new SallyportError("token_expired", "over", { side: "peer" });
        for (let i = 0; i < 5; i++) await assert.rejects(connect(net, crypto), { code: "token_expired" });
        net.clock.run(5_000);
        server.refusal = undefined;
      } else {
        let init: Passing | undefined;
        net.watch = (datagram) => {
          if (packetType(datagram.data) === PacketType.init) init ??= datagram;
          return packetType(datagram.data) !== PacketType.init;
        };
        const dial = connect(net, crypto).catch((error) => error);
        await net.clock.settle(() => init !== undefined, 5_000);
        init!.data[500] = init!.data[500]! ^ 1;
        for (let i = 0; i < 1_000; i++) net.inject(init!);
        assert.equal(computed, 2 * 5, "two computations on the curve for each INIT that is looked at");
        net.watch = undefined;
        await dial;
      }
      const until = computed;
      const vain = connect(net, crypto, { options: { handshakeTimeoutMs: 3_000 } });
      await assert.rejects(vain, { code: "edge_unreachable" });
      assert.equal(computed, until);
      await connect(net, crypto, {}, "10.0.0.3");
      net.clock.run(MINUTE_MS);
      await connect(net, crypto);
    });
  }

  it("an owner that throws at a new connection leaves nothing behind", async () => {
    const { net, server } = await stage({
      accept: () => {
        throw new Error("not now");
      },
    });
    // The runtime reports such errors and goes on; the network of the tests lets them through.
    let init: Passing | undefined;
    net.watch = (datagram) => {
      if (packetType(datagram.data) === PacketType.init) init ??= datagram;
      return packetType(datagram.data) !== PacketType.init;
    };
    const dial = connect(net, crypto).catch((error) => errorCode(error));
    await net.clock.settle(() => init !== undefined, 5_000);
    assert.throws(() => net.inject(init!), /not now/);
    assert.deepEqual([server.listener.size, server.listener.pending], [0, 0]);
    assert.equal(await dial, "edge_unreachable");
  });
});

describe("CurveServer: admission", () => {
  it("carries a credential larger than a packet, and the welcome", async () => {
    const { net, server } = await stage();
    let welcome = "";
    await connect(net, crypto, {
      credential: text("a".repeat(16_448)),
      admitted: (_connection, bytes) => {
        welcome = new TextDecoder().decode(bytes);
        return { stream: () => {}, streamClosed: () => {}, closed: () => {} };
      },
    });
    assert.deepEqual(server.credentials, ["a".repeat(20)]);
    assert.equal(welcome, "welcome");
    assert.equal(server.listener.pending, 0);
    await assert.rejects(connect(net, crypto, { credential: text("a".repeat(16_449)) }), /at most 16448/);
  });

  it("a refusal arrives with its code and text", async () => {
    const { net, server } = await stage();
    server.refusal = new SallyportError("token_expired", "Cannot open session: the token has expired", {
      side: "peer",
    });
    await assert.rejects(connect(net, crypto), (error: SallyportError) => {
      assert.equal(error.code, "token_expired");
      assert.match(error.message, /the token has expired/);
      return true;
    });
    net.clock.run(10_000);
    assert.equal(server.listener.size, 0);
  });

  it("the credential is nowhere in clear", async () => {
    const { all } = await record();
    for (const { data } of all) assert.ok(!Buffer.from(data).includes("token"));
  });

  it("nobody answers: an error that says so, in bounded time", async () => {
    const net = world();
    const from = net.clock.nowMs();
    await assert.rejects(connect(net, crypto), (error) => errorCode(error) === "edge_unreachable");
    assert.ok(net.clock.nowMs() - from < 16_000);
  });

  it("goes through losses of every kind of packet", async () => {
    for (const lost of [PacketType.hello, PacketType.cookie, PacketType.init, PacketType.ready]) {
      const { net, server } = await stage();
      let left = 2;
      net.watch = ({ data }) => packetType(data) !== lost || left-- <= 0;
      await connect(net, crypto);
      assert.equal(server.listener.size, 1, `type ${lost}`);
    }
  });
});

describe("CurveClient: pinning", () => {
  it("6: the first key is learned, and a changed one is refused with a clear message", async () => {
    const { net, server } = await stage();
    const first = await connect(net, crypto);
    assert.deepEqual(first.proved, server.listener.publicKey);
    const again = await connect(net, crypto, { serverKey: first.proved! });
    assert.ok(again.link.connection.admitted);

    server.listener.close();
    net.clock.run(1_000);
    const other = await startServer(net, crypto, { keys: keyPair(crypto, pattern(32, 8)) });
    const from = net.clock.nowMs();
    await assert.rejects(connect(net, crypto, { serverKey: first.proved! }), (error: SallyportError) => {
      assert.equal(error.code, "challenge_failed");
      assert.match(error.message, /^Cannot trust edge: its key isn't the pinned one/);
      return true;
    });
    assert.ok(net.clock.nowMs() - from < 2_000, "it took too long to say so");
    assert.equal(other.connections.length, 0, "it was sent an INIT");
  });

  it("6: a false COOKIE that comes first doesn't hide the true one", async () => {
    const { net, server } = await stage();
    const { proved } = await connect(net, crypto);
    net.watch = (datagram) => {
      if (packetType(datagram.data) === PacketType.cookie) {
        const data = datagram.data.slice();
        data.set(pattern(32, 3), 36);
        net.inject({ ...datagram, data });
      }
      return true;
    };
    const client = await connect(net, crypto, { serverKey: proved! });
    assert.ok(client.link.connection.admitted);
    assert.equal(server.listener.size, 2);
  });

  it("6: who claims the server's key without having it gets nowhere", async () => {
    const { net, server } = await stage();
    const pinned = server.listener.publicKey;
    server.listener.close();
    // Its COOKIEs name the pinned key, but its INITs can't be read with it.
    const thief = { secretKey: pattern(32, 9), publicKey: pinned };
    const false_ = await startServer(net, crypto, { keys: thief });
    await assert.rejects(
      connect(net, crypto, { serverKey: pinned }),
      (error) => errorCode(error) === "edge_unreachable",
    );
    assert.equal(false_.connections.length, 0);
    assert.ok(false_.listener.stats.initsRefused > 0);
  });
});
