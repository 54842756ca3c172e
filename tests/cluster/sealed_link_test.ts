/** Links between machines: sealed, authenticated both ways, and useless to strangers. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import type { Bytes } from "../../src/bytes/bytes.ts";
import type { NodeRecord } from "../../src/cluster/directory.ts";
import { LINK_DEADLINE_MS } from "../../src/cluster/link.ts";
import { LINKS_PENDING_PER_SOURCE_MAX, NodeLinks } from "../../src/cluster/node_links.ts";
import { chooseAeads } from "../../src/crypto/aead.ts";
import { loadSodium } from "../../src/crypto/sodium.ts";
import { createMemoryNetwork, type MemoryNetwork } from "../../src/runtime/memory/memory.ts";
import { silentLogger } from "../../src/telemetry/log.ts";
import type { Session, SessionHandler } from "../../src/transport/port.ts";
import { splice } from "../../src/transport/splice.ts";

const sodium = await loadSodium("wasm");
const KEY = new Uint8Array(32).fill(3);
const PORT = 8446;
const CALLER = { address: "203.0.113.9", port: 50_123, serverName: "home.example.org" };

const IDLE: SessionHandler = {
  stream: (stream) => stream.abort(),
  streamClosed() {},
  streamRefused() {},
  ended() {},
};

/** A node of a host in a virtual network, whose streams send back what they get. */
async function node(
  network: MemoryNetwork,
  index: number,
  clusterKey: Bytes = KEY,
): Promise<{ links: NodeLinks; record: NodeRecord }> {
  const host = `10.0.0.${index}`;
  const runtime = network.runtime(host);
  const secretKey = new Uint8Array(32).fill(index);
  const id = index.toString(16).padStart(32, "0");
  const links = new NodeLinks({
    runtime,
    log: silentLogger,
    node: id,
    network: {
      sodium,
      aeads: chooseAeads(sodium),
      keys: { secretKey, publicKey: sodium.publicKey(secretKey) },
      clusterKey,
    },
  });
  const accepted = (): SessionHandler => ({
    ...IDLE,
    stream: (stream) => {
      stream.attach({
        data: (chunk) => void stream.write(chunk),
        end: () => stream.closeWrite(),
        drain() {},
        close() {},
      });
    },
  });
  await network.settle(links.listenNetwork({ host, port: PORT }, 1, (port) => `${host}:${port}`, accepted));
  return { links, record: { id, ...links.reach, version: 1, sessions: 0, draining: false } };
}

/** Sends `bytes` through a stream and hashes what comes back. */
function echo(session: Session, bytes: Bytes): Promise<string> {
  const stream = session.open(CALLER);
  const hash = createHash("sha256");
  return new Promise((resolve, reject) => {
    stream.attach({
      data: (chunk) => void hash.update(chunk),
      end() {},
      drain() {},
      close: (error) => error === undefined ? resolve(hash.digest("hex")) : reject(error),
    });
    for (let at = 0; at < bytes.length; at += 100_000) stream.write(bytes.subarray(at, at + 100_000));
    stream.closeWrite();
  });
}

describe("NodeLinks", () => {
  it("links two machines: bytes come back whole, and nobody on the way sees them", async () => {
    const network = createMemoryNetwork({ link: { latencyMs: 1 } });
    const [a, b] = [await node(network, 1), await node(network, 2)];
    // Somebody between them who writes down all that passes.
    const seen: Uint8Array[] = [];
    const between = network.runtime("10.0.0.9");
    await network.settle(between.listen({
      host: "10.0.0.9",
      port: PORT,
      accept: (conn) => {
        conn.pause();
        void between.dial({ host: "10.0.0.2", port: PORT, timeoutMs: 1_000 }).then((on) => {
          splice({ visitorSide: conn, agentSide: on, stream: on as never, clock: network.clock });
          const write = on.write.bind(on);
          on.write = (chunk) => (seen.push(chunk.slice()), write(chunk));
          conn.resume();
        });
      },
    }));
    const session = await network.settle(a.links.dial({ ...b.record, address: `10.0.0.9:${PORT}` }, IDLE));
    assert.equal(session.cipher, "sealed");
    const bytes = new Uint8Array(1_000_000).fill(7);
    const expected = createHash("sha256").update(bytes).digest("hex");
    assert.equal(await network.settle(echo(session, bytes)), expected);
    assert.ok(seen.reduce((sum, { length }) => sum + length, 0) > bytes.length);
    const wire = Buffer.concat(seen);
    assert.equal(wire.indexOf(Buffer.alloc(32, 7)), -1);
    assert.equal(wire.indexOf("home.example.org"), -1);
    assert.equal(wire.indexOf("SPLK"), -1);
  });

  it("refuses a node with another cluster key", async () => {
    const network = createMemoryNetwork({ link: { latencyMs: 1 } });
    const [a, b] = [await node(network, 1), await node(network, 2, new Uint8Array(32).fill(4))];
    // Whichever end is told first ends it.
    await assert.rejects(
      network.settle(a.links.dial(b.record, IDLE)),
      /another cluster key|reset by the peer/,
    );
  });

  it("does not take another node for the one that was meant, though it knows the cluster's key", async () => {
    const network = createMemoryNetwork({ link: { latencyMs: 1 } });
    const [a, b, c] = [await node(network, 1), await node(network, 2), await node(network, 3)];
    // Its address is another's now: that one cannot open what is sealed for the first.
    await assert.rejects(network.settle(a.links.dial({ ...b.record, address: c.record.address }, IDLE)));
    // The same key with another id: a node that has been started again would have a fresh key, so this is a lie.
    await assert.rejects(network.settle(a.links.dial({ ...b.record, id: a.record.id }, IDLE)), {
      code: "connection_lost",
      message: /another node has its address now/,
    });
  });

  it("gives a stranger no answer, ends it in time, and bounds how many come from one address", async () => {
    const network = createMemoryNetwork({ link: { latencyMs: 1 } });
    const b = await node(network, 2);
    const stranger = network.runtime("10.0.0.9");
    let closed = 0;
    let answered = 0;
    for (let index = 0; index < LINKS_PENDING_PER_SOURCE_MAX + 5; index++) {
      const conn = await network.settle(stranger.dial({ host: "10.0.0.2", port: PORT, timeoutMs: 1_000 }));
      conn.attach({ data: () => void answered++, end() {}, drain() {}, close: () => void closed++ });
      if (index === 0) conn.write(new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"));
    }
    await network.advance(100);
    assert.equal(closed, 5);
    // Other nodes get in all the same.
    const a = await node(network, 1);
    assert.ok(await network.settle(a.links.dial(b.record, IDLE)));
    await network.advance(LINK_DEADLINE_MS);
    assert.equal(closed, LINKS_PENDING_PER_SOURCE_MAX + 5);
    assert.equal(answered, 0);
    // And there is room again for that address.
    const again = await network.settle(stranger.dial({ host: "10.0.0.2", port: PORT, timeoutMs: 1_000 }));
    let refused = false;
    again.attach({ data() {}, end() {}, drain() {}, close: () => refused = true });
    await network.advance(100);
    assert.ok(!refused);
  });
});
