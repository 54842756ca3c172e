/** The QUIC transport against who doesn't keep to it, in virtual time. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FernetRing, generateFernetKey } from "../../src/crypto/fernet.ts";
import { SallyportError } from "../../src/errors.ts";
import { createToken } from "../../src/handshake/token.ts";
import { dialForQuic } from "../../src/transport/quic_dial.ts";
import { CreditFrame, encodeCreditFrame } from "../../src/wire/credit_frame.ts";
import { decodeVerdict } from "../../src/wire/sealed_messages.ts";
import { identities, QuicEar, WatchedQuicStream } from "../conformance/quic_helpers.ts";
import { Ear } from "../conformance/transport_helpers.ts";
import { QuicSite, utf8 } from "../support/quic_site.ts";

const HOST = "10.0.0.1";

function test(title: string, body: (site: QuicSite) => Promise<void>): void {
  it(title, { timeout: 30_000 }, async () => {
    const site = new QuicSite();
    await site.network.settle((async () => {
      await site.listen();
      await body(site);
    })());
  });
}

describe("an edge's QUIC door", () => {
  test("says why it refuses, and the agent says it again", async (site) => {
    const { fingerprint } = await identities();
    const strange = new FernetRing([generateFernetKey()]);
    const nowMs = site.runtime.clock.wallMs();
    const { token } = createToken(strange, { hostname: "a.test", ttlSeconds: 600, nowMs });
    const dial = dialForQuic({
      runtime: site.network.runtime("10.0.0.2"),
      host: HOST,
      port: site.port,
      token,
      edgeFingerprint: fingerprint,
      admitted: () => new Ear(),
    });
    await assert.rejects(dial, (error) => error instanceof SallyportError && error.code === "token_invalid");
    assert.equal(site.refusals[0]?.code, "token_invalid");
  });

  test("closes on who says nothing, and on a login that can't be", async (site) => {
    const silent = await site.dial();
    const loud = await site.dial();
    const control = new WatchedQuicStream(await loud.conn.open());
    control.write(Uint8Array.of(0xff, 0xff, 1, 2, 3));
    await control.sawEnd;
    assert.equal(decodeVerdict(control.chunks[0]!), "token_invalid");
    await Promise.all([silent.ear.over, loud.ear.over]);
    assert.deepEqual(site.refusals.map(({ code }) => code), ["token_invalid", "deadline_exceeded"]);
    assert.equal(site.session, undefined);
  });

  test("lets nobody open a second stream, or go on, before the verdict", async (site) => {
    const { conn, ear } = await site.dial();
    await conn.open();
    (await conn.open()).write(utf8("x"));
    await ear.over;
    assert.equal(site.refusals[0]?.code, "token_invalid");
  });
});

describe("a QUIC session", () => {
  test("ends where frames can't be read, whichever stream they come on", async (site) => {
    const { conn } = await site.login();
    const stream = new WatchedQuicStream(await conn.open());
    stream.write(encodeCreditFrame(CreditFrame.DATA, 0, utf8("no OPEN")));
    await site.ear.until(() => site.ear.endedWith !== undefined);
    assert.equal(site.ear.endedWith?.code, "frame_invalid");
  });

  test("ends where more comes than was granted", async (site) => {
    const { conn } = await site.login();
    const visitor = site.session!.open({ address: "192.0.2.7" });
    const ear = new QuicEar();
    conn.attach(ear);
    await ear.until(() => ear.streams.length > 0);
    const stream = new WatchedQuicStream(ear.streams[0]!);
    for (let i = 0; i < 3; i++) stream.write(encodeCreditFrame(CreditFrame.DATA, 0, new Uint8Array(65_536)));
    await site.ear.until(() => site.ear.endedWith !== undefined);
    assert.equal(site.ear.endedWith?.code, "frame_invalid");
    assert.ok(visitor.bufferedBytes === 0);
  });

  test("a stream that never says what it is for goes, and the others stay", async (site) => {
    const { conn } = await site.login();
    const nameless = new WatchedQuicStream(await conn.open());
    nameless.write(Uint8Array.of(1));
    await nameless.sawClose;
    assert.deepEqual(site.ear.refusals, ["deadline_exceeded"]);
    assert.equal(site.ear.endedWith, undefined);
  });

  test("ends when the network is cut, after the idle time", async (site) => {
    const { ear } = await site.login();
    site.network.cut(HOST, "10.0.0.2");
    await Promise.all([ear.over, site.ear.until(() => site.ear.endedWith !== undefined)]);
    assert.equal(site.ear.endedWith?.code, "connection_lost");
  });
});
