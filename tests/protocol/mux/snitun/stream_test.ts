/** MuxStream and what it has of StreamCore: what it asks its session for, and what its handler hears. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { BlockPool } from "../../../../src/bytes/block_pool.ts";
import type { Bytes } from "../../../../src/bytes/bytes.ts";
import { MuxStream } from "../../../../src/protocol/mux/snitun/stream.ts";
import type { StreamOwner } from "../../../../src/protocol/mux/stream_core.ts";
import type { ByteStreamHandler } from "../../../../src/runtime/port.ts";

/** A stream, what it asked of its session, and what its handler heard. */
function bench() {
  const asked: string[] = [];
  const heard: string[] = [];
  const owner: StreamOwner<MuxStream> = {
    blocks: new BlockPool(),
    send: (_, chunk) => {
      asked.push(`send ${chunk.length}`);
      return false;
    },
    finish: () => void asked.push("finish"),
    release: () => void asked.push("release"),
    reset: (stream, error) => {
      asked.push(`reset ${error?.message ?? "-"}`);
      stream.dead = true;
      stream.error = error;
    },
    fault: () => void asked.push("fault"),
    consumed: (_, byteLength) => void asked.push(`consumed ${byteLength}`),
    schedule: () => void asked.push("schedule"),
  };
  const stream = new MuxStream(owner, new Uint8Array(16), { address: "0.0.0.0" }, false);
  const handler: ByteStreamHandler = {
    data: (chunk) => void heard.push(`data ${chunk.length}`),
    end: () => void heard.push("end"),
    drain: () => void heard.push("drain"),
    close: (error) => void heard.push(`close ${error?.message ?? "-"}`),
  };
  const bytes = (byteLength: number): Bytes => new Uint8Array(byteLength);
  return {
    stream,
    handler,
    bytes,
    queue: (byteLength: number) => stream.incoming.push(bytes(byteLength)),
    asked: () => asked.splice(0),
    heard: () => heard.splice(0),
  };
}

describe("MuxStream: writing", () => {
  it("write() and closeWrite() ask the session while the stream is open both ways", () => {
    const { stream, bytes, asked } = bench();
    assert.equal(stream.write(bytes(5)), false);
    stream.closeWrite();
    assert.deepEqual(asked(), ["send 5", "finish"]);
  });

  const ended: [string, (stream: MuxStream) => void][] = [
    ["closeWrite()", (stream) => stream.closeWrite()],
    ["the peer's CLOSE", (stream) => stream.remoteClosed = true],
    ["its end", (stream) => stream.dead = true],
  ];
  for (const [name, end] of ended) {
    it(`behind ${name} it drops what is written, and says nothing again`, () => {
      const { stream, bytes, asked } = bench();
      end(stream);
      asked();
      assert.equal(stream.write(bytes(5)), true);
      stream.closeWrite();
      assert.deepEqual(asked(), []);
    });
  }

  it("release() asks once, also after closeWrite(), and not after the end", () => {
    const { stream, asked } = bench();
    stream.closeWrite();
    asked();
    stream.release();
    stream.release();
    assert.deepEqual(asked(), ["release"]);
    const other = bench();
    other.stream.dead = true;
    other.stream.release();
    assert.deepEqual(other.asked(), ["schedule"], "a handler that ignores its end was attached");
  });

  it("abort() asks for a reset with its error, once", () => {
    const { stream, asked } = bench();
    stream.abort(new Error("why"));
    stream.abort(new Error("again"));
    assert.deepEqual(asked(), ["reset why"]);
  });
});

describe("MuxStream: receiving", () => {
  it("deliver() hands on what comes where a handler takes it, and leaves the rest to the queue", () => {
    const { stream, handler, bytes, queue, heard } = bench();
    assert.equal(stream.deliver(bytes(1)), false, "unattached");
    stream.attach(handler);
    assert.equal(stream.deliver(bytes(2)), true);
    assert.equal(stream.deliveredBytes, 2);
    stream.pause();
    assert.equal(stream.deliver(bytes(3)), false, "paused");
    stream.resume();
    queue(4);
    assert.equal(stream.deliver(bytes(5)), false, "behind what is queued");
    stream.released = true;
    assert.equal(stream.deliver(bytes(6)), true, "dropped");
    assert.deepEqual(heard(), ["data 2"]);
  });

  it("attach() and resume() ask for a turn where there is something to deliver", () => {
    const states: [string, (stream: MuxStream) => void, boolean][] = [
      ["nothing", () => {}, false],
      ["bytes", (stream) => stream.incoming.push(new Uint8Array(1)), true],
      ["the peer's end", (stream) => stream.remoteClosed = true, true],
    ];
    for (const [name, set, turn] of states) {
      const { stream, handler, asked } = bench();
      set(stream);
      stream.attach(handler);
      assert.deepEqual(asked(), turn ? ["schedule"] : [], `attach() with ${name}`);
      stream.attach(handler);
      stream.resume();
      assert.deepEqual(asked(), [], "a second attach(), and resume() of what isn't paused");
      stream.pause();
      stream.resume();
      assert.deepEqual(asked(), turn ? ["schedule"] : [], `resume() with ${name}`);
    }
    const over = bench();
    over.stream.dead = true;
    over.stream.attach(over.handler);
    assert.deepEqual(over.asked(), ["schedule"], "attach() after the end");
  });

  it("flushIncoming() delivers as far as the handler takes it", () => {
    const { stream, handler, queue, asked, heard } = bench();
    queue(3);
    stream.flushIncoming();
    assert.deepEqual(heard(), [], "unattached");
    stream.attach({ ...handler, data: () => stream.pause() });
    asked();
    stream.flushIncoming();
    assert.deepEqual([asked(), stream.incoming.byteLength, stream.deliveredBytes], [["consumed 3"], 0, 3]);
    queue(4);
    stream.flushIncoming();
    assert.deepEqual([asked(), stream.incoming.byteLength], [[], 4], "paused");
  });

  it("flushIncoming() stops where the handler ends the stream", () => {
    const { stream, handler, queue, asked } = bench();
    queue(3);
    stream.attach({ ...handler, data: () => stream.abort() });
    asked();
    stream.flushIncoming();
    assert.deepEqual([asked(), stream.incoming.byteLength], [["reset -"], 3]);
    stream.flushIncoming();
    assert.deepEqual(asked(), []);
  });

  it("drained is true when a handler that reads, or none that is wanted, has everything", () => {
    const table: [string, boolean, boolean, boolean, number, boolean][] = [
      // attached, paused, released, bytes that wait
      ["nobody attached", false, false, false, 0, false],
      ["attached", true, false, false, 0, true],
      ["paused", true, true, false, 0, false],
      ["paused and released", true, true, true, 0, true],
      ["bytes wait", true, false, false, 1, false],
      ["bytes wait, released", true, false, true, 1, false],
    ];
    for (const [name, attached, paused, released, byteLength, drained] of table) {
      const { stream, handler, queue } = bench();
      if (attached) stream.attach(handler);
      if (paused) stream.pause();
      stream.released = released;
      if (byteLength > 0) queue(byteLength);
      assert.equal(stream.drained, drained, name);
    }
  });
});

describe("MuxStream: the end", () => {
  it("finish() tells the peer's orderly end, then close; an error alone", () => {
    const table: [boolean, Error | undefined, string[]][] = [
      [true, undefined, ["end", "close -"]],
      [true, new Error("lost"), ["close lost"]],
      [false, undefined, ["close -"]],
      [false, new Error("lost"), ["close lost"]],
    ];
    for (const [remoteClosed, error, events] of table) {
      const { stream, handler, heard } = bench();
      stream.attach(handler);
      Object.assign(stream, { remoteClosed, error });
      stream.finish();
      assert.equal(stream.closed, true);
      stream.finish();
      stream.drain();
      assert.deepEqual(heard(), events);
    }
  });

  it("finish() waits for a handler, and drops the queues", () => {
    const { stream, handler, queue, heard } = bench();
    queue(3);
    stream.outgoing.push(new Uint8Array(4));
    stream.finish();
    assert.deepEqual([stream.closed, stream.attached, stream.bufferedBytes], [false, false, 4]);
    stream.attach(handler);
    stream.finish();
    assert.deepEqual([stream.closed, stream.incoming.byteLength, stream.bufferedBytes], [true, 0, 0]);
    assert.deepEqual(heard(), ["close -"]);
  });

  it("a handler that throws loses its stream, and the fault is told", () => {
    const throws = () => {
      throw new TypeError("handler's fault");
    };
    const calls: [keyof ByteStreamHandler, (stream: MuxStream) => void][] = [
      ["data", (stream) => void stream.deliver(new Uint8Array(1))],
      ["drain", (stream) => stream.drain()],
    ];
    for (const [name, call] of calls) {
      const { stream, handler, asked } = bench();
      stream.attach({ ...handler, [name]: throws });
      call(stream);
      const [fault, reset] = asked();
      assert.equal(fault, "fault", name);
      assert.match(reset!, /^reset .*handler's fault/);
    }
    const closing = bench();
    closing.stream.attach({ ...closing.handler, close: throws });
    closing.stream.dead = true;
    closing.asked();
    closing.stream.finish();
    assert.deepEqual(closing.asked(), ["fault"], "nothing is left to reset");
    assert.match(closing.stream.error!.message, /handler's fault/);
  });
});
