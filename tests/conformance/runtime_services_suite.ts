/**
 * The second part of the runtime suite: clock, datagrams, HTTP.
 *
 * @module
 */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Address, DatagramSocket } from "../../src/runtime/port.ts";
import { assertRejects, bytesOf, type Harness } from "./runtime_helpers.ts";

/** Registers the tests of what isn't a stream. */
export function runtimeServicesSuite(name: string, open: () => Promise<Harness>): void {
  const test = (title: string, body: (harness: Harness) => Promise<void>) =>
    it(title, async () => {
      const harness = await open();
      await harness.run(() => body(harness));
    });

  describe(`Runtime ${name}: clock`, () => {
    test("after calls once, not early, in the order of the delays; cancel prevents it", async (h) => {
      const { clock } = h.runtime;
      const startMs = clock.nowMs();
      const calls: string[] = [];
      const cancelled = clock.after(5, () => calls.push("cancelled"));
      const far = clock.after(2 ** 31 + 5, () => calls.push("far"));
      await new Promise<void>((resolve) => {
        clock.after(40, resolve);
        clock.after(20, () => calls.push("second"));
        clock.after(1, () => calls.push("first"));
        cancelled.cancel();
        cancelled.cancel();
      });
      assert.deepEqual(calls, ["first", "second"]);
      // Timers count whole milliseconds.
      assert.ok(clock.nowMs() - startMs >= 39);
      far.cancel();
      assert.ok(clock.wallMs() > Date.UTC(2025, 0, 1));
    });

    test("soon comes after what runs now, in order, and before time passes", async (h) => {
      const { clock } = h.runtime;
      const calls: string[] = [];
      await new Promise<void>((resolve) => {
        clock.after(20, () => calls.push("timer"));
        clock.soon(() => calls.push("one"));
        clock.soon(() => {
          calls.push("two");
          resolve();
        });
        calls.push("now");
      });
      assert.deepEqual(calls, ["now", "one", "two"]);
    });

    test("who is called soon and asks again lets time pass meanwhile", async (h) => {
      const { clock, name } = h.runtime;
      // Virtual time passes when nothing else is left to do.
      if (name === "memory") return;
      let due = false;
      clock.after(1, () => due = true);
      await new Promise<void>((resolve) => {
        const again = () => due ? resolve() : clock.soon(again);
        again();
      });
    });
  });

  describe(`Runtime ${name}: datagrams`, () => {
    /** A socket and what it received, in order. */
    async function socketAt(h: Harness, host: string) {
      const received: { data: string; length: number; from: Address }[] = [];
      let wake = () => {};
      const socket = await h.runtime.bindDatagram({
        host,
        port: 0,
        receive(data, from) {
          received.push({
            data: new TextDecoder("latin1").decode(data.subarray(0, 20)),
            length: data.length,
            from,
          });
          wake();
          if (received.at(-1)!.data === "throw") throw new Error("from receive");
        },
      });
      const until = async (count: number) => {
        while (received.length < count) await new Promise<void>((resolve) => wake = resolve);
      };
      return { socket, received, until };
    }
    const addressOf = (socket: DatagramSocket, host: string) => ({ host, port: socket.address.port });

    test("datagrams keep their borders and tell where they are from", async (h) => {
      const a = await socketAt(h, h.host);
      const b = await socketAt(h, h.host);
      const buffer = bytesOf("first");
      assert.equal(a.socket.send(buffer, b.socket.address), true);
      buffer.fill(0);
      await b.until(1);
      assert.equal(a.socket.send(new Uint8Array(0), b.socket.address), true);
      await b.until(2);
      assert.equal(a.socket.send(new Uint8Array(1200).fill(65), b.socket.address), true);
      await b.until(3);
      assert.deepEqual(b.received.map(({ data, length }) => [data, length]), [["first", 5], ["", 0], [
        "A".repeat(20),
        1200,
      ]]);
      for (const { from } of b.received) assert.deepEqual({ ...from }, { ...a.socket.address });
      assert.equal(b.socket.send(bytesOf("back"), b.received[0]!.from), true);
      await a.until(1);
      assert.equal(a.received[0]!.data, "back");
      a.socket.close();
      b.socket.close();
      a.socket.close();
      assert.equal(a.socket.send(bytesOf("x"), b.socket.address), false);
    });

    test("many datagrams go in one call, each to its own address", async (h) => {
      const a = await socketAt(h, h.host);
      const b = await socketAt(h, h.host);
      const c = await socketAt(h, h.host);
      const data = ["one", "two", "three", "not sent"].map(bytesOf);
      const to = [b, c, b, b].map(({ socket }) => socket.address);
      assert.equal(a.socket.sendMany(data, to, 3), 3);
      assert.ok(a.socket.waiting >= 0 && a.socket.waiting <= 3);
      for (const bytes of data) bytes.fill(0);
      await b.until(2);
      await c.until(1);
      // What has arrived doesn't wait; that it left may be told a little later.
      while (a.socket.waiting > 0) await new Promise<void>((resolve) => h.runtime.clock.soon(resolve));
      assert.deepEqual(b.received.map(({ data }) => data).sort(), ["one", "three"]);
      assert.deepEqual(c.received.map(({ data }) => data), ["two"]);
      assert.equal(a.socket.sendMany(data, to, 0), 0);
      for (const { socket } of [a, b, c]) socket.close();
      assert.equal(a.socket.sendMany(data, to, 3), 0);
    });

    test("what a datagram's handler asks for soon comes after those that have come with it", async (h) => {
      let received = 0;
      const { clock, name } = h.runtime;
      // Its datagrams come one by one.
      if (name === "memory") return;
      const counts: number[] = [];
      const all = Promise.withResolvers<void>();
      const b = await h.runtime.bindDatagram({
        host: h.host,
        port: 0,
        receive() {
          if (received++ === 0) {
            clock.soon(() => {
              counts.push(received);
              all.resolve();
            });
          }
        },
      });
      const a = await socketAt(h, h.host);
      const data = Array.from({ length: 8 }, () => bytesOf("x"));
      a.socket.sendMany(data, data.map(() => b.address), data.length);
      await all.promise;
      assert.deepEqual(counts, [data.length]);
      a.socket.close();
      b.close();
    });

    test("a shared port gives each datagram to one socket, and goes on with those that are left", async (h) => {
      const got = [0, 0];
      let wake = () => {};
      const bind = (index: number, port: number) =>
        h.runtime.bindDatagram({
          host: "127.0.0.1",
          port,
          shared: true,
          receive() {
            got[index]!++;
            wake();
          },
        });
      const until = async (met: () => boolean) => {
        while (!met()) await new Promise<void>((resolve) => wake = resolve);
      };
      const first = await bind(0, 0);
      const second = await bind(1, first.address.port);
      const to = first.address;
      // Enough senders: all at one socket has a chance of 1 in 2^40.
      const senders = await Promise.all(
        Array.from(
          { length: 40 },
          () => h.runtime.bindDatagram({ host: "127.0.0.1", port: 0, receive() {} }),
        ),
      );
      for (const sender of senders) sender.send(bytesOf("x"), to);
      await until(() => got[0]! + got[1]! === senders.length);
      if (h.runtime.capabilities.sharedDatagrams === "last") assert.deepEqual(got, [0, senders.length]);
      else assert.ok(got[0]! > 0 && got[1]! > 0, `${got}`);
      const before = got[0]!;
      second.close();
      // A socket may be closed a moment later, and until then get what it doesn't report any more.
      while (got[0]! < before + senders.length) {
        for (const sender of senders) sender.send(bytesOf("x"), to);
        await new Promise<void>((resolve) => void h.runtime.clock.after(1, resolve));
      }
      await assert.rejects(h.runtime.bindDatagram({ host: "127.0.0.1", port: to.port, receive() {} }), {
        code: "address_in_use",
      });
      for (const socket of [first, ...senders]) socket.close();
    });

    test("a handler's exception, a closed port and a datagram that is too large harm nothing", async (h) => {
      const a = await socketAt(h, h.host);
      const b = await socketAt(h, h.host);
      const gone = await socketAt(h, h.host);
      gone.socket.close();
      const told: string[] = [];
      h.runtime.faults.handle((error) => void told.push(error.where));
      try {
        a.socket.send(bytesOf("throw"), b.socket.address);
        await b.until(1);
        a.socket.send(bytesOf("nobody"), gone.socket.address);
        a.socket.send(new Uint8Array(70_000), b.socket.address);
        a.socket.send(bytesOf("after"), b.socket.address);
        await b.until(2);
        b.socket.send(bytesOf("and back"), a.socket.address);
        await a.until(1);
      } finally {
        h.runtime.faults.handle(undefined);
      }
      assert.deepEqual(told, ["datagram"]);
      assert.deepEqual(b.received.map(({ data }) => data), ["throw", "after"]);
      a.socket.close();
      b.socket.close();
    });

    test("an address in use is refused; IPv4 on a dual-stack socket shows as IPv4", async (h) => {
      const a = await socketAt(h, "127.0.0.1");
      await assertRejects(
        h.runtime.bindDatagram({ host: "127.0.0.1", port: a.socket.address.port, receive() {} }),
        "address_in_use",
      );
      const dual = await socketAt(h, "::").catch(() => null);
      if (dual !== null) {
        a.socket.send(bytesOf("x"), addressOf(dual.socket, "127.0.0.1"));
        await dual.until(1);
        assert.equal(dual.received[0]!.from.host, "127.0.0.1");
        assert.equal(dual.socket.send(bytesOf("y"), a.socket.address), true);
        await a.until(1);
        dual.socket.close();
      }
      a.socket.close();
    });
  });

  describe(`Runtime ${name}: HTTP`, () => {
    test("requests reach the handler with the peer's address; its exceptions are a 500", async (h) => {
      let remote: Address | undefined;
      const server = await h.runtime.serveHttp({
        host: "127.0.0.1",
        port: 0,
        fetch(request, from) {
          remote = from;
          if (request.url.endsWith("/throw")) throw new Error("from fetch");
          return new Response(new URL(request.url).pathname);
        },
      });
      const base = `http://127.0.0.1:${server.address.port}`;
      const response = await h.fetch(`${base}/a/b`);
      assert.equal(response.status, 200);
      assert.equal(await response.text(), "/a/b");
      assert.equal(remote!.host, "127.0.0.1");
      assert.ok(remote!.port > 0);
      const told: string[] = [];
      h.runtime.faults.handle((error) => void told.push(error.where));
      try {
        const broken = await h.fetch(`${base}/throw`);
        assert.equal(broken.status, 500);
        assert.equal((await broken.text()).includes("from fetch"), false);
      } finally {
        h.runtime.faults.handle(undefined);
      }
      assert.deepEqual(told, ["http_request"]);
      await assertRejects(
        h.runtime.serveHttp({ host: "127.0.0.1", port: server.address.port, fetch: () => new Response() }),
        "address_in_use",
      );
      await server.close(10_000);
    });

    test("close answers what is under way, or gives it up when the grace is over", async (h) => {
      for (const patient of [true, false]) {
        let arrived = () => {};
        let answer = (_response: Response) => {};
        const underWay = new Promise<void>((resolve) => arrived = resolve);
        const server = await h.runtime.serveHttp({
          host: "127.0.0.1",
          port: 0,
          fetch() {
            arrived();
            return new Promise<Response>((resolve) => answer = resolve);
          },
        });
        const url = `http://127.0.0.1:${server.address.port}/`;
        const response = h.fetch(url).then((response) => response.text()).catch(() => "given up");
        await underWay;
        const closing = server.close(patient ? 60_000 : 0);
        if (!patient) await closing;
        answer(new Response("done"));
        const text = await response;
        // Without grace each runtime has an end of its own for it.
        assert.ok(!patient || text === "done", text);
        await closing;
        await assert.rejects(h.fetch(url));
      }
    });
  });
}
