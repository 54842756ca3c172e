/**
 * What every implementation of the runtime port must do, sentence by sentence of src/runtime/port.ts. Tests wait for
 * events, never for time.
 *
 * @module
 */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { InternalError } from "../../src/errors.ts";
import type { Bytes, Conn, ConnectHandler } from "../../src/runtime/port.ts";
import {
  assertCode,
  assertRejects,
  bytesOf,
  type Harness,
  hashOf,
  Pairs,
  pattern,
  Watched,
} from "./runtime_helpers.ts";
import { runtimeServicesSuite } from "./runtime_services_suite.ts";

const MiB = 1024 * 1024;

/** A handler of `Runtime.connect`, whose connection is attached at once. */
function connectOutcome() {
  const { promise, resolve, reject } = Promise.withResolvers<Watched>();
  promise.catch(() => {});
  let told = 0;
  const handler: ConnectHandler = {
    connected(conn) {
      told++;
      resolve(new Watched(conn));
    },
    failed(error) {
      told++;
      reject(error);
    },
  };
  return { handler, outcome: promise, hasOutcome: () => told > 0 };
}

/** Registers the suite for one implementation. */
export function runtimeSuite(name: string, open: () => Promise<Harness>): void {
  const test = (title: string, body: (harness: Harness) => Promise<void>) =>
    it(title, async () => {
      const harness = await open();
      await harness.run(() => body(harness));
    });

  describe(`Runtime ${name}: streams`, () => {
    test("bytes go both ways in order, and both ends know both addresses", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect();
      client.write(bytesOf("hello "));
      client.write(bytesOf("server"));
      server.write(bytesOf("hello client"));
      await Promise.all([server.received(12), client.received(12)]);
      assert.equal(server.text, "hello server");
      assert.equal(client.text, "hello client");
      assert.ok(pairs.listener.address.port > 0);
      assert.deepEqual({ ...client.conn.remote }, { ...pairs.listener.address });
      assert.deepEqual({ ...server.conn.local }, { ...pairs.listener.address });
      assert.deepEqual({ ...server.conn.remote }, { ...client.conn.local });
      client.closeWrite();
      server.closeWrite();
      await Promise.all([client.sawClose, server.sawClose]);
      client.assertOver();
      server.assertOver();
      // Addresses stay readable after the end.
      assert.deepEqual({ ...server.conn.remote }, { ...client.conn.local });
      pairs.listener.close();
    });

    test("the caller may reuse its buffer as soon as write returns", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect({ keep: false });
      const source = pattern(3 * MiB);
      const buffer = new Uint8Array(100_000);
      // Disobeys `false` on purpose: what is accepted must be intact also then.
      for (let at = 0; at < source.length; at += buffer.length) {
        const part = source.subarray(at, at + buffer.length);
        buffer.set(part);
        client.write(part.length === buffer.length ? buffer : buffer.subarray(0, part.length));
        buffer.fill(0);
      }
      client.closeWrite();
      await server.sawEnd;
      assert.equal(server.hash, hashOf(source));
      server.closeWrite();
      await client.sawClose;
      client.assertOver();
      pairs.listener.close();
    });

    for (const first of ["client", "server"] as const) {
      test(`after the ${first}'s closeWrite the other direction goes on`, async (h) => {
        const pairs = await Pairs.open(h);
        const pair = await pairs.connect();
        const early = pair[first];
        const late = first === "client" ? pair.server : pair.client;
        early.write(bytesOf("question"));
        early.closeWrite();
        await late.sawEnd;
        assert.equal(late.text, "question");
        assert.equal(late.closes, 0);
        const answer = pattern(MiB);
        late.write(answer.subarray(0, 10));
        await early.received(10);
        assert.equal(early.ended, false);
        late.write(answer.subarray(10));
        late.closeWrite();
        await Promise.all([early.sawClose, late.sawClose]);
        assert.equal(early.ended, true);
        assert.equal(early.hash, hashOf(answer));
        early.assertOver();
        late.assertOver();
        pairs.listener.close();
      });
    }

    test("both ends may closeWrite at once, and repeat it", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect();
      for (const end of [client, server, client, server]) end.closeWrite();
      await Promise.all([client.sawClose, server.sawClose]);
      assert.ok(client.ended && server.ended);
      client.assertOver();
      server.assertOver();
      pairs.listener.close();
    });

    test("after closeWrite and after close, bytes are dropped and the answer is true", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect();
      client.write(bytesOf("kept"));
      client.closeWrite();
      assert.equal(client.write(pattern(4 * MiB)), true);
      await server.sawEnd;
      assert.equal(server.text, "kept");
      server.closeWrite();
      await Promise.all([client.sawClose, server.sawClose]);
      assert.equal(client.write(pattern(4 * MiB)), true);
      assert.equal(client.conn.bufferedBytes, 0);
      for (const call of ["closeWrite", "abort", "pause", "resume", "release"] as const) client[call]();
      await pairs.barrier();
      client.assertOver();
      server.assertOver();
      pairs.listener.close();
    });

    test("write says false when the peer doesn't read, and drain follows once it does", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect({ keep: false });
      server.pause();
      const chunk = pattern(64 * 1024);
      let sent = 0;
      let most = 0;
      const writeOn = () => {
        for (;;) {
          sent += chunk.length;
          const more = client.write(chunk);
          most = Math.max(most, client.conn.bufferedBytes);
          if (!more) return;
          if (sent > 256 * MiB) throw new Error("write never says false");
        }
      };
      writeOn();
      // A runtime's own buffers may take more at first; in the end it stands still.
      for (let drains = -1; drains !== client.drains;) {
        drains = client.drains;
        await pairs.barrier();
        if (client.drains > drains) writeOn();
      }
      assert.ok(client.conn.bufferedBytes > 0);
      assert.ok(most <= MiB, `an obedient caller had ${most} bytes queued`);
      const before = client.drains;
      server.resume();
      await client.until(() => client.drains > before);
      assert.ok(client.conn.bufferedBytes <= most / 2, "drain comes when there is room");
      client.closeWrite();
      await server.sawEnd;
      assert.equal(server.byteLength, sent);
      assert.equal(client.conn.bufferedBytes, 0);
      server.closeWrite();
      await client.sawClose;
      client.assertOver();
      pairs.listener.close();
    });

    test("drain comes only after a false", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect();
      for (let i = 1; i <= 50; i++) {
        assert.equal(client.write(bytesOf("ping")), true);
        await server.received(4 * i);
      }
      await pairs.barrier();
      assert.equal(client.drains, 0);
      client.abort();
      server.abort();
      pairs.listener.close();
    });

    test("what comes while paused is kept, the end too", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect();
      client.pause();
      client.pause();
      server.write(bytesOf("last words"));
      server.closeWrite();
      await pairs.barrier();
      assert.equal(client.byteLength, 0);
      assert.equal(client.ended, false);
      client.resume();
      await client.sawEnd;
      assert.equal(client.text, "last words");
      client.closeWrite();
      await Promise.all([client.sawClose, server.sawClose]);
      client.assertOver();
      server.assertOver();
      pairs.listener.close();
    });

    test("what comes while paused is kept, after our own closeWrite too", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect({ keep: false });
      if (h.peersSpeak) client.write(bytesOf("first"));
      client.closeWrite();
      await server.sawEnd;
      client.pause();
      const answer = pattern(2 * MiB);
      server.write(answer);
      server.closeWrite();
      await pairs.barrier();
      assert.equal(client.byteLength, 0);
      client.resume();
      await client.sawClose;
      assert.equal(client.ended, true);
      assert.equal(client.hash, hashOf(answer));
      client.assertOver();
      await server.sawClose;
      server.assertOver();
      pairs.listener.close();
    });

    test("pause and resume from within data take one chunk at a time", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect({ keep: false });
      const source = pattern(MiB);
      let pauses = 0;
      server.onData = () => {
        server.pause();
        pauses++;
        // At once, in a microtask, later in the turn: all must work.
        if (pauses % 3 === 0) server.resume();
        else if (pauses % 3 === 1) queueMicrotask(() => server.resume());
        else h.runtime.clock.soon(() => server.resume());
      };
      client.write(source);
      client.closeWrite();
      await server.sawEnd;
      assert.ok(pauses > 3);
      assert.equal(server.hash, hashOf(source));
      server.closeWrite();
      await server.sawClose;
      server.assertOver();
      pairs.listener.close();
    });

    test("a connection that carries a session holds no read buffer while it is idle", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect();
      // As an edge does while the agent's token waits for its turn.
      server.onData = () => server.pause();
      client.write(bytesOf("token"));
      await server.received(5);
      server.conn.carrySession?.(MiB);
      let heldBytes: number | undefined;
      server.onData = () => heldBytes = server.conn.heldBytes ?? 0;
      server.resume();
      client.write(bytesOf("ping"));
      await server.received(9);
      assert.equal(heldBytes, 0);
      client.closeWrite();
      server.closeWrite();
      await Promise.all([client.sawClose, server.sawClose]);
      pairs.listener.close();
    });

    test("8 MiB each way at once arrive intact with slow readers", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect({ keep: false });
      const ends: [Watched, Bytes][] = [[client, pattern(8 * MiB, 7)], [server, pattern(8 * MiB, 8)]];
      for (const [end, source] of ends) {
        let at = 0;
        const writeOn = () => {
          while (at < source.length) {
            const part = source.subarray(at, at + 50_001);
            at += part.length;
            if (!end.write(part)) return;
          }
          end.closeWrite();
        };
        end.onDrain = writeOn;
        end.onData = () => {
          end.pause();
          h.runtime.clock.soon(() => end.resume());
        };
        writeOn();
      }
      await Promise.all([client.sawClose, server.sawClose]);
      assert.equal(server.hash, hashOf(ends[0]![1]));
      assert.equal(client.hash, hashOf(ends[1]![1]));
      client.assertOver();
      server.assertOver();
      pairs.listener.close();
    });

    test("nothing is delivered before attach, and nothing is lost", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect({ attach: false });
      server.write(bytesOf("early"));
      server.closeWrite();
      await pairs.barrier();
      assert.equal(client.byteLength, 0);
      client.attach();
      await client.sawEnd;
      assert.equal(client.text, "early");
      client.closeWrite();
      await client.sawClose;
      client.assertOver();
      pairs.listener.close();
    });

    test("close waits for attach", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect({ attach: false });
      const reason = new Error("unwanted");
      client.abort(reason);
      await pairs.barrier();
      assert.equal(client.closes, 0);
      client.attach();
      await client.sawClose;
      client.assertOver(reason);
      server.abort();
      pairs.listener.close();
    });

    test("attach hands the stream on, from within data too", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect();
      let second: Watched | undefined;
      server.onData = () => second ??= new Watched(server.conn);
      client.write(bytesOf("a"));
      await server.received(1);
      client.write(bytesOf("bcd"));
      client.closeWrite();
      await second!.sawEnd;
      assert.equal(server.text, "a");
      assert.equal(second!.text, "bcd");
      second!.closeWrite();
      await second!.sawClose;
      second!.assertOver();
      assert.equal(server.ended, false);
      assert.equal(server.closes, 0);
      pairs.listener.close();
    });
  });

  describe(`Runtime ${name}: hard ends`, () => {
    test("abort drops what is queued, tells its reason to this side, and ends the peer", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect({ keep: false });
      server.pause();
      while (client.write(pattern(64 * 1024)));
      const reason = new Error("enough");
      client.abort(reason);
      client.abort(new Error("too late"));
      assert.equal(client.closes, 0, "close doesn't come out of abort");
      assert.equal(client.conn.bufferedBytes, 0);
      assert.equal(client.write(bytesOf("more")), true);
      await client.sawClose;
      client.assertOver(reason);
      server.resume();
      server.onEnd = () => server.closeWrite();
      await server.sawClose;
      if (h.runtime.capabilities.hardClose) {
        server.assertOver("connection_lost");
        assert.equal(server.ended, false);
      } else assert.deepEqual(server.wrong, []);
      pairs.listener.close();
    });

    test("abort without a reason closes without an error", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect();
      client.abort();
      await client.sawClose;
      client.assertOver();
      server.closeWrite();
      await server.sawClose;
      if (h.runtime.capabilities.hardClose) server.assertOver("connection_lost");
      pairs.listener.close();
    });

    test("abort from within data is the last thing before close", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect();
      const reason = new Error("not this");
      server.onData = () => server.abort(reason);
      client.write(pattern(200_000));
      client.closeWrite();
      await server.sawClose;
      server.assertOver(reason);
      assert.equal(server.chunks.length, 1);
      assert.equal(server.ended, false);
      client.abort();
      pairs.listener.close();
    });

    test("writing to a peer that is gone ends with connection_lost", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect();
      server.pause();
      client.abort();
      await client.sawClose;
      await pairs.barrier();
      server.onDrain = () => server.write(pattern(64 * 1024));
      while (server.closes === 0) {
        server.write(pattern(64 * 1024));
        await pairs.barrier();
      }
      server.assertOver("connection_lost");
      pairs.listener.close();
    });

    test("a handler's exception aborts its own connection with internal, and is told", async (h) => {
      const pairs = await Pairs.open(h);
      const told: InternalError[] = [];
      h.runtime.faults.handle((error) => void told.push(error));
      const neighbour = await pairs.connect();
      for (const where of ["onData", "onEnd", "onDrain"] as const) {
        const { client, server } = await pairs.connect({ keep: false });
        const thrown = new Error(`from ${where}`);
        client[where] = () => {
          throw thrown;
        };
        server.pause();
        if (where === "onDrain") { while (client.write(pattern(64 * 1024))); }
        server.resume();
        if (where === "onData") server.write(bytesOf("x"));
        if (where === "onEnd") server.closeWrite();
        await client.sawClose;
        client.assertOver("internal");
        server.closeWrite();
        await server.sawClose;
        const { code, side, where: boundary, cause } = told.pop()!;
        assert.deepEqual([code, side, boundary, cause], ["internal", "local", "connection", thrown]);
      }
      h.runtime.faults.handle(undefined);
      assert.deepEqual(told, []);
      neighbour.client.write(bytesOf("still here"));
      await neighbour.server.received(10);
      neighbour.client.abort();
      neighbour.server.abort();
      pairs.listener.close();
    });

    test("an exception in accept or close harms nobody else", async (h) => {
      const thrown = new Error("not today");
      const told = new Promise<InternalError>((resolve) => h.runtime.faults.handle(resolve));
      let calls = 0;
      const listener = await h.runtime.listen({
        host: h.host,
        port: 0,
        accept(conn: Conn) {
          if (++calls === 1) throw thrown;
          const server = new Watched(conn);
          server.onData = (chunk) => server.write(chunk);
        },
      });
      const dial = () => h.runtime.dial({ host: h.host, port: listener.address.port, timeoutMs: 10_000 });
      // So early a reset may be seen by the dial already.
      const refused = await dial().then((conn) => new Watched(conn), () => null);
      if (refused !== null) {
        refused.onEnd = () => refused.closeWrite();
        await refused.sawClose;
      }
      const fromAccept = await told;
      assert.deepEqual([fromAccept.where, fromAccept.cause], ["accept", thrown]);
      const toldAgain = new Promise<InternalError>((resolve) => h.runtime.faults.handle(resolve));
      const conn = await dial();
      conn.attach({
        data() {},
        end() {},
        drain() {},
        close() {
          throw thrown;
        },
      });
      conn.abort();
      const fromClose = await toldAgain;
      assert.deepEqual([fromClose.where, fromClose.cause], ["connection", thrown]);
      h.runtime.faults.handle(undefined);
      const client = new Watched(await dial());
      client.write(bytesOf("still here"));
      await client.received(10);
      client.abort();
      await client.sawClose;
      listener.close();
    });

    test("release sends what was written, drops what comes in, and closes when the peer has ended", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect({ keep: false });
      client.pause();
      server.pause();
      const source = pattern(6 * MiB);
      client.write(source);
      server.write(pattern(6 * MiB));
      client.release();
      client.release();
      server.resume();
      await server.sawEnd;
      assert.equal(server.hash, hashOf(source));
      assert.equal(client.closes, 0);
      server.closeWrite();
      await Promise.all([client.sawClose, server.sawClose]);
      client.assertOver();
      server.assertOver();
      assert.equal(client.byteLength, 0);
      assert.equal(client.ended, false);
      pairs.listener.close();
    });
  });

  describe(`Runtime ${name}: dial and listen`, () => {
    test("200 connections at once keep their bytes apart", async (h) => {
      const pairs = await Pairs.open(h);
      const all = await Promise.all(Array.from({ length: 200 }, () => pairs.connect()));
      for (const { server } of all) {
        server.onData = (chunk) => server.write(chunk);
        server.onEnd = () => server.closeWrite();
      }
      all.forEach(({ client }, i) => {
        client.write(pattern(1000 + i, i + 1));
        client.closeWrite();
      });
      await Promise.all(all.flatMap(({ client, server }) => [client.sawClose, server.sawClose]));
      all.forEach(({ client, server }, i) => {
        assert.equal(client.hash, hashOf(pattern(1000 + i, i + 1)));
        client.assertOver();
        server.assertOver();
      });
      pairs.listener.close();
    });

    test("close of a listener stops accepting and leaves connections alone", async (h) => {
      const pairs = await Pairs.open(h);
      const { client, server } = await pairs.connect();
      const { port } = pairs.listener.address;
      pairs.listener.close();
      // The kernel may complete connections until the runtime has let go of the socket.
      for (let turns = 0; turns < 10; turns++) await new Promise<void>((r) => h.runtime.clock.after(1, r));
      await assertRejects(h.runtime.dial({ host: h.host, port, timeoutMs: 10_000 }), "connection_refused");
      client.write(bytesOf("ping"));
      await server.received(4);
      server.write(bytesOf("pong"));
      await client.received(4);
      client.closeWrite();
      server.closeWrite();
      await Promise.all([client.sawClose, server.sawClose]);
      client.assertOver();
      server.assertOver();
      // The port is free again.
      const again = await h.runtime.listen({ host: h.host, port, accept: (conn) => conn.abort() });
      again.close();
    });

    test("a name without address is host_unknown, a port that can't be is an error of ours", async (h) => {
      await assertRejects(
        h.runtime.dial({ host: "nothing.invalid", port: 443, timeoutMs: 60_000 }),
        "host_unknown",
      );
      const error = await h.runtime.dial({ host: h.host, port: 70_000, timeoutMs: 1_000 }).then(
        () => null,
        (error) => error,
      );
      assertCode(error, error?.code);
    });

    test("connect tells its handler the outcome, later than the call", async (h) => {
      for (const [listening, host] of [[h.host, h.host], ["127.0.0.1", "localhost"]] as const) {
        const pairs = await Pairs.open(h, listening);
        const { port } = pairs.listener.address;
        for (const peerSpeaks of [false, true]) {
          const accepted = pairs.accepted();
          const { handler, outcome, hasOutcome } = connectOutcome();
          h.runtime.connect({ host, port, peerSpeaks }, handler);
          assert.equal(hasOutcome(), false);
          const client = await outcome;
          client.write(bytesOf("ping"));
          const server = await accepted;
          await server.received(4);
          client.abort();
          server.abort();
        }
        pairs.listener.close();
      }
    });

    test("connect says why it failed", async (h) => {
      const pairs = await Pairs.open(h);
      const { port } = pairs.listener.address;
      pairs.listener.close();
      for (let turns = 0; turns < 10; turns++) await new Promise<void>((r) => h.runtime.clock.after(1, r));
      for (const peerSpeaks of [false, true]) {
        const refused = connectOutcome();
        h.runtime.connect({ host: h.host, port, peerSpeaks }, refused.handler);
        assert.equal(refused.hasOutcome(), false);
        await assertRejects(refused.outcome, "connection_refused");
        const impossible = connectOutcome();
        h.runtime.connect({ host: h.host, port: 70_000, peerSpeaks }, impossible.handler);
        assert.equal(impossible.hasOutcome(), false);
        const givenUp = connectOutcome();
        h.runtime.connect({ host: h.host, port: 70_000, peerSpeaks }, givenUp.handler).giveUp();
        const error = await impossible.outcome.then(() => null, (error) => error);
        assertCode(error, error?.code);
        assert.equal(givenUp.hasOutcome(), false);
      }
      const nameless = connectOutcome();
      h.runtime.connect({ host: "nothing.invalid", port: 443 }, nameless.handler);
      await assertRejects(nameless.outcome, "host_unknown");
      const socketless = connectOutcome();
      h.runtime.connect({ path: "/nonexistent/app.sock" }, socketless.handler);
      assert.equal(socketless.hasOutcome(), false);
      const error = await socketless.outcome.then(() => null, (error) => error);
      assert.ok(["connection_refused", "not_supported"].includes(error?.code), String(error));
    });

    test("connect that was given up says nothing, and its connection is reset", async (h) => {
      const listener = await h.runtime.listen({
        host: h.host,
        port: 0,
        accept: (conn) => void new Watched(conn),
      });
      const { port } = listener.address;
      for (const peerSpeaks of [false, true]) {
        const given = connectOutcome();
        const connecting = h.runtime.connect({ host: h.host, port, peerSpeaks }, given.handler);
        connecting.giveUp();
        connecting.giveUp();
        // One that comes afterwards shows that the other has been dealt with.
        const next = connectOutcome();
        h.runtime.connect({ host: h.host, port, peerSpeaks }, next.handler);
        (await next.outcome).abort();
        assert.equal(given.hasOutcome(), false);
      }
      listener.close();
    });

    test("connect whose handler throws loses its connection, not the process", async (h) => {
      const pairs = await Pairs.open(h);
      const faults: InternalError[] = [];
      h.runtime.faults.handle((error) => void faults.push(error));
      const accepted = pairs.accepted().then((server) => {
        // Not every runtime can send a reset.
        server.onEnd = () => server.closeWrite();
        return server;
      });
      const thrown = Promise.withResolvers<void>();
      h.runtime.connect({ host: h.host, port: pairs.listener.address.port }, {
        connected: () => {
          thrown.resolve();
          throw new Error("planted");
        },
        failed: thrown.reject,
      });
      await thrown.promise;
      await (await accepted).sawClose;
      h.runtime.faults.handle(undefined);
      assert.match(faults.map(({ message }) => message).join(), /planted/);
      pairs.listener.close();
    });

    test("localhost is dialled by name", async (h) => {
      const pairs = await Pairs.open(h, "127.0.0.1");
      const { client, server } = await pairs.connect({ host: "localhost" });
      assert.equal(client.conn.remote.host, "127.0.0.1");
      client.abort();
      server.abort();
      pairs.listener.close();
    });

    test("IPv6 works, and IPv4 on a dual-stack listener shows as IPv4", async (h) => {
      let pairs: Pairs;
      try {
        pairs = await Pairs.open(h, "::1");
      } catch {
        return; // No IPv6 on this machine.
      }
      const six = await pairs.connect({ host: "::1" });
      assert.equal(six.client.conn.remote.host, "::1");
      assert.equal(six.server.conn.remote.host, "::1");
      six.client.abort();
      six.server.abort();
      pairs.listener.close();
      const dual = await Pairs.open(h, "::");
      const four = await dual.connect({ host: "127.0.0.1" });
      assert.equal(four.server.conn.remote.host, "127.0.0.1");
      assert.equal(four.server.conn.local.host, "127.0.0.1");
      four.client.abort();
      four.server.abort();
      dual.listener.close();
    });

    test("an address in use, and one that isn't ours", async (h) => {
      const pairs = await Pairs.open(h);
      const accept = (conn: Conn) => conn.abort();
      const { port } = pairs.listener.address;
      await assertRejects(h.runtime.listen({ host: h.host, port, accept }), "address_in_use");
      // TEST-NET-3 (RFC 5737): nobody's.
      await assertRejects(h.runtime.listen({ host: "203.0.113.77", port: 0, accept }), "connection_refused");
      pairs.listener.close();
    });

    test("reusePort shares a port, or says that it can't", async (h) => {
      const accept = (conn: Conn) => conn.abort();
      const options = { host: h.host, port: 0, reusePort: true, accept };
      if (!h.runtime.capabilities.reusePort) {
        await assertRejects(h.runtime.listen(options), "not_supported");
        return;
      }
      const one = await h.runtime.listen(options);
      const two = await h.runtime.listen({ ...options, port: one.address.port });
      assert.equal(two.address.port, one.address.port);
      one.close();
      two.close();
    });
  });

  runtimeServicesSuite(name, open);
}
