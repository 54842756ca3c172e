/** Ends of the sealed transport written out by hand, which do what ours never would, in the network in memory. */
import assert from "node:assert/strict";
import { transportsOf } from "../../support/transports.ts";
import { AlertDescription } from "../../../src/wire/tls/tls_alert.ts";
import { describe, it } from "node:test";
import { SodiumAead } from "../../../src/crypto/aead.ts";
import { systemRandom } from "../../../src/crypto/random.ts";
import { loadSodium } from "../../../src/crypto/sodium.ts";
import { BoxChain } from "../../../src/protocol/records/box_chain.ts";
import { SealedAgentHandshake } from "../../../src/protocol/handshake/sealed_agent.ts";
import { AnsweredFlights, SealedEdgeHandshake } from "../../../src/protocol/handshake/sealed_edge.ts";
import { RecordOpener, RecordScratch, RecordSealer } from "../../../src/protocol/records/sealed_records.ts";
import type { Bytes, Conn } from "../../../src/runtime/port.ts";
import { decodeVerdict, encodeVerdict, LOGIN_MAX_BYTES } from "../../../src/wire/login/login_messages.ts";
import type { CreatedToken } from "../../../src/protocol/token/token.ts";
import { loginOf } from "../../support/login.ts";
import { bytesOf, Watched } from "../../conformance/runtime_helpers.ts";
import { edgeKeys, flipped } from "../../support/sealed.ts";
import { connectSealed } from "../../support/sealed_agent.ts";
import {
  AGENT_HOST,
  assertAlert,
  bytesFrom,
  concat,
  EDGE_HOST,
  EDGE_PORT,
  type TestAgent,
  TestEdge,
  type TestEdgeOptions,
} from "../../support/tunnel.ts";
import { PING_INTERVAL_MS, SILENCE_MAX_MS } from "../../../src/protocol/mux/heartbeat.ts";
import { SEALED_RECORD_MAX_BYTES } from "../../../src/protocol/records/sealed_records.ts";
import { SEALED_SILENCE_MAX_MS, SEALED_SILENCE_MIN_MS } from "../../../src/transport/sealed/accept.ts";
import { SEALED_PADDING_MAX_BYTES } from "../../../src/wire/sealed/sealed_messages.ts";

const sodium = await loadSodium();
const keys = edgeKeys(sodium);
const chacha = new SodiumAead(sodium);
const cipher = (key: Bytes) => ({ sodium, small: chacha, bulk: chacha, key });
const Type = { OPEN: 1, DATA: 2, CREDIT: 3, FIN: 4, PING: 7, PONG: 8 };

const start = (options: TestEdgeOptions = {}): Promise<TestEdge> =>
  TestEdge.start({ transports: transportsOf({ sealed: { sodium, keys } }), ...options });

function frame(type: number, stream: number, body: Bytes = new Uint8Array(0)): Bytes {
  const bytes = new Uint8Array(8 + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, body.length);
  view.setUint8(0, type);
  view.setUint32(4, stream);
  bytes.set(body, 8);
  return bytes;
}

/** Frames that came, as `[type, stream, body]`. */
function framesOf(bytes: Bytes): [number, number, Bytes][] {
  const frames: [number, number, Bytes][] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  for (let at = 0; at < bytes.length;) {
    const size = view.getUint32(at) & 0xff_ffff;
    frames.push([bytes[at]!, view.getUint32(at + 4), bytes.slice(at + 8, at + 8 + size)]);
    at += 8 + size;
  }
  return frames;
}

/** One end of a session: what it says and hears inside the records. */
class RawEnd {
  readonly sealer: RecordSealer;
  readonly opener: RecordOpener;
  readonly heard: Bytes[] = [];

  constructor(readonly conn: Watched, readonly own: Bytes, other: Bytes, readonly channel: Bytes) {
    this.sealer = new RecordSealer(cipher(own), new RecordScratch(), systemRandom);
    this.opener = new RecordOpener(cipher(other), new RecordScratch());
    this.opener.maxBytes = SEALED_RECORD_MAX_BYTES;
  }

  /** The next record, not sent. */
  record(plain: Bytes): Bytes {
    return this.sealer.seal(plain).slice();
  }

  login(token: CreatedToken): Bytes {
    return loginOf(token, { transport: "sealed", edgeKey: keys.publicKey, channel: this.channel });
  }

  hear(wire: Bytes): void {
    this.opener.open(wire, (data) => void this.heard.push(data.slice()));
  }

  frames(): [number, number, Bytes][] {
    return framesOf(concat(...this.heard));
  }
}

/** An agent that has been answered. `step`: writes so many bytes at a time. */
async function greet(test: TestEdge, step = Infinity): Promise<{ end: RawEnd; write(bytes: Bytes): void }> {
  const unixSeconds = Math.floor(test.network.clock.wallMs() / 1000);
  const handshake = new SealedAgentHandshake({ sodium, edgePublicKey: keys.publicKey, unixSeconds });
  const conn = await test.dial(AGENT_HOST, EDGE_PORT);
  const write = (bytes: Bytes): void => {
    for (let at = 0; at < bytes.length; at += step) conn.write(bytes.slice(at, at + step));
  };
  write(handshake.first);
  await test.advance(50);
  const answered = handshake.push(bytesFrom(conn))!;
  assert.equal(answered.rest.length, 0);
  const end = new RawEnd(conn, answered.keys.agent, answered.keys.edge, answered.keys.channel);
  conn.onData = (chunk) => end.hear(chunk);
  return { end, write };
}

/** An agent that has been let in. */
async function enter(
  test: TestEdge,
  hostname = "a.test",
  step = Infinity,
): Promise<{ end: RawEnd; write(bytes: Bytes): void }> {
  const { end, write } = await greet(test, step);
  write(end.record(end.login(test.token({ hostname }))));
  await test.advance(50);
  assert.equal(decodeVerdict(end.heard.shift()!), undefined);
  return { end, write };
}

describe("sealedTransport: a session", () => {
  it("goes one byte at a time, from the first flight to the last byte of a stream", async () => {
    const test = await start({ network: { link: { pieceMaxBytes: 1 } } });
    const { end, write } = await enter(test, "a.test", 1);
    const { conn, hello } = await test.visit();
    conn.write(bytesOf("more"));
    await test.advance(50);
    const [open, ...data] = end.frames().filter(([type]) => type === Type.OPEN || type === Type.DATA);
    assert.equal(open![0], Type.OPEN);
    assert.deepEqual(concat(...data.map(([, , body]) => body)), concat(hello, bytesOf("more")));
    write(end.record(frame(Type.DATA, open![1], bytesOf("the answer"))));
    write(end.record(frame(Type.FIN, open![1])));
    await test.advance(50);
    assert.equal(conn.text, "the answer");
    assert.equal(conn.ended, true);
    await test.assertNothingLeft();
  });

  it("takes many records at once, and many frames in one", async () => {
    const test = await start();
    const { end, write } = await enter(test);
    const { conn } = await test.visit();
    const stream = end.frames().find(([type]) => type === Type.OPEN)![1];
    const marks = Array.from({ length: 40 }, (_, i) => new Uint8Array(16).fill(i));
    const text = Array.from({ length: 100 }, (_, i) => `part ${i} `);
    const records = [
      end.record(concat(...marks.slice(0, 20).map((mark) => frame(Type.PING, 0, mark)))),
      ...marks.slice(20).map((mark) => end.record(frame(Type.PING, 0, mark))),
      // A frame over three records, the header cut too.
      ...[[0, 5], [5, 11], [11, undefined]].map(([from, to]) =>
        end.record(frame(Type.DATA, stream, bytesOf("first ")).slice(from, to))
      ),
      ...text.map((part) => end.record(frame(Type.DATA, stream, bytesOf(part)))),
      end.record(frame(Type.FIN, stream)),
    ];
    write(concat(...records));
    await test.advance(50);
    const pongs = end.frames().filter(([type]) => type === Type.PONG).map(([, , body]) => body);
    assert.deepEqual(pongs, marks);
    assert.equal(conn.text, `first ${text.join("")}`);
    assert.equal(conn.ended, true);
    await test.assertNothingLeft();
  });
});

describe("sealedTransport: a session ends at once, alone, and with a reason", () => {
  const faults: [string, (end: RawEnd, stream: number) => Bytes][] = [
    ["a flipped bit in a record's head", (end, stream) => {
      return flipped(end.record(frame(Type.DATA, stream, bytesOf("altered"))), 3);
    }],
    ["a flipped bit in a record's body", (end, stream) => {
      return flipped(end.record(frame(Type.DATA, stream, bytesOf("altered"))), 25, 7);
    }],
    ["a record that came before", (end) => {
      const record = end.record(frame(Type.PING, 0, new Uint8Array(16)));
      return concat(record, record);
    }],
    ["a record that was left out", (end, stream) => {
      end.record(frame(Type.DATA, stream, bytesOf("lost")));
      return end.record(frame(Type.DATA, stream, bytesOf("altered")));
    }],
  ];
  for (const [what, bytes] of faults) {
    it(`by ${what}`, async () => {
      const test = await start();
      const neighbour = await enter(test, "b.test");
      const { end, write } = await enter(test);
      const { conn } = await test.visit();
      const stream = end.frames().find(([type]) => type === Type.OPEN)![1];
      write(bytes(end, stream));
      await test.advance(10);
      assert.equal(end.conn.ended, true);
      assertAlert(conn, AlertDescription.internal_error);
      assert.equal(await test.metric("session_ends_total", { reason: "cipher_failed" }), 1);
      assert.equal(test.edge.serves("a.test"), false);
      await test.visit("b.test");
      assert.equal(neighbour.end.frames().filter(([type]) => type === Type.OPEN).length, 1);
      await test.assertNothingLeft();
    });
  }

  const sizes: [string, number, number][] = [
    ["data", SEALED_RECORD_MAX_BYTES + 1, 0],
    ["all that 32 bits can say", 0xffff_ffff, 0],
    ["padding", 0, SEALED_PADDING_MAX_BYTES + 1],
  ];
  for (const [what, data, padding] of sizes) {
    it(`by the head of a record with too much ${what}, before any of it comes`, async () => {
      const test = await start();
      const { end } = await enter(test);
      // The login was the direction's first record: boxes 0 and 1.
      const chain = new BoxChain(cipher(end.own));
      for (let box = 0; box < 2; box++) chain.seal(new Uint8Array(0), new Uint8Array(16));
      const head = new Uint8Array(6);
      new DataView(head.buffer).setUint32(0, data);
      new DataView(head.buffer).setUint16(4, padding);
      const sealed = new Uint8Array(22);
      chain.seal(head, sealed);
      end.conn.write(sealed);
      await test.advance(10);
      assert.equal(end.conn.ended, true);
      assert.equal(await test.metric("session_ends_total", { reason: "cipher_failed" }), 1);
      assert.equal(await test.metric("sessions", sessionLabels), 0);
      await test.assertNothingLeft();
    });
  }

  it("by the head of a login that no token has, silently", async () => {
    const test = await start();
    const { end, write } = await greet(test);
    const answered = end.conn.byteLength;
    write(end.record(new Uint8Array(LOGIN_MAX_BYTES + 1)).slice(0, 22));
    await test.advance(SEALED_SILENCE_MIN_MS - 100);
    assert.equal(end.conn.ended, false);
    await test.advance(SEALED_SILENCE_MAX_MS);
    assert.deepEqual([end.conn.ended, end.conn.byteLength], [true, answered]);
    assert.equal(await test.refusals("agent", "cipher_failed"), 1);
    await test.assertNothingLeft();
  });

  it("by a byte after the login while it is being decided, silently, whatever is decided", async () => {
    for (const lets of [true, false]) {
      const test = await start({
        authorize: () =>
          new Promise((resolve, reject) => {
            test.network.clock.after(200, () => lets ? resolve() : reject(new Error("no")));
          }),
      });
      const { end, write } = await greet(test);
      const answered = end.conn.byteLength;
      write(end.record(end.login(test.token())));
      await test.advance(100);
      write(new Uint8Array(1));
      await test.advance(SEALED_SILENCE_MIN_MS - 100);
      assert.deepEqual([end.conn.ended, end.conn.byteLength], [false, answered]);
      await test.advance(SEALED_SILENCE_MAX_MS);
      assert.deepEqual([end.conn.ended, end.conn.byteLength], [true, answered]);
      assert.equal(test.edge.serves("a.test"), false);
      assert.equal(await test.refusals("agent", "challenge_failed"), 1);
      await test.assertNothingLeft();
    }
  });

  it("by a byte after the login, before the verdict", async () => {
    const authorized: string[] = [];
    const test = await start({ authorize: ({ transport }) => void authorized.push(transport) });
    const { end, write } = await greet(test);
    const login = end.record(end.login(test.token()));
    write(concat(login, new Uint8Array(1)));
    await test.advance(50);
    assert.deepEqual([end.heard.length, authorized.length, test.edge.serves("a.test")], [0, 0, false]);
    await test.advance(SEALED_SILENCE_MAX_MS);
    assert.equal(end.conn.ended, true);
    assert.equal(await test.refusals("agent", "challenge_failed"), 1);
    await test.assertNothingLeft();
  });
});

const sessionLabels = { transport: "sealed", protocol_version: "", cipher: "chacha20-poly1305" };

describe("dialSealed: an agent whose pings aren't answered", () => {
  /** An edge of the test's own, and an agent of ours at it. */
  async function meet(): Promise<{ test: TestEdge; agent: TestAgent; edge: RawEnd }> {
    const test = await TestEdge.start({ listen: [] });
    const unixSeconds = () => Math.floor(test.network.clock.wallMs() / 1000);
    let edge: RawEnd | undefined;
    await test.runtime(EDGE_HOST).listen({
      host: EDGE_HOST,
      port: EDGE_PORT,
      accept: (conn: Conn) => {
        const answered = new AnsweredFlights();
        const handshake = new SealedEdgeHandshake({ sodium, keys, answered, unixSeconds });
        const watched = new Watched(conn);
        watched.onData = (chunk) => {
          if (edge !== undefined) return edge.hear(chunk);
          const { answer, keys: fresh } = handshake.push(chunk) ?? {};
          if (answer === undefined) return;
          edge = new RawEnd(watched, fresh!.edge, fresh!.agent, fresh!.channel);
          watched.write(answer);
          watched.write(edge.record(encodeVerdict(undefined)));
        };
      },
    });
    const agent = await connectSealed(test, sodium, test.token());
    // The login.
    edge!.heard.splice(0);
    return { test, agent, edge: edge! };
  }

  it("leaves after SILENCE_MAX_MS without an answer to its pings", async () => {
    const { test, agent, edge } = await meet();
    await test.advance(SILENCE_MAX_MS - 100);
    assert.ok(agent.endedWith === undefined);
    const pings = edge.frames().filter(([type]) => type === Type.PING);
    assert.equal(pings.length, Math.ceil(SILENCE_MAX_MS / PING_INTERVAL_MS) - 1);
    await test.advance(200);
    const { endedWith } = agent as TestAgent;
    assert.equal(endedWith?.code, "pong_missing");
    assert.match(endedWith!.message, /nothing was heard from the peer for 15 s/);
    assert.equal(edge.conn.ended, true);
  });

  it("stays where they are", async () => {
    const { test, agent, edge } = await meet();
    let answered = 0;
    for (let atMs = 0; atMs < 600_000; atMs += PING_INTERVAL_MS) {
      await test.advance(PING_INTERVAL_MS);
      const pings = edge.frames().filter(([type]) => type === Type.PING);
      for (const [, , mark] of pings.slice(answered)) {
        edge.conn.write(edge.record(frame(Type.PONG, 0, mark)));
      }
      answered = pings.length;
    }
    assert.equal(agent.endedWith, undefined);
    assert.ok(answered >= 100, `${answered} pings`);
  });

  it("leaves a network that is cut, and the edge frees its name", async () => {
    const test = await start();
    const agent = await connectSealed(test, sodium, test.token());
    const { conn } = await test.visit();
    test.network.cut(EDGE_HOST, AGENT_HOST);
    await test.advance(150_000);
    assert.equal(agent.endedWith?.code, "pong_missing");
    assert.equal(test.edge.serves("a.test"), false);
    assert.equal(await test.metric("session_ends_total", { reason: "pong_missing" }), 1);
    assertAlert(conn, AlertDescription.internal_error);
    await test.assertNothingLeft();
  });
});
