/** Visitors that send requests and don't read the responses, in virtual time. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { HttpHandler } from "../../../src/agent/http/exchange.ts";
import { serveHttp1 } from "../../../src/agent/http/http1_server.ts";
import {
  HTTP2_STREAMS_MAX,
  HTTP2_UNREAD_BYTES_MAX,
  serveHttp2,
} from "../../../src/agent/http/http2_server.ts";
import { concat } from "../../../src/bytes/bytes.ts";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import { IGNORE_STREAM } from "../../../src/runtime/port.ts";
import { Faults } from "../../../src/runtime/shared.ts";
import {
  END_HEADERS,
  END_STREAM,
  FRAME_HEADER_BYTES,
  frameOf,
  FrameType,
  PREFACE,
  readFrameHeader,
  settingsFrame,
} from "../../../src/wire/http2/frames.ts";
import { encodeFields } from "../../../src/wire/http2/hpack.ts";

const REQUESTS = 900;
/** A long head and no body: nothing of the response waits for a window or for its reader. */
const FIELD_BYTES = 4_000;

/** A visitor that doesn't read yet, of an agent that counts its requests. */
async function visit(serve: typeof serveHttp1) {
  const network = createMemoryNetwork({ seed: 3 });
  const agent = network.runtime("10.0.0.1");
  let served = 0;
  const handler: HttpHandler = (exchange) => {
    served++;
    exchange.stream.attach(IGNORE_STREAM);
    exchange.respond({ status: 204, fields: [["x-long", "x".repeat(FIELD_BYTES)]] });
    exchange.stream.closeWrite();
  };
  const listener = await agent.listen({
    host: "10.0.0.1",
    port: 0,
    accept: (stream) => {
      const options = {
        stream,
        visitor: { address: "10.0.0.2" },
        clock: network.clock,
        faults: new Faults(),
      };
      serve({ ...options, handler, idleTimeoutMs: 60_000 });
    },
  });
  const conn = await network.settle(
    network.runtime("10.0.0.2").dial({ ...listener.address, timeoutMs: 1_000 }),
  );
  const received: Uint8Array<ArrayBuffer>[] = [];
  conn.attach({
    data: (chunk) => void received.push(chunk.slice()),
    end() {},
    drain() {},
    close() {},
  });
  conn.pause();
  return { network, conn, served: () => served, received: () => concat(received) };
}

describe("serveHttp1 and serveHttp2, for a visitor that doesn't read", () => {
  it(
    "gets no further response over HTTP/1.1, and all of them once it reads",
    { timeout: 60_000 },
    async () => {
      const { network, conn, served, received } = await visit(serveHttp1);
      const request = Buffer.from("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
      conn.write(concat(Array.from({ length: REQUESTS }, () => new Uint8Array(request))));
      await network.advance(1_000);
      const waiting = served();
      assert.ok(waiting * FIELD_BYTES < HTTP2_UNREAD_BYTES_MAX, `${waiting} responses wait`);
      conn.resume();
      for (let i = 0; i < 100 && served() < REQUESTS; i++) await network.advance(100);
      await network.advance(1_000);
      const answers = Buffer.from(received()).toString("latin1").split("HTTP/1.1 204").length - 1;
      assert.deepEqual([served(), answers], [REQUESTS, REQUESTS]);
    },
  );

  it("refuse further requests over HTTP/2", { timeout: 60_000 }, async () => {
    const { network, conn, served, received } = await visit(serveHttp2);
    const block = encodeFields([[":method", "GET"], [":scheme", "https"], [":path", "/"], [
      ":authority",
      "a.test",
    ]]);
    const request = (id: number) => frameOf(FrameType.HEADERS, END_STREAM | END_HEADERS, id, block);
    conn.write(concat([new Uint8Array(Buffer.from(PREFACE)), settingsFrame([])]));
    for (let i = 0; i < REQUESTS; i++) {
      conn.write(request(2 * i + 1));
      if (i % 100 === 0) await network.advance(10);
    }
    await network.advance(1_000);
    const waiting = served();
    // The refusals of a whole connection's streams end it in time.
    assert.ok(
      waiting * FIELD_BYTES < 2 * HTTP2_UNREAD_BYTES_MAX + HTTP2_STREAMS_MAX * FIELD_BYTES,
      `${waiting} responses wait`,
    );
    conn.resume();
    await network.advance(5_000);
    let refused = 0;
    const bytes = received();
    for (let at = 0; at + FRAME_HEADER_BYTES <= bytes.length;) {
      const { byteLength, type } = readFrameHeader(bytes, at);
      if (type === FrameType.RST_STREAM) refused++;
      at += FRAME_HEADER_BYTES + byteLength;
    }
    assert.ok(refused > 0, "some were refused");
  });
});
