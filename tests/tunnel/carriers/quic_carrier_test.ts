import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { SallyportError } from "../../../src/errors.ts";
import { createMemoryNetwork, type MemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import type { ByteStream, Conn } from "../../../src/runtime/port.ts";
import { QuicCarrier } from "../../../src/tunnel/carriers/quic_carrier.ts";
import { UnreadBytes } from "../../../src/tunnel/carriers/quic_stream.ts";
import { assertRejects, bytesOf, pattern, Watched } from "../../conformance/runtime_helpers.ts";
import { NAME, serverIdentity } from "../../snocat/world.ts";
import {
  QUIC_CARRIER_UNREAD_CROWDED_BYTES,
  QUIC_CARRIER_UNREAD_MAX_BYTES,
  QUIC_LISTENER_UNREAD_MAX_BYTES,
  QUIC_STREAM_UNREAD_MAX_BYTES,
} from "../../../src/tunnel/carriers/quic_stream.ts";

const MiB = 1024 * 1024;
const reason = new SallyportError("shutdown", "The test is over", { side: "local" });

interface Pair {
  readonly network: MemoryNetwork;
  readonly near: QuicCarrier;
  readonly far: QuicCarrier;
  /** The streams that `far` gets. */
  next(): Promise<ByteStream>;
  /** What `near` ended with. */
  readonly ended: Promise<SallyportError>;
  wait(durationMs: number): Promise<void>;
}

/** Two ends of a connection in memory, as over a QUIC with or without receive back-pressure. */
async function withPair(
  receiveBackPressure: boolean,
  body: (pair: Pair) => Promise<void>,
  unread?: UnreadBytes,
): Promise<void> {
  const network = createMemoryNetwork({ seed: 11 });
  const { clock } = network;
  const run = async () => {
    const [a, b] = [network.runtime("10.0.0.1"), network.runtime("10.0.0.2")];
    const [quicA, quicB] = [await a.quic(), await b.quic()];
    const identity = await serverIdentity();
    const accepted = Promise.withResolvers<QuicCarrier>();
    const capabilities = { ...quicA.capabilities, receiveBackPressure };
    await quicA.listen({
      host: "10.0.0.1",
      port: 1,
      identity,
      alpn: ["test"],
      accept: (conn) => accepted.resolve(new QuicCarrier({ conn, clock, capabilities, unread })),
    });
    const trust = { authoritiesPem: identity.certificatePem, serverName: NAME };
    const conn = await quicB.dial({ host: "10.0.0.1", port: 1, alpn: "test", trust, timeoutMs: 1_000 });
    const near = new QuicCarrier({ conn, clock, capabilities: quicB.capabilities });
    const far = await accepted.promise;
    const streams: ByteStream[] = [];
    let wake = () => {};
    far.attach({ stream: (stream) => (streams.push(stream), wake()), ended() {} });
    const ended = Promise.withResolvers<SallyportError>();
    near.attach({ stream() {}, ended: ended.resolve });
    await body({
      network,
      near,
      far,
      ended: ended.promise,
      async next() {
        while (streams.length === 0) await new Promise<void>((resolve) => wake = resolve);
        return streams.shift() as ByteStream;
      },
      wait: (durationMs) => new Promise((resolve) => void clock.after(durationMs, resolve)),
    });
  };
  await network.settle(run());
}

const watch = (stream: ByteStream, attach = true): Watched => new Watched(stream as Conn, { attach });

for (const backPressure of [true, false]) {
  describe(`QuicCarrier ${backPressure ? "with" : "without"} receive back-pressure`, () => {
    it("keeps what comes while a stream isn't read, in order, with its end and its close after it", () =>
      withPair(backPressure, async ({ near, next, wait, far }) => {
        const sender = watch(await near.open());
        const bytes = pattern(500_000);
        sender.write(bytes);
        sender.closeWrite();
        const receiver = watch(await next(), false);
        receiver.closeWrite();
        await wait(100);
        receiver.attach();
        receiver.pause();
        await wait(100);
        assert.equal(receiver.byteLength, 0);
        receiver.resume();
        // Again and again, in the midst of it.
        for (let taken = 100_000; taken < bytes.length; taken += 100_000) {
          await receiver.received(taken);
          receiver.pause();
          await wait(50);
          receiver.resume();
        }
        await receiver.sawClose;
        receiver.assertOver();
        assert.ok(receiver.ended);
        assert.deepEqual(Buffer.concat(receiver.chunks), Buffer.from(bytes));
        await sender.sawClose;
        assert.equal(far.streams, 0);
      }));

    it("an abort ends a stream at once, whatever is kept", () =>
      withPair(backPressure, async ({ near, next, wait, far }) => {
        for (const early of [true, false]) {
          const sender = watch(await near.open());
          sender.write(pattern(10_000));
          if (early) sender.closeWrite();
          const receiver = watch(await next(), false);
          await wait(100);
          receiver.attach();
          receiver.pause();
          const error = new SallyportError("aborted", "enough", { side: "local" });
          receiver.abort(error);
          await receiver.sawClose;
          receiver.assertOver(error);
          assert.equal(receiver.byteLength, 0);
          await sender.sawClose;
        }
        assert.equal(far.streams, 0);
      }));

    it("a stream that nobody wants is released, and its end is one", () =>
      withPair(backPressure, async ({ near, next, far }) => {
        const sender = watch(await near.open());
        sender.write(pattern(10_000));
        const receiver = watch(await next());
        receiver.pause();
        receiver.write(bytesOf("bye"));
        receiver.release();
        await sender.sawEnd;
        assert.equal(sender.text, "bye");
        sender.closeWrite();
        await receiver.sawClose;
        await far.quiet();
        assert.equal(far.streams, 0);
      }));

    it("going away, it takes no new streams and opens none; those that are open go on", () =>
      withPair(backPressure, async ({ near, next, far, wait }) => {
        const sender = watch(await near.open());
        sender.write(bytesOf("a"));
        const receiver = watch(await next());
        await receiver.received(1);
        far.goAway(reason);
        await assertRejects(far.open(), "shutdown");
        const refused = watch(await near.open());
        refused.write(bytesOf("b"));
        await refused.sawClose;
        sender.write(bytesOf("c"));
        await receiver.received(2);
        let quiet = false;
        void far.quiet().then(() => quiet = true);
        await wait(5_000);
        assert.equal(quiet, false);
        sender.closeWrite();
        receiver.closeWrite();
        await far.quiet();
      }));

    it("its end is every stream's, told once", () =>
      withPair(backPressure, async ({ near, next, far, ended }) => {
        const sender = watch(await near.open());
        sender.write(bytesOf("a"));
        const receiver = watch(await next());
        await receiver.received(1);
        far.close(reason);
        await Promise.all([sender.sawClose, receiver.sawClose, ended, far.quiet(), near.quiet()]);
        receiver.assertOver("shutdown");
        assert.equal(sender.closes, 1);
        await assertRejects(far.open(), "shutdown");
      }));
  });
}

describe("QuicCarrier without receive back-pressure: unread bytes", () => {
  it("bounds what nobody reads: that stream ends, the others go on", () =>
    withPair(false, async ({ network, near, next, wait }) => {
      network.setLink("10.0.0.1", "10.0.0.2", { pieceMaxBytes: MiB, windowBytes: 8 * MiB });
      const sender = watch(await near.open());
      const chunk = new Uint8Array(MiB);
      for (let sent = 0; sent < QUIC_STREAM_UNREAD_MAX_BYTES - MiB; sent += MiB) sender.write(chunk);
      const receiver = new Watched(await next() as Conn, { keep: false });
      receiver.pause();
      const other = watch(await near.open());
      other.write(bytesOf("x"));
      const neighbour = watch(await next());
      await wait(5_000);
      assert.equal(receiver.closes, 0);
      for (let i = 0; i < 4; i++) sender.write(chunk);
      await receiver.sawClose;
      receiver.assertOver("stream_overflow");
      other.write(bytesOf("y"));
      await neighbour.received(2);
    }));

  it("bounds what all streams keep together", () =>
    withPair(false, async ({ network, near, next, far }) => {
      network.setLink("10.0.0.1", "10.0.0.2", { pieceMaxBytes: MiB, windowBytes: 8 * MiB });
      const chunk = new Uint8Array(MiB);
      const each = QUIC_STREAM_UNREAD_MAX_BYTES - 4 * MiB;
      const receivers: Watched[] = [];
      const over = Promise.withResolvers<void>();
      for (let sent = 0; sent <= QUIC_CARRIER_UNREAD_MAX_BYTES; sent += each) {
        const sender = watch(await near.open());
        for (let written = 0; written < each; written += MiB) sender.write(chunk);
        const receiver = new Watched(await next() as Conn, { keep: false });
        receiver.pause();
        void receiver.sawClose.then(over.resolve);
        receivers.push(receiver);
      }
      await over.promise;
      const lost = receivers.filter(({ closes }) => closes > 0);
      assert.equal(lost.length, 1);
      lost[0]!.assertOver("stream_overflow");
      assert.equal(far.streams, receivers.length - 1);
    }));

  it("bounds what all connections of a listener keep together, at the cost of those that keep much", () => {
    const all = new UnreadBytes();
    const small = new UnreadBytes(all);
    const greedy = [new UnreadBytes(all), new UnreadBytes(all)];
    small.add(QUIC_CARRIER_UNREAD_CROWDED_BYTES);
    for (const one of greedy) one.add(QUIC_CARRIER_UNREAD_MAX_BYTES);
    assert.ok(all.bytes > QUIC_LISTENER_UNREAD_MAX_BYTES);
    assert.deepEqual([small, ...greedy].map(({ tooMany }) => tooMany), [false, true, true]);
    greedy[0]!.add(-MiB * 16);
    assert.deepEqual(greedy.map(({ tooMany }) => tooMany), [false, false]);
    greedy[0]!.add(MiB * 32);
    assert.deepEqual(greedy.map(({ tooMany }) => tooMany), [true, true]);
  });

  it("counts with its listener's others, and is counted no more when it's over", () => {
    const all = new UnreadBytes();
    return withPair(false, async ({ near, next, wait }) => {
      const sender = watch(await near.open());
      sender.write(pattern(50_000));
      const receiver = watch(await next(), false);
      await wait(1_000);
      assert.equal(all.bytes, 50_000);
      receiver.abort();
      assert.equal(all.bytes, 0);
    }, all);
  });
});
