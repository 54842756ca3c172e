/** Requests on raw streams of the network in memory, and what is put back. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { SallyportError } from "../../../src/errors.ts";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import type { Bytes, ByteStream, Conn } from "../../../src/runtime/port.ts";
import { type ReceivedRequest, receiveRequest, sendRequest } from "../../../src/tunnel/requests/request.ts";
import { putBack } from "../../../src/tunnel/requests/unread_stream.ts";
import { encodeAddress, encodeGreeting } from "../../../src/wire/snocat/tunnel_request.ts";
import { assertCode, assertRejects, bytesOf, pattern, Watched } from "../../conformance/runtime_helpers.ts";
import { bytesFrom, concat } from "../../support/tunnel.ts";
import {
  TUNNEL_ANSWER_DEADLINE_MS,
  TUNNEL_REQUEST_DEADLINE_MS,
} from "../../../src/tunnel/requests/request.ts";
import { seedOf } from "../../support/seeded.ts";

/** Both ends of a connection; `far` is unattached. */
async function ends() {
  const network = createMemoryNetwork();
  const [one, other] = [network.runtime("10.0.0.1"), network.runtime("10.0.0.2")];
  const accepted = Promise.withResolvers<Conn>();
  const listener = await other.listen({ host: "10.0.0.2", port: 0, accept: accepted.resolve });
  const near = await network.settle(one.dial({ ...listener.address, timeoutMs: 1000 }));
  const far = await network.settle(accepted.promise);
  const settle = <T>(promise: Promise<T>) => network.settle(promise);
  return { network, clock: network.clock, near, far, settle };
}

const failed = (error: unknown) => error as SallyportError;
const whole = concat(encodeGreeting(), encodeAddress("/a"));

describe("sendRequest", () => {
  const answers: [string, Bytes, string][] = [
    ["refused", bytesOf("NYAN\0\x01"), "request_refused"],
    ["refused with another byte", bytesOf("NYAN\0\xff"), "request_refused"],
    ["answered in another version", bytesOf("NYAN\x01\0"), "request_refused"],
    ["answered by another protocol", bytesOf("HTTP/1.1"), "request_invalid"],
  ];
  for (const [what, answer, code] of answers) {
    it(`and ${what} fails with ${code}, and its stream is over`, async () => {
      const { clock, near, far, settle } = await ends();
      const watched = new Watched(far);
      const sent = sendRequest(near, ["a"], { clock }).catch(failed);
      await settle(watched.received(whole.length));
      assert.deepEqual(bytesFrom(watched), whole);
      for (const byte of answer) watched.write(new Uint8Array([byte]));
      assertCode(await settle(sent), code as "request_refused");
      await settle(watched.sawClose);
    });
  }

  it("and not answered fails in time, when the other side leaves, and when it's given up", async () => {
    const one = await ends();
    new Watched(one.far);
    const startedMs = one.clock.nowMs();
    assertCode(await one.settle(sendRequest(one.near, ["a"], one).catch(failed)), "deadline_exceeded");
    assert.ok(Math.abs(one.clock.nowMs() - startedMs - TUNNEL_ANSWER_DEADLINE_MS) < 100);

    const two = await ends();
    const leaver = new Watched(two.far);
    leaver.closeWrite();
    assertCode(await two.settle(sendRequest(two.near, ["a"], two).catch(failed)), "connection_lost");

    const three = await ends();
    const watched = new Watched(three.far);
    const giveUp = new AbortController();
    const sent = sendRequest(three.near, ["a"], { clock: three.clock, signal: giveUp.signal }).catch(failed);
    giveUp.abort(new SallyportError("aborted", "Cannot wait any longer", { side: "local" }));
    assertCode(await three.settle(sent), "aborted");
    await three.settle(watched.sawClose);
  });
});

describe("receiveRequest", () => {
  it("is whole at its last byte, whatever the pieces, and what follows is the service's", async () => {
    for (let cut = 1; cut <= whole.length; cut++) {
      const { clock, network, near, far, settle } = await ends();
      const watched = new Watched(near);
      const receiving = receiveRequest(far, { clock });
      watched.write(whole.slice(0, cut));
      await network.advance(5);
      watched.write(concat(whole.slice(cut), bytesOf("more")));
      const request = await settle(receiving);
      assert.deepEqual(request.address, ["a"]);
      const served = new Watched(request.accept() as Conn);
      await settle(served.received(4));
      assert.equal(served.text, "more");
      await settle(watched.received(6));
      assert.equal(watched.text, "NYAN\0\0");
      assert.deepEqual(served.wrong, []);
    }
  });

  it("must be whole in time, however slowly it comes", async () => {
    const { clock, network, near, far, settle } = await ends();
    const watched = new Watched(near);
    const receiving = receiveRequest(far, { clock }).catch(failed);
    const startedMs = clock.nowMs();
    for (const byte of whole.slice(0, -1)) {
      watched.write(new Uint8Array([byte]));
      await network.advance(300);
    }
    assertCode(await settle(receiving), "deadline_exceeded");
    assert.ok(clock.nowMs() - startedMs < TUNNEL_REQUEST_DEADLINE_MS + 100);
  });

  it("tells its service when the stream ends before the answer", async () => {
    const { clock, near, far, network, settle } = await ends();
    near.attach({ data() {}, end() {}, drain() {}, close() {} });
    near.write(whole);
    const request: ReceivedRequest = await settle(receiveRequest(far, { clock }));
    const { signal } = request;
    near.abort();
    await network.advance(100);
    assert.ok(signal.aborted);
    const served = new Watched(request.accept() as Conn);
    await network.advance(100);
    assert.equal(served.closes, 1);
    assert.deepEqual(served.wrong, []);
  });

  it("any bytes come to something, and to no more than a rejection", async () => {
    const mutated = fc.tuple(fc.nat(whole.length - 1), fc.nat(255)).map(([at, value]) => {
      const bytes = whole.slice();
      bytes[at] = value;
      return bytes;
    });
    const any = fc.oneof(mutated, fc.uint8Array({ maxLength: 30 }).map((bytes) => new Uint8Array(bytes)));
    await fc.assert(
      fc.asyncProperty(any, async (bytes) => {
        const { clock, near, far, settle } = await ends();
        near.attach({ data() {}, end() {}, drain() {}, close() {} });
        near.write(bytes);
        near.closeWrite();
        const outcome = await settle(receiveRequest(far, { clock }).catch(failed));
        assert.ok(outcome instanceof SallyportError || Array.isArray(outcome.address));
      }),
      { seed: seedOf(50), numRuns: 60 },
    );
  });
});

describe("putBack", () => {
  /** The far end with `rest` before what still comes. */
  async function unread(rest: Bytes) {
    const world = await ends();
    const near = new Watched(world.near);
    let lost: Error | undefined | "no" = "no";
    const stream: ByteStream = putBack(world.far, {
      rest,
      lost: (error) => lost = error,
    });
    return { ...world, near, stream, lost: () => lost };
  }

  it("delivers them first, to the attached handler, and nothing while it's paused", async () => {
    const { network, near, stream, settle } = await unread(bytesOf("first "));
    near.write(bytesOf("second"));
    near.closeWrite();
    await network.advance(50);
    stream.pause();
    const reader = new Watched(stream as Conn);
    await network.advance(50);
    assert.equal(reader.byteLength, 0);
    reader.resume();
    await settle(reader.sawEnd);
    assert.equal(reader.text, "first second");
    reader.closeWrite();
    await settle(reader.sawClose);
    reader.assertOver();
  });

  it("may be paused and handed on from within the first bytes", async () => {
    const { network, near, stream, settle } = await unread(bytesOf("first"));
    const second = new Watched(stream as Conn, { attach: false });
    const first = new Watched(stream as Conn);
    first.onData = () => {
      second.attach();
      second.pause();
    };
    near.write(pattern(100_000, 1));
    await settle(first.received(5));
    await network.advance(100);
    assert.equal(second.byteLength, 0);
    second.resume();
    await settle(second.received(100_000));
    assert.deepEqual([first.byteLength, first.closes, second.wrong], [5, 0, []]);
  });

  it("reports its end to a handler attached later, and to its owner before that", async () => {
    const { network, near, stream, lost } = await unread(bytesOf("first"));
    near.abort();
    await network.advance(100);
    assert.ok(lost() !== "no");
    const reader = new Watched(stream as Conn);
    await network.advance(100);
    assert.deepEqual([reader.closes, reader.byteLength, reader.wrong], [1, 0, []]);
  });

  it("can be aborted and released unread", async () => {
    for (const ends of ["abort", "release"] as const) {
      const { near, stream, settle } = await unread(bytesOf("first"));
      stream.write(bytesOf("bye"));
      stream[ends]();
      near.closeWrite();
      await settle(near.sawClose);
      if (ends === "release") assert.equal(near.text, "bye");
    }
  });

  it("ends for a reader that throws", async () => {
    const { near, stream, settle } = await unread(bytesOf("first"));
    const closed = Promise.withResolvers<Error | undefined>();
    stream.attach({
      data: () => {
        throw new Error("a fault");
      },
      end() {},
      drain() {},
      close: closed.resolve,
    });
    assert.match(String(await settle(closed.promise)), /a fault/);
    await settle(near.sawClose);
  });
});

it("an address that is too long is never sent", async () => {
  const { clock, near, settle } = await ends();
  await assertRejects(settle(sendRequest(near, ["a".repeat(3000)], { clock })), "address_invalid");
});
