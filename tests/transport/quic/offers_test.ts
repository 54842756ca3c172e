/** Streams that an agent offers, and edges and agents that make too much of that, in virtual time. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FernetRing, generateFernetKey } from "../../../src/crypto/fernet.ts";
import { SallyportError } from "../../../src/errors.ts";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import type { Bytes } from "../../../src/runtime/port.ts";
import type { QuicConn } from "../../../src/runtime/quic_port.ts";
import { dialQuic } from "../../../src/transport/quic/dial.ts";
import { QUIC_ALPN } from "../../../src/transport/quic/session.ts";
import { CreditFrame, encodeCreditFrame, encodeOpen } from "../../../src/wire/credit/credit_frame.ts";
import { encodeVerdict, LOGIN_CHALLENGE_BYTES, PROOF_BYTES } from "../../../src/wire/login/login_messages.ts";
import { identities, QuicEar, WatchedQuicStream } from "../../conformance/quic_helpers.ts";
import { Ear } from "../../conformance/transport_helpers.ts";
import { QuicSite, utf8 } from "../../support/quic_site.ts";
import { QUIC_OFFER_SHARE } from "../../../src/transport/quic/dial.ts";
import { QUIC_OFFERS_MAX } from "../../../src/transport/quic/supply.ts";
import { HELLO_DEADLINE_MS } from "../../../src/wire/tls/client_hello.ts";

const HOST = "10.0.0.1";
/** Of the right form; its edge is a test's. */
const TOKEN = new FernetRing([generateFernetKey()]).seal(new Uint8Array(16));
const OFFER = encodeCreditFrame(CreditFrame.OFFER, 0, new Uint8Array(0));
const CALLER = { address: "192.0.2.7", port: 1, serverName: "a.test", creditBytes: 1000 };
const OPEN = encodeOpen(0, CALLER);
const over = new SallyportError("shutdown", "Session ended: the test is over", { side: "local" });

function test(title: string, body: (site: QuicSite) => Promise<void>): void {
  it(title, { timeout: 60_000 }, async () => {
    const site = new QuicSite();
    await site.network.settle((async () => {
      await site.listen();
      await body(site);
    })());
  });
}

async function offer(conn: QuicConn): Promise<WatchedQuicStream> {
  const stream = new WatchedQuicStream(await conn.open());
  stream.write(OFFER);
  return stream;
}

/** A sign of life both ways: what was sent before has been seen. */
async function roundTrip(control: WatchedQuicStream): Promise<void> {
  const before = control.byteLength;
  control.write(encodeCreditFrame(CreditFrame.PING, 0, new Uint8Array(16)));
  await control.received(before + 24);
}

describe("listenQuic: an edge that is offered streams", () => {
  test("takes them first, in order, and opens its own after them", async (site) => {
    const { conn, ear, control } = await site.login();
    const offers = [await offer(conn), await offer(conn)];
    await roundTrip(control);
    const sessions = [1, 2, 3].map(() => site.session!.open(CALLER));
    await Promise.all(offers.map((stream) => stream.received(OPEN.length)));
    assert.equal(offers[0]!.chunks[0]![0], CreditFrame.OPEN);
    await ear.until(() => ear.streams.length > 0);
    assert.equal(ear.streams.length, 1);
    assert.equal(sessions.length, site.session!.streams);
  });

  test("keeps those that are never used, and forgets those that are gone", async (site) => {
    const { conn, ear, control } = await site.login();
    const gone = await offer(conn);
    const stays = await offer(conn);
    gone.abort();
    await site.later(HELLO_DEADLINE_MS * 3);
    await roundTrip(control);
    assert.deepEqual(site.ear.refusals, []);
    site.session!.open(CALLER);
    await stays.received(OPEN.length);
    assert.equal(ear.streams.length, 0);
  });

  test("serves visitors that already wait, and drops those that have left", async (site) => {
    const { conn, ear } = await site.login();
    const accepted = 100;
    for (let i = 0; i < accepted; i++) site.session!.open(CALLER);
    await ear.until(() => ear.streams.length === accepted);
    const waiting = [1, 2, 3].map((port) => site.session!.open({ ...CALLER, port }));
    waiting[0]!.abort();
    const offers = [await offer(conn), await offer(conn)];
    await Promise.all(offers.map((stream) => stream.received(OPEN.length)));
    assert.deepEqual(offers.map(({ chunks }) => chunks[0]![13]), [2, 3]);
    assert.equal(ear.streams.length, accepted);
    site.session!.goAway(over);
    assert.throws(() => site.session!.open(CALLER), { code: "shutdown" });
  });

  const WRONG: Readonly<Record<string, readonly Bytes[]>> = {
    "an OPEN": [OPEN],
    "a second OFFER": [OFFER],
    "DATA": [encodeCreditFrame(CreditFrame.DATA, 0, utf8("x"))],
    "FIN": [encodeCreditFrame(CreditFrame.FIN, 0, new Uint8Array(0))],
  };
  for (const [what, frames] of Object.entries(WRONG)) {
    test(`ends the session where ${what} follows an OFFER`, async (site) => {
      const { conn } = await site.login();
      const stream = await offer(conn);
      for (const frame of frames) stream.write(frame);
      await site.ear.until(() => site.ear.endedWith !== undefined);
      assert.equal(site.ear.endedWith?.code, "frame_invalid");
    });
  }

  test("ends the session where there are too many", async (site) => {
    const { conn, control } = await site.login();
    for (let i = 0; i < QUIC_OFFERS_MAX; i++) await offer(conn);
    await roundTrip(control);
    assert.equal(site.session!.streams, 0);
    await offer(conn);
    await site.ear.until(() => site.ear.endedWith !== undefined);
    assert.equal(site.ear.endedWith?.code, "frame_invalid");
  });
});

/** Our agent, at an edge whose every byte is the test's. */
async function rawEdge(network = createMemoryNetwork({ seed: 5 })) {
  const { own, fingerprint } = await identities();
  const quic = await network.runtime(HOST).quic();
  const ear = new QuicEar();
  const conns: QuicConn[] = [];
  const listener = await quic.listen({
    host: HOST,
    port: 0,
    identity: own,
    alpn: [QUIC_ALPN],
    accept: (conn) => {
      conns.push(conn);
      conn.attach(ear);
    },
  });
  const agentEar = new Ear();
  const dialling = dialQuic({
    runtime: network.runtime("10.0.0.2"),
    host: HOST,
    port: listener.address.port,
    token: TOKEN,
    aesKey: new Uint8Array(32),
    edgeFingerprint: fingerprint,
    admitted: () => agentEar,
  });
  await ear.until(() => ear.streams.length > 0);
  const control = new WatchedQuicStream(ear.streams[0]!);
  control.write(new Uint8Array(LOGIN_CHALLENGE_BYTES));
  await control.received(2 + TOKEN.length + PROOF_BYTES);
  control.write(encodeVerdict(undefined));
  const open = async () => {
    const stream = new WatchedQuicStream(await conns[0]!.open());
    stream.write(OPEN);
    return stream;
  };
  return { agent: await dialling, agentEar, ear, control, open };
}

describe("dialQuic: an agent that is offered streams", () => {
  const from = 100 * QUIC_OFFER_SHARE;
  const most = QUIC_OFFERS_MAX;

  it("offers streams from a quarter of what the edge may open, and replaces those that are taken", async () => {
    const network = createMemoryNetwork({ seed: 5 });
    await network.settle((async () => {
      const { ear, open, agentEar, control } = await rawEdge(network);
      for (let i = 1; i < from; i++) await open();
      await roundTrip(control);
      assert.equal(ear.streams.length, 1);
      await open();
      await ear.until(() => ear.streams.length === 1 + most);
      const taken = new WatchedQuicStream(ear.streams[1]!);
      await taken.received(OFFER.length);
      assert.equal(taken.chunks[0]!.toHex(), OFFER.toHex());
      taken.write(OPEN);
      await ear.until(() => ear.streams.length === 2 + most);
      assert.equal(agentEar.streams.length, from + 1);
    })());
  });

  it("offers none when it leaves, and refuses who takes one all the same", async () => {
    const network = createMemoryNetwork({ seed: 5 });
    await network.settle((async () => {
      const { agent, ear, open, agentEar } = await rawEdge(network);
      for (let i = 0; i < from; i++) await open();
      await ear.until(() => ear.streams.length === 1 + most);
      agent.goAway(over);
      const taken = new WatchedQuicStream(ear.streams[1]!);
      taken.write(OPEN);
      await taken.sawEnd;
      const reset = taken.chunks.map((chunk) => chunk.toHex()).join("").slice(2 * OFFER.length);
      assert.equal(reset, "0500000200000000" + "0006");
      assert.equal(ear.streams.length, 1 + most);
      assert.deepEqual(agentEar.refusals, ["shutdown"]);
      agent.close(over);
      await ear.over;
    })());
  });

  it("ends the session where an edge offers", async () => {
    const network = createMemoryNetwork({ seed: 5 });
    await network.settle((async () => {
      const { agentEar, open } = await rawEdge(network);
      const stream = await open();
      stream.write(OFFER);
      await agentEar.until(() => agentEar.endedWith !== undefined);
      assert.equal(agentEar.endedWith?.code, "frame_invalid");
    })());
  });
});

test("a thousand visitors at once reach an agent that lets its edge open a hundred streams", async (site) => {
  const { fingerprint } = await identities();
  const agentEar = new Ear();
  const token = site.token();
  await dialQuic({
    runtime: site.network.runtime("10.0.0.2"),
    host: HOST,
    port: site.port,
    token: token.token,
    aesKey: token.claims.aesKey,
    edgeFingerprint: fingerprint,
    admitted: () => agentEar,
  });
  for (let port = 1; port <= 1000; port++) site.session!.open({ ...CALLER, port });
  await agentEar.until(() => agentEar.streams.length === 1000);
  const ports = new Set(agentEar.streams.map(({ caller }) => caller.port));
  assert.equal(ports.size, 1000);
});
