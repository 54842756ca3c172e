/** HTTP/2 with one visitor, frame by frame, in virtual time. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Exchange, HttpHandler } from "../../../src/agent/http/exchange.ts";
import { respondText } from "../../../src/agent/http/exchange.ts";
import { HTTP_HEAD_DEADLINE_MS, HTTP_KEEP_ALIVE_MS } from "../../../src/agent/http/http1_server.ts";
import { HTTP2_WINDOW_BYTES } from "../../../src/agent/http/http2_exchange.ts";
import {
  HTTP2_CONNECTION_WINDOW_BYTES,
  HTTP2_CONTINUATIONS_MAX,
  HTTP2_STREAMS_MAX,
  serveHttp2,
} from "../../../src/agent/http/http2_server.ts";
import { concat } from "../../../src/bytes/bytes.ts";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import type { Conn } from "../../../src/runtime/port.ts";
import { Faults } from "../../../src/runtime/shared.ts";
import type { Field } from "../../../src/wire/http1/fields.ts";
import {
  ACK,
  END_HEADERS,
  END_STREAM,
  FRAME_HEADER_BYTES,
  frameOf,
  FrameType,
  integersFrame,
  PADDED,
  PREFACE,
  readFrameHeader,
  readUint32,
  Reason,
  Setting,
  settingsFrame,
} from "../../../src/wire/http2/frames.ts";
import { encodeFields, HpackDecoder } from "../../../src/wire/http2/hpack.ts";

const IDLE_MS = 200_000;

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly id: number;
  readonly payload: Uint8Array<ArrayBuffer>;
}

function frame(type: number, flags: number, id: number, payload: ArrayLike<number> = []) {
  return frameOf(type, flags, id, payload);
}

const REQUEST: readonly Field[] = [
  [":method", "GET"],
  [":scheme", "https"],
  [":path", "/"],
  [":authority", "site.localhost"],
];

function head(id: number, flags = END_STREAM | END_HEADERS, fields: readonly Field[] = REQUEST) {
  return frame(FrameType.HEADERS, flags, id, encodeFields(fields));
}

const post = (id: number, ...more: readonly Field[]) =>
  head(id, END_HEADERS, [[":method", "POST"], ...REQUEST.slice(1), ...more]);

/** A visitor that sends frames, and what it got. */
class Visitor {
  readonly frames: Frame[] = [];
  /** Bodies by stream. */
  readonly bodies = new Map<number, number>();
  readonly heads = new Map<number, readonly Field[]>();
  readonly resets = new Map<number, number>();
  goneAway: number | undefined;
  closed = false;
  readonly #network: ReturnType<typeof createMemoryNetwork>;
  readonly #conn: Conn;
  readonly #decoder = new HpackDecoder(1 << 20);
  #rest: Uint8Array<ArrayBuffer> = new Uint8Array(0);

  constructor(network: ReturnType<typeof createMemoryNetwork>, conn: Conn) {
    this.#network = network;
    this.#conn = conn;
    conn.attach({
      data: (chunk) => {
        this.#rest = concat([this.#rest, chunk]);
        this.#read();
      },
      end() {},
      drain() {},
      close: () => this.closed = true,
    });
  }

  /** Sends frames, and lets the answers come. */
  async send(...frames: readonly Uint8Array<ArrayBuffer>[]): Promise<void> {
    this.#conn.write(concat(frames));
    await this.#network.advance(50);
  }

  pause(): void {
    this.#conn.pause();
  }

  resume(): void {
    this.#conn.resume();
  }

  leave(): void {
    this.#conn.abort();
  }

  status(id: number): string | undefined {
    return this.heads.get(id)?.[0]?.[1];
  }

  #read(): void {
    while (this.#rest.length >= FRAME_HEADER_BYTES) {
      const { byteLength, type, flags, id } = readFrameHeader(this.#rest, 0);
      if (this.#rest.length < FRAME_HEADER_BYTES + byteLength) return;
      const payload = this.#rest.slice(FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + byteLength);
      this.#rest = this.#rest.slice(FRAME_HEADER_BYTES + byteLength);
      this.frames.push({ type, flags, id, payload });
      if (type === FrameType.HEADERS) this.heads.set(id, this.#decoder.decode(payload) ?? []);
      if (type === FrameType.DATA) this.bodies.set(id, (this.bodies.get(id) ?? 0) + payload.length);
      if (type === FrameType.RST_STREAM) this.resets.set(id, readUint32(payload, 0));
      if (type === FrameType.GOAWAY) this.goneAway = readUint32(payload, 4);
    }
  }
}

async function visit(handler: HttpHandler, begin = true) {
  const network = createMemoryNetwork({ seed: 7 });
  const { clock } = network;
  const agent = network.runtime("10.0.0.1");
  let closed = 0;
  const connections: ReturnType<typeof serveHttp2>[] = [];
  const listener = await agent.listen({
    host: "10.0.0.1",
    port: 0,
    accept: (stream) => {
      const options = { stream, visitor: { address: "10.0.0.2" }, clock, faults: new Faults(), handler };
      connections.push(serveHttp2({ ...options, idleTimeoutMs: IDLE_MS, closed: () => closed++ }));
    },
  });
  const { host, port } = listener.address;
  const conn = await network.settle(
    network.runtime("10.0.0.2").dial({ host, port, timeoutMs: 1_000 }),
  );
  const visitor = new Visitor(network, conn);
  if (begin) await visitor.send(Uint8Array.from(Buffer.from(PREFACE)), settingsFrame([]));
  return { network, visitor, connections, closed: () => closed };
}

const hello: HttpHandler = (exchange) => respondText(exchange, 200, "hello");

/** Keeps exchanges open, for the test to answer. */
function holding() {
  const held: Exchange[] = [];
  const lost: Error[] = [];
  let received = 0;
  const handler: HttpHandler = (exchange) => {
    held.push(exchange);
    exchange.stream.attach({
      data: (chunk) => received += chunk.length,
      end() {},
      drain() {},
      close: (error) => void (error !== undefined && lost.push(error)),
    });
  };
  return { held, lost, handler, received: () => received };
}

describe("serveHttp2", () => {
  it("answers requests on one connection, and ends it in order", async () => {
    const { visitor, connections, closed, network } = await visit(hello);
    await visitor.send(head(1), head(3));
    assert.deepEqual([visitor.status(1), visitor.status(3)], ["200", "200"]);
    assert.equal(visitor.bodies.get(3), 6);
    // The body's last frame ends the stream.
    assert.ok(
      visitor.frames.some(({ type, flags, id }) =>
        type === FrameType.DATA && id === 3 && flags === END_STREAM
      ),
    );
    await visitor.send(frame(FrameType.PING, 0, 0, [1, 2, 3, 4, 5, 6, 7, 8]));
    assert.deepEqual(visitor.frames.at(-1), {
      ...{ type: FrameType.PING, flags: ACK, id: 0 },
      payload: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8),
    });
    connections[0]!.finish();
    await network.advance(100);
    assert.equal(visitor.goneAway, Reason.NO_ERROR);
    visitor.leave();
    await network.advance(100);
    assert.equal(closed(), 1);
  });

  it("outlives a visitor that goes away, and answers it", async () => {
    // node:http2 of Deno 2.9.6 ends the whole process here.
    const { held, handler } = holding();
    const { visitor } = await visit(handler);
    await visitor.send(head(1), integersFrame(FrameType.GOAWAY, 0, 0, Reason.NO_ERROR));
    respondText(held[0]!, 200, "hello");
    await visitor.send();
    assert.equal(visitor.status(1), "200");
  });

  it("reads frames however they are cut", async () => {
    const frames = concat([post(1), frame(FrameType.DATA, PADDED, 1, [3, 65, 66, 0, 0, 0]), head(3)]);
    for (const size of [1, 5, 9, 10]) {
      let body = "";
      const { visitor } = await visit((exchange) => {
        if (exchange.request.method === "GET") return hello(exchange);
        exchange.stream.attach({
          data: (chunk) => body += Buffer.from(chunk).toString(),
          end: () => {
            exchange.respond({ status: 200, fields: [] });
            exchange.stream.closeWrite();
          },
          drain() {},
          close() {},
        });
      });
      for (let at = 0; at < frames.length; at += size) await visitor.send(frames.slice(at, at + size));
      await visitor.send(frame(FrameType.DATA, END_STREAM, 1));
      assert.deepEqual([body, visitor.status(1), visitor.status(3)], ["AB", "200", "200"], `${size} bytes`);
    }
  });

  it("sends no more than the visitor's windows allow, and shares them", async () => {
    const { held, handler } = holding();
    const { visitor } = await visit(handler);
    await visitor.send(head(1), head(3));
    for (
      const { respond, stream } of held.map((one) => ({ respond: one.respond.bind(one), stream: one.stream }))
    ) {
      respond({ status: 200, fields: [] });
      assert.equal(stream.write(new Uint8Array(100_000)), false);
      stream.closeWrite();
    }
    await visitor.send();
    assert.deepEqual([...visitor.bodies], [[1, 65_535]], "the connection's window is that of the first");
    await visitor.send(integersFrame(FrameType.WINDOW_UPDATE, 0, 1_000_000));
    assert.deepEqual([...visitor.bodies], [[1, 65_535], [3, 65_535]]);
    await visitor.send(integersFrame(FrameType.WINDOW_UPDATE, 3, 10_000));
    assert.equal(visitor.bodies.get(3), 75_535);
    await visitor.send(settingsFrame([[Setting.INITIAL_WINDOW_SIZE, 200_000]]));
    assert.deepEqual([...visitor.bodies], [[1, 100_000], [3, 100_000]]);
    const ends = visitor.frames.filter(({ type, flags }) => type === FrameType.DATA && flags === END_STREAM);
    assert.equal(ends.length, 2);
  });

  it("lets a visitor send only what is read, on a stream and on the connection", async () => {
    const { held, handler, received } = holding();
    const { visitor } = await visit(handler);
    await visitor.send(post(1));
    held[0]!.stream.pause();
    const piece = frame(FrameType.DATA, 0, 1, new Uint8Array(16_384));
    for (let sent = 0; sent < HTTP2_WINDOW_BYTES; sent += 16_384) await visitor.send(piece);
    const widened = () =>
      visitor.frames.filter(({ type, id }) => type === FrameType.WINDOW_UPDATE && id === 1);
    assert.equal(widened().length, 0);
    held[0]!.stream.resume();
    await visitor.send();
    assert.equal(received(), HTTP2_WINDOW_BYTES);
    assert.equal(readUint32(widened()[0]!.payload, 0), HTTP2_WINDOW_BYTES);
    held[0]!.stream.pause();
    for (let sent = 0; sent <= HTTP2_WINDOW_BYTES; sent += 16_384) await visitor.send(piece);
    assert.equal(visitor.resets.get(1), Reason.FLOW_CONTROL_ERROR);
    // The connection's window is of another size, and bodies that nobody reads any more don't use it up.
    for (let id = 3; id < 3 + 2 * 8; id += 2) {
      await visitor.send(post(id));
      held.at(-1)!.stream.pause();
      for (let sent = 0; sent < HTTP2_WINDOW_BYTES; sent += 16_384) {
        await visitor.send(frame(FrameType.DATA, 0, id, new Uint8Array(16_384)));
      }
      if (id % 8 !== 7) held.at(-1)!.stream.abort();
    }
    assert.equal(visitor.goneAway, undefined);
    for (
      let sent = 0;
      sent <= HTTP2_CONNECTION_WINDOW_BYTES && visitor.goneAway === undefined;
      sent += 16_384
    ) {
      const id = 101 + 2 * Math.floor(sent / HTTP2_WINDOW_BYTES);
      await visitor.send(...sent % HTTP2_WINDOW_BYTES === 0 ? [post(id)] : []);
      held.at(-1)!.stream.pause();
      await visitor.send(frame(FrameType.DATA, 0, id, new Uint8Array(16_384)));
    }
    assert.equal(visitor.goneAway, Reason.FLOW_CONTROL_ERROR);
  });

  it("ends a request alone for a fault of its own", async () => {
    const { lost, handler } = holding();
    const { visitor } = await visit(handler);
    const cases: readonly [Uint8Array<ArrayBuffer>[], number][] = [
      [
        [post(1, ["content-length", "3"]), frame(FrameType.DATA, END_STREAM, 1, [1, 2])],
        Reason.PROTOCOL_ERROR,
      ],
      [[post(3, ["content-length", "1"]), frame(FrameType.DATA, 0, 3, [1, 2])], Reason.PROTOCOL_ERROR],
      [[post(5), head(5, END_HEADERS)], Reason.PROTOCOL_ERROR],
      [[post(7), integersFrame(FrameType.WINDOW_UPDATE, 7, 0)], Reason.PROTOCOL_ERROR],
      [[post(9), integersFrame(FrameType.WINDOW_UPDATE, 9, 0x7fffffff)], Reason.FLOW_CONTROL_ERROR],
      [[head(11), frame(FrameType.DATA, END_STREAM, 11, [1])], Reason.STREAM_CLOSED],
      [[head(13, END_STREAM | END_HEADERS, [...REQUEST, ["connection", "close"]])], Reason.PROTOCOL_ERROR],
    ];
    for (const [index, [frames, reason]] of cases.entries()) {
      await visitor.send(...frames);
      assert.equal(visitor.resets.get(2 * index + 1), reason, `case ${index}`);
    }
    assert.equal(lost.length, cases.length - 1);
    assert.equal(visitor.goneAway, undefined);
  });

  it("ends the connection for a fault of it", async () => {
    const cases: readonly [string, Uint8Array<ArrayBuffer>[], number][] = [
      ["no preface", [Uint8Array.from(Buffer.from("GET / HTTP/1.1\r\n\r\n"))], Reason.PROTOCOL_ERROR],
      ["an even number", [head(2)], Reason.PROTOCOL_ERROR],
      ["a body without a request", [frame(FrameType.DATA, 0, 1, [1])], Reason.PROTOCOL_ERROR],
      ["a number used twice", [head(3), head(3)], Reason.STREAM_CLOSED],
      ["a number that was left out", [head(3), head(1)], Reason.PROTOCOL_ERROR],
      ["a push", [frame(FrameType.PUSH_PROMISE, END_HEADERS, 1)], Reason.PROTOCOL_ERROR],
      [
        "a head that is interrupted",
        [head(1, 0), frame(FrameType.PING, 0, 0, [1, 2, 3, 4, 5, 6, 7, 8])],
        Reason.PROTOCOL_ERROR,
      ],
      [
        "a frame that is too long",
        [frame(FrameType.PING, 0, 0, new Uint8Array(16_385))],
        Reason.FRAME_SIZE_ERROR,
      ],
      ["a PING of 7 bytes", [frame(FrameType.PING, 0, 0, [1, 2, 3, 4, 5, 6, 7])], Reason.FRAME_SIZE_ERROR],
      [
        "a window of more than 2^31-1",
        [integersFrame(FrameType.WINDOW_UPDATE, 0, 0x7fffffff)],
        Reason.FLOW_CONTROL_ERROR,
      ],
      [
        "padding longer than its frame",
        [post(1), frame(FrameType.DATA, PADDED, 1, [9, 1])],
        Reason.PROTOCOL_ERROR,
      ],
      [
        "a block that isn't HPACK",
        [frame(FrameType.HEADERS, END_HEADERS, 1, [0x80])],
        Reason.COMPRESSION_ERROR,
      ],
      [
        "a setting that is out of range",
        [settingsFrame([[Setting.MAX_FRAME_SIZE, 1]])],
        Reason.PROTOCOL_ERROR,
      ],
      [
        "CONTINUATION without end",
        [
          head(1, 0),
          ...Array.from({ length: HTTP2_CONTINUATIONS_MAX }, () => frame(FrameType.CONTINUATION, 0, 1)),
        ],
        Reason.ENHANCE_YOUR_CALM,
      ],
    ];
    for (const [what, frames, reason] of cases) {
      const { visitor, network } = await visit(hello, what !== "no preface");
      await visitor.send(...frames);
      assert.equal(visitor.goneAway, reason, what);
      await network.advance(100);
    }
  });

  it("bounds what a visitor can have done for nothing", async () => {
    const floods: readonly [string, (index: number) => Uint8Array<ArrayBuffer>[]][] = [
      ["PING", () => [frame(FrameType.PING, 0, 0, new Uint8Array(8))]],
      ["SETTINGS", () => [settingsFrame([[Setting.INITIAL_WINDOW_SIZE, 1]])]],
      ["requests that are taken back", (index) => [
        post(2 * index + 1),
        integersFrame(FrameType.RST_STREAM, 2 * index + 1, Reason.CANCEL),
      ]],
      [
        "invalid requests",
        (index) => [frame(FrameType.HEADERS, END_HEADERS | END_STREAM, 2 * index + 1, [0x82])],
      ],
      ["PRIORITY", () => [frame(FrameType.PRIORITY, 0, 1, [0, 0, 0, 0, 1])]],
      ["small windows", () => [integersFrame(FrameType.WINDOW_UPDATE, 0, 1)]],
    ];
    for (const [what, flood] of floods) {
      let requests = 0;
      const { visitor } = await visit(() => void requests++);
      for (let sent = 0; sent < 60_000 && visitor.goneAway === undefined;) {
        const frames: Uint8Array<ArrayBuffer>[] = [];
        for (const end = sent + 3_000; sent < end; sent++) frames.push(...flood(sent));
        await visitor.send(...frames);
      }
      assert.equal(visitor.goneAway, Reason.ENHANCE_YOUR_CALM, what);
      assert.ok(requests <= 3_000, `${requests} requests`);
    }
    const { held, handler } = holding();
    const { visitor } = await visit(handler);
    for (let index = 0; index <= HTTP2_STREAMS_MAX; index++) await visitor.send(post(2 * index + 1));
    assert.equal(held.length, HTTP2_STREAMS_MAX);
    assert.equal(visitor.resets.get(2 * HTTP2_STREAMS_MAX + 1), Reason.REFUSED_STREAM);
  });

  it("closes what is idle, late, or gone", async () => {
    const idle = await visit(hello);
    await idle.visitor.send(head(1));
    await idle.network.advance(HTTP_KEEP_ALIVE_MS - 1_000);
    assert.equal(idle.visitor.goneAway, undefined);
    await idle.network.advance(20_000);
    assert.equal(idle.visitor.goneAway, Reason.NO_ERROR);

    const mute = await visit(hello, false);
    await mute.network.advance(HTTP_HEAD_DEADLINE_MS + 1_000);
    assert.equal(mute.visitor.goneAway, Reason.NO_ERROR);

    const slow = await visit(hello);
    await slow.visitor.send(head(1, 0));
    await slow.network.advance(HTTP_HEAD_DEADLINE_MS + 20_000);
    assert.equal(slow.visitor.goneAway, Reason.ENHANCE_YOUR_CALM);

    const { held, lost, handler } = holding();
    const stalled = await visit(handler);
    await stalled.visitor.send(head(1));
    // Pings don't keep a request that doesn't move.
    for (let waitedMs = 0; waitedMs < IDLE_MS + 30_000; waitedMs += 10_000) {
      await stalled.visitor.send(frame(FrameType.PING, 0, 0, new Uint8Array(8)));
      await stalled.network.advance(10_000);
    }
    assert.equal(stalled.visitor.resets.get(1), Reason.CANCEL);
    assert.match(String(lost[0]), /no byte in either direction for 200 s/);

    await stalled.visitor.send(head(3));
    stalled.visitor.leave();
    await stalled.network.advance(100);
    assert.equal(held.length, 2);
    assert.match(String(lost[1]), /lost/);
  });

  it("answers a request before its body, and resets a response that is cut short", async () => {
    const { held, handler } = holding();
    const { visitor } = await visit(handler);
    await visitor.send(post(1), post(3, ["content-length", "9"], ["expect", "100-continue"]), head(5));
    assert.equal(visitor.status(3), "100");
    respondText(held[0]!, 413, "too much");
    held[1]!.respond({ status: 200, fields: [["content-length", "10"]] });
    held[1]!.stream.write(new Uint8Array(4));
    held[1]!.stream.closeWrite();
    held[2]!.respond({ status: 204, fields: [] });
    held[2]!.stream.closeWrite();
    await visitor.send();
    assert.deepEqual([visitor.status(1), visitor.resets.get(1)], ["413", Reason.NO_ERROR]);
    assert.deepEqual([visitor.status(3), visitor.resets.get(3)], ["200", Reason.INTERNAL_ERROR]);
    assert.deepEqual([visitor.status(5), visitor.resets.get(5)], ["204", undefined]);
    // What crossed with the reset is no fault.
    await visitor.send(frame(FrameType.DATA, END_STREAM, 1, [1]), head(7));
    assert.equal(held.length, 4);
  });

  it("survives any frames", async () => {
    const any = fc.tuple(
      fc.nat(10),
      fc.nat(255),
      fc.constantFrom(0, 1, 2, 3, 5),
      fc.uint8Array({ maxLength: 20 }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(any, { maxLength: 12 }), async (frames) => {
        const { visitor, closed, network } = await visit(hello);
        await visitor.send(...frames.map(([type, flags, id, payload]) => frame(type, flags, id, payload)));
        visitor.leave();
        await network.advance(1_000);
        assert.equal(closed(), 1);
      }),
      { numRuns: 100 },
    );
  });
});
