/**
 * What every QUIC must do, sentence by sentence of src/runtime/quic_port.ts.
 *
 * @module
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import { makeCertificate } from "../../src/crypto/certificate.ts";
import { SallyportError } from "../../src/errors.ts";
import type { Quic } from "../../src/runtime/quic_port.ts";
import {
  ALPN,
  identities,
  joinStreams,
  QuicEar,
  type QuicEnd,
  QuicPairs,
  type WatchedQuicStream,
} from "./quic_helpers.ts";
import { assertCode, assertRejects, bytesOf, type Harness, pattern } from "./runtime_helpers.ts";

const MiB = 1024 * 1024;
const timeout = 60_000;

/** Registers the suite for one runtime. */
export function quicSuite(runtimeName: string, open: () => Promise<Harness>): void {
  const test = (title: string, body: (quic: Quic, host: string, harness: Harness) => Promise<void>) =>
    it(title, { timeout }, async () => {
      const harness = await open();
      await harness.run(async () => await body(await harness.runtime.quic(), harness.host, harness));
    });
  const withPair = (
    title: string,
    body: (ends: { client: QuicEnd; server: QuicEnd }, quic: Quic) => Promise<void>,
  ) =>
    test(title, async (quic, host) => {
      const pairs = await QuicPairs.open(quic, host);
      const ends = await pairs.connect();
      await body(ends, quic);
      await pairs.end(ends.client, ends.server);
    });

  describe(`Quic, runtime ${runtimeName}`, () => {
    withPair("both ends know whom they have", async ({ client, server }) => {
      assert.deepEqual([client.conn.alpn, server.conn.alpn], [ALPN, ALPN]);
      assert.deepEqual(client.conn.peerFingerprint, (await identities()).fingerprint);
      assert.equal(server.conn.peerFingerprint, undefined);
      assert.ok(client.conn.remote.port > 0 && server.conn.remote.port > 0);
      assert.notEqual(client.conn.remote.port, server.conn.remote.port);
    });

    withPair("either side opens streams, whose directions end one by one", async ({ client, server }) => {
      for (const [from, to] of [[client, server], [server, client]] as const) {
        const { near, far } = await joinStreams(from, to);
        near.write(bytesOf("question"));
        near.closeWrite();
        await far.sawEnd;
        assert.equal(far.text, "*question");
        far.write(bytesOf("answer"));
        far.closeWrite();
        await Promise.all([near.sawEnd, near.sawClose, far.sawClose]);
        assert.equal(near.text, "answer");
        near.assertOver();
        far.assertOver();
      }
    });

    withPair(
      "bytes go both ways in order, large and small, from a buffer that is used again",
      async (ends) => {
        const bytes = pattern(3 * MiB, 1);
        const send = async (from: WatchedQuicStream) => {
          let size = 1;
          for (let at = 0; at < bytes.length; at += size, size = size * 7 % 100_003 + 1) {
            const drains = from.drains;
            const chunk = bytes.slice(at, at + size);
            const goOn = from.write(chunk);
            chunk.fill(0);
            if (!goOn) await from.until(() => from.drains > drains);
          }
          from.closeWrite();
        };
        for (const [from, to] of [[ends.client, ends.server], [ends.server, ends.client]] as const) {
          const { near, far } = await joinStreams(from, to, { keep: false });
          await Promise.all([send(near), send(far), near.sawClose, far.sawClose]);
          assert.equal(near.hash, createHash("sha256").update(bytes).digest("hex"));
          assert.equal(far.hash, createHash("sha256").update(bytesOf("*")).update(bytes).digest("hex"));
          near.assertOver();
          far.assertOver();
        }
      },
    );

    withPair("a thousand streams at once", async ({ client, server }) => {
      const one = async (i: number) => {
        const { near } = { near: await client.conn.open() };
        return await new Promise<string>((resolve, reject) => {
          let text = "";
          near.attach({
            data: (chunk) => text += new TextDecoder().decode(chunk),
            end: () => resolve(text),
            drain: () => {},
            close: (error) => error === undefined ? undefined : reject(error),
          });
          near.write(bytesOf(`stream ${i}`));
          near.closeWrite();
        });
      };
      let served = 0;
      const serve = async () => {
        while (served < 1000) {
          await server.ear.until(() => server.ear.streams.length > served);
          const stream = server.ear.streams[served++]!;
          stream.attach({
            data: (chunk) => stream.write(chunk),
            end: () => stream.closeWrite(),
            drain: () => {},
            close: () => {},
          });
        }
      };
      const [texts] = await Promise.all([
        Promise.all(Array.from({ length: 1000 }, (_, i) => one(i))),
        serve(),
      ]);
      texts.forEach((text, i) => assert.equal(text, `stream ${i}`));
    });

    withPair("a stream that isn't read doesn't hold up its neighbour", async ({ client, server }) => {
      const still = await joinStreams(client, server, { keep: false });
      still.far.pause();
      const flood = pattern(64 * 1024, 3);
      for (let i = 0; i < 64 && still.near.write(flood); i++);
      const busy = await joinStreams(client, server);
      busy.near.write(bytesOf("through"));
      await busy.far.received(8);
      assert.equal(still.far.byteLength, 1);
      still.far.resume();
      await still.far.received(64 * 1024);
    });

    withPair(
      "a sender waits for a stream that isn't read, where the runtime can do so",
      async (ends, quic) => {
        if (!quic.capabilities.receiveBackPressure) return;
        const { near, far } = await joinStreams(ends.client, ends.server, { keep: false });
        far.pause();
        const chunk = pattern(64 * 1024, 2);
        // Each barrier is several round trips; what the sender may have under way is a few MiB.
        let quiet = 0;
        for (let sent = 0; quiet < 3;) {
          assert.ok(sent < 256 * MiB, "the sender was never held");
          const drains = near.drains;
          if (near.write(chunk)) sent += chunk.length;
          else {
            sent += chunk.length;
            await barrier(ends);
            quiet = near.drains > drains ? 0 : quiet + 1;
            if (near.drains > drains) continue;
            await barrier(ends);
            if (near.drains === drains) break;
          }
        }
        assert.equal(far.byteLength, 1);
      },
    );

    withPair("an abort ends the stream at both ends, and no other", async ({ client, server }, quic) => {
      const kept = await joinStreams(client, server);
      const { near, far } = await joinStreams(client, server);
      const why = new SallyportError("aborted", "Cannot go on: the test wants it so", { side: "local" });
      near.abort(why);
      await near.sawClose;
      near.assertOver(why);
      if (quic.capabilities.reset) await far.sawClose;
      else await far.until(() => far.ended || far.closes > 0);
      far.abort();
      await far.sawClose;
      kept.near.write(bytesOf("still here"));
      await kept.far.received(11);
    });

    withPair("release lets the last bytes through", async ({ client, server }) => {
      const { near, far } = await joinStreams(client, server, { keep: false });
      near.write(pattern(MiB, 5));
      near.release();
      await far.received(MiB + 1);
      await far.sawEnd;
      far.closeWrite();
      await Promise.all([near.sawClose, far.sawClose]);
      near.assertOver();
      far.assertOver();
    });

    test("closing ends every stream at both ends, and says why once", async (quic, host) => {
      const pairs = await QuicPairs.open(quic, host);
      const { client, server } = await pairs.connect();
      const { near, far } = await joinStreams(client, server);
      const why = new SallyportError("shutdown", "Cannot go on: the test is over", { side: "local" });
      server.conn.close(why);
      await Promise.all([near.sawClose, far.sawClose, client.ear.over, server.ear.over]);
      assert.equal(server.ear.endedWith, why);
      assertCode(client.ear.endedWith, "connection_lost");
      assertCode(near.closeError, "connection_lost");
      await assertRejects(client.conn.open(), "connection_lost");
      server.conn.close(why);
      pairs.listener.end();
    });

    test("a handler that comes late hears everything", async (quic, host) => {
      const pairs = await QuicPairs.open(quic, host);
      const conn = await pairs.dial();
      await pairs.until(() => pairs.accepted.length === 1);
      const server = pairs.accepted[0]!;
      (await server.conn.open()).write(bytesOf("early"));
      const ear = new QuicEar();
      conn.attach(ear);
      await ear.until(() => ear.streams.length === 1);
      await pairs.end({ conn, ear }, server);
    });

    test("another certificate than the pinned one is refused", async (quic, host) => {
      const pairs = await QuicPairs.open(quic, host);
      await assertRejects(pairs.dial({ trust: { fingerprint: new Uint8Array(32) } }), "certificate_refused");
      const { client, server } = await pairs.connect();
      await pairs.end(client, server);
    });

    test("a pinned certificate is not judged by dates, except by Deno", async (quic, host) => {
      const isJudged = runtimeName === "native" && "Deno" in globalThis;
      for (const ageDays of [100, -100]) {
        const dated = await makeCertificate({
          ...{ commonName: "edge", names: ["edge.test"], validDays: 10 },
          wallMs: Date.now() - ageDays * 86_400_000,
        });
        const pairs = await QuicPairs.open(quic, host, dated);
        if (isJudged) {
          // docs/runtimes.md
          await assert.rejects(pairs.dial(), {
            code: "not_supported",
            message: /is the pinned one, but isn't valid on \d{4}-\d\d-\d\d, .*; or use another transport/,
          });
          continue;
        }
        const { client, server } = await pairs.connect();
        await pairs.end(client, server);
      }
    });

    test("the certificate that an edge makes is good at any date", async (quic, host) => {
      const request = { commonName: "edge", names: ["edge.invalid"], validDays: "always" } as const;
      const made = await makeCertificate({ ...request, wallMs: Date.now() });
      const pairs = await QuicPairs.open(quic, host, made);
      const { client, server } = await pairs.connect();
      await pairs.end(client, server);
    });

    test("an authority's certificate is believed, another's or another name's isn't", async (quic, host) => {
      const { issued, authority } = await identities();
      const pairs = await QuicPairs.open(quic, host, issued);
      const authoritiesPem = authority.certificatePem;
      const conn = await pairs.dial({ trust: { authoritiesPem, serverName: "edge.test" } });
      const ear = new QuicEar();
      conn.attach(ear);
      await assertRejects(
        pairs.dial({ trust: { authoritiesPem, serverName: "other.test" } }),
        "certificate_refused",
      );
      const { own } = await identities();
      await assertRejects(
        pairs.dial({ trust: { authoritiesPem: own.certificatePem, serverName: "edge.test" } }),
        "certificate_refused",
      );
      await pairs.end({ conn, ear });
    });

    test("without a common application protocol there is no connection", async (quic, host) => {
      const pairs = await QuicPairs.open(quic, host);
      await assertRejects(pairs.dial({ alpn: "nobody-speaks-this" }), "connection_lost");
      await pairs.until(() => pairs.refused.length > 0);
      assert.equal(pairs.accepted.length, 0);
      const { client, server } = await pairs.connect();
      await pairs.end(client, server);
    });

    test("nobody there: the deadline; and a dial can be given up", async (quic, host, { runtime }) => {
      const silent = await runtime.bindDatagram({ host, port: 0, receive() {} });
      const { port } = silent.address;
      const { fingerprint } = await identities();
      const whom = { host, port, alpn: ALPN, trust: { fingerprint } };
      await assertRejects(quic.dial({ ...whom, timeoutMs: 100 }), "deadline_exceeded");
      const abort = new AbortController();
      const dial = quic.dial({ ...whom, timeoutMs: 60_000, signal: abort.signal });
      abort.abort(new SallyportError("aborted", "Cannot dial: given up", { side: "local" }));
      await assertRejects(dial, "aborted");
      await assertRejects(quic.dial({ ...whom, timeoutMs: 60_000, signal: abort.signal }), "aborted");
      silent.close();
    });

    test("handshakes don't wait for each other", async (quic, host) => {
      const pairs = await QuicPairs.open(quic, host);
      const conns = await Promise.all(Array.from({ length: 50 }, () => pairs.dial()));
      await pairs.until(() => pairs.accepted.length === 50);
      const ends = conns.map((conn) => {
        const ear = new QuicEar();
        conn.attach(ear);
        return { conn, ear };
      });
      await pairs.end(...ends, ...pairs.accepted);
    });

    test("a listener that stops accepting leaves its connections alone", async (quic, host) => {
      const pairs = await QuicPairs.open(quic, host);
      const { client, server } = await pairs.connect();
      pairs.listener.close();
      const refused = await pairs.dial({ timeoutMs: 2_000 }).then(() => undefined, (error) => error);
      assert.ok(refused instanceof SallyportError, `${refused}`);
      const { near, far } = await joinStreams(client, server);
      near.write(bytesOf("on"));
      await far.received(3);
      await pairs.end(client, server);
    });

    test("addresses and identities that can't be used", async (quic, host) => {
      const { own } = await identities();
      const listen = { identity: own, alpn: [ALPN], accept() {} };
      const first = await quic.listen({ ...listen, host, port: 0 });
      await assertRejects(quic.listen({ ...listen, host, port: first.address.port }), "address_in_use");
      await assertRejects(quic.listen({ ...listen, host: "192.0.2.1", port: 0 }), "connection_refused");
      const identity = { certificatePem: "none", keyPem: "none" };
      await assertRejects(quic.listen({ ...listen, identity, host, port: 0 }), "config_invalid");
      first.end();
    });
  });
}

/** Several round trips on a stream of their own. */
async function barrier({ client, server }: { client: QuicEnd; server: QuicEnd }): Promise<void> {
  const { near, far } = await joinStreams(client, server);
  far.onData = (chunk) => far.write(chunk);
  for (let i = 1; i <= 10; i++) {
    near.write(bytesOf("x"));
    await near.received(i);
  }
  near.abort();
  far.abort();
}
