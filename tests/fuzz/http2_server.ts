/**
 * HTTP/2 with a visitor: frames that anybody may send to a service whose TLS ends in the agent.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import { type Exchange, respondText } from "../../src/agent/http/exchange.ts";
import { HTTP2_WINDOW_BYTES } from "../../src/agent/http/http2_exchange.ts";
import { HTTP2_STREAMS_MAX, serveHttp2 } from "../../src/agent/http/http2_server.ts";
import type { Bytes } from "../../src/bytes/bytes.ts";
import type { ByteStream, ByteStreamHandler, Clock } from "../../src/runtime/port.ts";
import { Faults } from "../../src/runtime/shared.ts";
import type { Field } from "../../src/wire/http1/fields.ts";
import {
  ACK,
  END_HEADERS,
  END_STREAM,
  frameOf,
  FrameType,
  integersFrame,
  PADDED,
  PREFACE,
  Reason,
  Setting,
  settingsFrame,
} from "../../src/wire/http2/frames.ts";
import { encodeFields } from "../../src/wire/http2/hpack.ts";
import { joined } from "./mutate.ts";
import type { Target } from "./target.ts";

/** What a connection may send for each byte of an input: the shortest request has 14 bytes. */
const SENT_PER_BYTE_MAX = 64;
/** What it sends first, and an answer that is too long for its own coalescing. */
const SENT_FIRST_MAX_BYTES = 64 * 1024;
const IDLE_TIMEOUT_MS = 60_000;

const clock = {
  nowMs: () => 1_000,
  wallMs: () => 1_800_000_000_000,
  after: () => ({ cancel() {} }),
} as unknown as Clock;

function frame(type: number, flags: number, id: number, payload: ArrayLike<number> = []): Bytes {
  return frameOf(type, flags, id, payload);
}

function head(id: number, flags: number, method: string, ...more: readonly Field[]): Bytes {
  const fields: readonly Field[] = [
    [":method", method],
    [":scheme", "https"],
    [":path", "/"],
    [":authority", "a.example.org"],
    ...more,
  ];
  return frame(FrameType.HEADERS, flags, id, encodeFields(fields));
}

const BEGINNING = joined(new TextEncoder().encode(PREFACE), settingsFrame([]));
const CONTENT = new Uint8Array(40).fill(65);

const SEEDS: readonly Bytes[] = [
  joined(BEGINNING, head(1, END_STREAM | END_HEADERS, "GET"), head(3, END_STREAM | END_HEADERS, "HEAD")),
  joined(
    BEGINNING,
    head(1, END_HEADERS, "POST", ["content-length", "70"]),
    frame(FrameType.DATA, 0, 1, CONTENT),
    frame(FrameType.DATA, PADDED | END_STREAM, 1, [9, ...CONTENT.subarray(10), ...new Uint8Array(9)]),
  ),
  joined(
    BEGINNING,
    settingsFrame([[Setting.INITIAL_WINDOW_SIZE, 5], [Setting.MAX_FRAME_SIZE, 16_384]]),
    frame(FrameType.SETTINGS, ACK, 0),
    head(1, END_HEADERS, "POST"),
    frame(FrameType.DATA, 0, 1, CONTENT),
    integersFrame(FrameType.WINDOW_UPDATE, 1, 1_000),
    integersFrame(FrameType.WINDOW_UPDATE, 0, 1_000),
    frame(FrameType.HEADERS, END_STREAM | END_HEADERS, 1, encodeFields([["x-sum", "1"]])),
  ),
  joined(
    BEGINNING,
    head(1, END_STREAM, "GET"),
    frame(FrameType.CONTINUATION, END_HEADERS, 1, encodeFields([["cookie", "a=b"]])),
    frame(FrameType.PING, 0, 0, CONTENT.subarray(0, 8)),
    head(3, END_HEADERS, "POST", ["expect", "100-continue"]),
    integersFrame(FrameType.RST_STREAM, 3, Reason.CANCEL),
    frame(FrameType.PRIORITY, 0, 5, [0, 0, 0, 3, 9]),
    integersFrame(FrameType.GOAWAY, 0, 0, Reason.NO_ERROR),
  ),
];

/** The visitor's stream: takes everything, and counts it. */
class Wire implements ByteStream {
  handler: ByteStreamHandler | undefined;
  readonly bufferedBytes = 0;
  sentBytes = 0;
  /** The frames sent last, which say how the connection ended. */
  last: Bytes = new Uint8Array(0);
  isOver = false;

  attach(handler: ByteStreamHandler): void {
    this.handler = handler;
  }
  write(chunk: Bytes): boolean {
    this.sentBytes += chunk.length;
    this.last = chunk.slice();
    return true;
  }
  closeWrite(): void {
    this.isOver = true;
  }
  abort(): void {
    this.isOver = true;
  }
  release(): void {
    this.isOver = true;
  }
  pause(): void {}
  resume(): void {}
}

/** The target. */
export function http2Server(): Target {
  const faults = new Faults();
  faults.handle((error) => {
    throw error;
  });
  return {
    name: "http2_server",
    seeds: SEEDS,
    run(pieces) {
      const requests: string[] = [];
      const hashes: Hash[] = [];
      const endings: string[] = [];
      let open = 0;
      let waitingBytes = 0;
      const handler = (exchange: Exchange) => {
        const { method, authority, target } = exchange.request;
        requests.push(`${method} ${authority}${target}`);
        if (method === "GET") return respondText(exchange, 200, "hello");
        open++;
        const hash = createHash("sha1");
        hashes.push(hash);
        exchange.stream.attach({
          data(chunk) {
            hash.update(chunk);
            exchange.stream.write(chunk);
            waitingBytes = Math.max(waitingBytes, exchange.stream.bufferedBytes);
          },
          end() {},
          drain() {},
          close(error) {
            open--;
            if (error !== undefined) endings.push(error.message);
          },
        });
        if (method === "POST") exchange.respond({ status: 200, fields: [] });
      };
      const wire = new Wire();
      const options = { stream: wire, visitor: { address: "192.0.2.1" }, clock, faults, handler };
      serveHttp2({ ...options, idleTimeoutMs: IDLE_TIMEOUT_MS });
      let receivedBytes = 0;
      for (const piece of pieces) {
        receivedBytes += piece.length;
        if (!wire.isOver) wire.handler?.data(piece);
        if (open > HTTP2_STREAMS_MAX) throw new Error(`${open} requests are open`);
      }
      if (wire.sentBytes > SENT_FIRST_MAX_BYTES + SENT_PER_BYTE_MAX * receivedBytes) {
        throw new Error(`${wire.sentBytes} bytes for ${receivedBytes}`);
      }
      if (waitingBytes > HTTP2_WINDOW_BYTES + receivedBytes) throw new Error(`${waitingBytes} bytes wait`);
      // What came before a connection ended was answered in any case: its frames are handled one by one.
      const content = hashes.map((hash) => hash.digest().readUInt16BE()).join(" ");
      const ended = wire.isOver ? `ended ${goodbye(wire.last)}` : "open";
      wire.handler?.close();
      return `${requests.length} requests (${requests.slice(-3).join(", ")}), ${content}, ${ended}, ${
        [...new Set(endings)].sort().join(" ")
      }`.slice(0, 400);
    },
  };
}

/** The text of the GOAWAY that ended a connection. */
function goodbye(sent: Bytes): string {
  return Buffer.from(sent.subarray(-60)).toString("latin1").replace(/[^ -~]+/g, "~").split("~").at(-1)!;
}
