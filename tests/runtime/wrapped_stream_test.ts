import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../src/bytes/bytes.ts";
import type { ByteStreamHandler } from "../../src/runtime/port.ts";
import { CountedStream } from "../../src/runtime/wrapped_stream.ts";
import { RecordedStream } from "../support/recorded_stream.ts";

class Inner extends RecordedStream {
  override bufferedBytes = 7;

  write(chunk: Bytes): boolean {
    this.calls.push(`write ${chunk.length}`);
    return false;
  }
  abort(error?: Error): void {
    this.calls.push(`abort ${error?.message}`);
  }
}

describe("WrappedStream", () => {
  it("passes its user's calls on, with what they return", () => {
    const inner = new Inner();
    const stream = new CountedStream(inner, () => {});
    assert.equal(stream.write(new Uint8Array(3)), false);
    stream.pause();
    stream.resume();
    stream.closeWrite();
    stream.release();
    stream.abort(new Error("why"));
    assert.deepEqual(inner.calls, ["write 3", "pause", "resume", "closeWrite", "release", "abort why"]);
    assert.equal(stream.bufferedBytes, 7);
  });

  it("holds as much as the stream within", () => {
    const inner = new Inner();
    assert.equal(new CountedStream(inner, () => {}).heldBytes, 0);
    const holding = new CountedStream(Object.assign(inner, { heldBytes: 9 }), () => {});
    assert.equal(new CountedStream(holding, () => {}).heldBytes, 9);
  });

  it("passes events to the handler that was attached last, and drops them before there is one", () => {
    const inner = new Inner();
    const stream = new CountedStream(inner, () => {});
    stream.data(new Uint8Array(1));
    const heard: string[] = [];
    const handler = (name: string): ByteStreamHandler => ({
      data: (chunk) => heard.push(`${name} data ${chunk.length}`),
      end: () => heard.push(`${name} end`),
      drain: () => heard.push(`${name} drain`),
      close: (error) => heard.push(`${name} close ${error?.message}`),
    });
    stream.attach(handler("first"));
    inner.handler.data(new Uint8Array(2));
    stream.attach(handler("second"));
    inner.handler.drain();
    inner.handler.end();
    inner.handler.close(new Error("why"));
    assert.deepEqual(heard, ["first data 2", "second drain", "second end", "second close why"]);
  });
});

describe("CountedStream", () => {
  it("counts both directions, and reports the end before its handler hears of it", () => {
    const inner = new Inner();
    const order: string[] = [];
    const stream = new CountedStream(inner, (error) => order.push(`over ${error?.message}`));
    stream.attach({ data() {}, end() {}, drain() {}, close: () => order.push("close") });
    inner.handler.data(new Uint8Array(5));
    inner.handler.data(new Uint8Array(6));
    stream.write(new Uint8Array(4));
    inner.handler.close(new Error("why"));
    assert.deepEqual([stream.bytesIn, stream.bytesOut], [11, 4]);
    assert.deepEqual(order, ["over why", "close"]);
  });
});
