/** StreamSet and CurveStream: the streams of a connection, packed and read by hand (docs/protocols/curve.md, Streams). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../../../src/bytes/bytes.ts";
import { SallyportError } from "../../../../src/errors.ts";
import { codeOfWire, wireCode } from "../../../../src/wire/curve/error_number.ts";
import {
  AckRanges,
  type FrameSink,
  FrameWriter,
  readFrames,
} from "../../../../src/wire/curve/curve_frame.ts";
import { SentPacket } from "../../../../src/protocol/curve/recovery/recovery.ts";
import type { CurveStream } from "../../../../src/protocol/curve/streams/stream.ts";
import {
  CONTROL_STREAM_BYTES,
  StreamSet,
  type StreamSetLimits,
} from "../../../../src/protocol/curve/streams/stream_set.ts";
import { Recorder } from "../../mux/harness.ts";
import { pattern } from "../../../support/seeded.ts";

const LIMITS: StreamSetLimits = {
  firstWindowBytes: 10_000,
  windowBytes: 10_000,
  sendHighBytes: 4_000,
  sendLowBytes: 1_000,
  sendMaxBytes: 20_000,
  connectionWindowBytes: 15_000,
  streamsMax: 3,
};

class Bench {
  readonly set: StreamSet;
  readonly opened: CurveStream[] = [];
  readonly closed: number[] = [];
  duplicates = 0;
  nowMs = 0;
  wakes = 0;
  readonly #writer = new FrameWriter(new Uint8Array(70_000));

  constructor(over: Partial<StreamSetLimits> = {}, first: 1 | 2 = 1) {
    this.set = new StreamSet(
      {
        nowMs: () => this.nowMs,
        wake: () => void this.wakes++,
        opened: (stream) => void this.opened.push(stream),
        closed: (stream) => void this.closed.push(stream.id),
        duplicate: () => void this.duplicates++,
        fault() {},
      },
      { ...LIMITS, ...over },
      first,
    );
    this.set.params(50_000, 8_000, 5);
  }

  /** A packet's frames as words, and the packet itself. */
  pack(size = 1_200): { frames: string[]; packet: SentPacket<CurveStream>; payload: Bytes } {
    const packet = new SentPacket<CurveStream>();
    this.#writer.reset(size);
    const frames: string[] = [];
    const parts: Uint8Array[] = [];
    if (this.set.fill(this.#writer, packet)) {
      const sink: Partial<FrameSink> = {
        stream: (id, offset, data, fin) => {
          frames.push(`stream ${id} ${offset}+${data.length}${fin ? " fin" : ""}`);
          parts.push(data.slice());
        },
        reset: (id, code, final) => void frames.push(`reset ${id} ${codeOfWire(code)} ${final}`),
        maxData: (limit) => void frames.push(`maxData ${limit}`),
        maxStreamData: (id, limit) => void frames.push(`maxStreamData ${id} ${limit}`),
        maxStreams: (limit) => void frames.push(`maxStreams ${limit}`),
      };
      readFrames(this.#writer.written.slice(), sink as FrameSink, new AckRanges());
    }
    return { frames, packet, payload: new Uint8Array(Buffer.concat(parts)) };
  }

  /** All packets until nothing waits. */
  drain(size = 1_200): { frames: string[]; packets: SentPacket<CurveStream>[] } {
    const all = { frames: [] as string[], packets: [] as SentPacket<CurveStream>[] };
    while (this.set.sendable) {
      const { frames, packet } = this.pack(size);
      if (frames.length === 0) break;
      all.frames.push(...frames);
      all.packets.push(packet);
    }
    return all;
  }

  turn(nowMs = 0, lingerMs = 1_000): void {
    this.set.turn(nowMs, lingerMs);
  }

  peer(id: number, offset: number, size: number, fin = false): void {
    this.set.data(id, offset, pattern(size, id), fin);
    this.turn();
  }

  own(): { stream: CurveStream; recorder: Recorder } {
    const stream = this.set.create();
    const recorder = new Recorder();
    stream.attach(recorder);
    this.turn();
    return { stream, recorder };
  }

  attached(index = 0): Recorder {
    const recorder = new Recorder();
    this.opened[index]!.attach(recorder);
    this.turn();
    return recorder;
  }
}

describe("StreamSet: opening", () => {
  it("create() numbers a side's streams by twos, as many as the peer allows", () => {
    for (const first of [1, 2] as const) {
      const { set } = new Bench({}, first);
      const ids = Array.from({ length: 5 }, () => set.create().id);
      assert.deepEqual(ids, [0, 2, 4, 6, 8].map((step) => first + step));
      assert.equal(set.open, 5);
      assert.throws(() => set.create(), { code: "limit_exceeded", retryable: true });
      set.maxStreams(4);
      assert.throws(() => set.create(), { code: "limit_exceeded" });
      set.maxStreams(6);
      assert.equal(set.create().id, first + 10);
    }
  });

  it("a frame of the peer's opens its stream and all below it", () => {
    const bench = new Bench();
    bench.peer(4, 0, 10);
    assert.deepEqual(bench.opened.map(({ id }) => id), [2, 4]);
    bench.peer(2, 0, 10);
    assert.equal(bench.opened.length, 2);
  });

  it("no more than streamsMax of the peer's may be open; one that ends makes room, which is told", () => {
    const bench = new Bench();
    bench.peer(6, 0, 1);
    assert.throws(() => bench.peer(8, 0, 1), { code: "frame_invalid" });
    const one = new Bench({ streamsMax: 1 });
    one.peer(2, 0, 1, true);
    one.attached();
    one.opened[0]!.closeWrite();
    const { frames, packets } = one.drain();
    assert.deepEqual(frames, ["stream 2 0+0 fin"]);
    one.set.acked(packets[0]!);
    assert.deepEqual([one.closed, one.pack().frames], [[2], ["maxStreams 2"]]);
    one.peer(4, 0, 1);
    assert.equal(one.opened.length, 2);
  });

  it("own streams that end make no room for the peer's", () => {
    const bench = new Bench();
    const { stream } = bench.own();
    stream.closeWrite();
    bench.set.acked(bench.drain().packets[0]!);
    bench.peer(1, 0, 0, true);
    assert.deepEqual([bench.closed, bench.set.open, bench.pack().frames], [[1], 0, []]);
  });

  it("a frame for an own stream that was never opened ends the connection; for one that is over it is ignored", () => {
    const bench = new Bench();
    assert.throws(() => bench.peer(1, 0, 1), { code: "frame_invalid" });
    const { stream } = bench.own();
    stream.closeWrite();
    bench.set.acked(bench.drain().packets[0]!);
    bench.peer(1, 0, 0, true);
    bench.peer(1, 0, 5);
    bench.set.reset(1, 1, 0);
    bench.set.maxStreamData(1, 99_999);
    assert.throws(() => bench.peer(3, 0, 1), { code: "frame_invalid" });
  });

  it("announced is what PARAMS says", () => {
    assert.deepEqual(new Bench().set.announced, [15_000, 10_000, 3]);
  });
});

describe("StreamSet: sending", () => {
  it("streams send in turn, a frame each, as large as the packet has room for", () => {
    const bench = new Bench();
    const [a, b] = [bench.own(), bench.own()];
    a.stream.write(pattern(2_000, 1));
    b.stream.write(pattern(100, 2));
    const first = bench.pack();
    assert.equal(first.frames.length, 1);
    assert.match(first.frames[0]!, /^stream 1 0\+11\d\d$/);
    const second = bench.pack().frames;
    assert.equal(second[0], "stream 3 0+100");
    assert.match(second[1]!, /^stream 1 11\d\d\+8\d\d$/);
    assert.equal(bench.set.sendable, false);
  });

  it("bytes are the stream's, in order, and FIN goes with the last of them", () => {
    const bench = new Bench();
    const { stream } = bench.own();
    const bytes = pattern(3_000, 1);
    stream.write(bytes);
    stream.closeWrite();
    const payload: Uint8Array[] = [];
    const frames: string[] = [];
    while (bench.set.sendable) {
      const packed = bench.pack();
      frames.push(...packed.frames);
      payload.push(packed.payload);
    }
    assert.deepEqual(new Uint8Array(Buffer.concat(payload)), bytes);
    assert.deepEqual(frames.map((frame) => frame.endsWith("fin")), [false, false, true]);
  });

  it("a piece of less than 24 bytes waits for a packet of its own, unless it is all there is", () => {
    const bench = new Bench();
    bench.own().stream.write(pattern(1_000, 1));
    assert.deepEqual(bench.pack(20).frames, []);
    assert.deepEqual(bench.pack(60).frames.length, 1);
    const small = new Bench();
    small.own().stream.write(pattern(5, 1));
    assert.deepEqual(small.pack(12).frames, ["stream 1 0+5"]);
  });

  it("a stream's credit and the connection's bound it; MAX_STREAM_DATA and MAX_DATA let it go on", () => {
    const bench = new Bench({ sendMaxBytes: 1e6 });
    const { stream } = bench.own();
    stream.write(pattern(60_000, 1));
    bench.drain(70_000);
    assert.equal(stream.bufferedBytes, 60_000 - 8_000);
    bench.set.maxStreamData(1, 7_999);
    assert.equal(bench.set.sendable, false);
    bench.set.maxStreamData(1, 60_000);
    bench.drain(70_000);
    assert.equal(stream.bufferedBytes, 10_000);
    const other = bench.own();
    other.stream.write(pattern(10, 2));
    assert.deepEqual(bench.drain().frames, []);
    bench.set.maxData(50_000);
    assert.deepEqual(bench.drain().frames, []);
    bench.set.maxData(50_005);
    bench.drain();
    bench.set.maxData(70_000);
    bench.drain(70_000);
    assert.deepEqual([stream.bufferedBytes, other.stream.bufferedBytes], [0, 0]);
  });

  it("bytes that come again with new ones after them are delivered once, in order", () => {
    const bench = new Bench();
    const all = pattern(300, 7);
    bench.set.data(2, 0, all.subarray(0, 100) as Bytes, false);
    const recorder = bench.attached();
    for (const [from, to] of [[50, 150], [100, 200], [50, 200], [190, 300]] as const) {
      bench.set.data(2, from, all.subarray(from, to) as Bytes, false);
      bench.turn();
    }
    assert.deepEqual(recorder.bytes, all);
  });

  it("what the peer says on the control stream gives it no credit", () => {
    const bench = new Bench();
    const recorder = new Recorder();
    bench.set.control.attach(recorder);
    for (let at = 0; at < CONTROL_STREAM_BYTES; at += 1_000) {
      bench.peer(0, at, Math.min(1_000, CONTROL_STREAM_BYTES - at));
    }
    assert.equal(recorder.byteLength, CONTROL_STREAM_BYTES);
    assert.deepEqual(bench.drain().frames, []);
  });

  it("stream 0 has credit of its own and none of the connection's", () => {
    const bench = new Bench();
    bench.set.control.write(pattern(CONTROL_STREAM_BYTES, 1));
    bench.drain(70_000);
    assert.equal(bench.set.control.bufferedBytes, 0);
    bench.set.data(0, 0, pattern(CONTROL_STREAM_BYTES, 1), false);
    assert.throws(() => bench.set.data(0, CONTROL_STREAM_BYTES, pattern(1), false), {
      code: "frame_invalid",
    });
    assert.equal(bench.set.open, 0);
    // Nothing of it counted: a stream still has all of the connection's.
    bench.peer(2, 0, 10_000);
    bench.peer(4, 0, 5_000);
  });

  it("write() says false from sendHighBytes on, drain comes once at sendLowBytes", () => {
    const bench = new Bench();
    const { stream, recorder } = bench.own();
    assert.equal(stream.write(pattern(3_999, 1)), true);
    assert.equal(stream.write(pattern(1, 1)), false);
    for (let i = 0; i < 2; i++) bench.pack(1_200);
    bench.turn();
    assert.equal(recorder.drains, 0);
    bench.pack(1_200);
    bench.turn();
    assert.ok(stream.bufferedBytes <= 1_000);
    assert.equal(recorder.drains, 1);
    bench.drain();
    bench.turn();
    assert.equal(recorder.drains, 1);
  });

  it("write() beyond sendMaxBytes resets the stream with stream_overflow", () => {
    const bench = new Bench();
    const { stream, recorder } = bench.own();
    stream.write(pattern(20_000, 1));
    bench.turn();
    assert.equal(recorder.closes, 0);
    stream.write(pattern(1, 1));
    bench.turn();
    assert.equal((recorder.error as SallyportError).code, "stream_overflow");
    assert.deepEqual(bench.drain().frames, ["reset 1 stream_overflow 0"]);
  });
});

describe("StreamSet: packets that are lost", () => {
  it("lost bytes go again before new ones, FIN too, and count as resent and not against credit", () => {
    const bench = new Bench();
    const { stream } = bench.own();
    stream.write(pattern(1_000, 1));
    stream.closeWrite();
    const { packet } = bench.pack();
    assert.equal(bench.set.bytesResent, 0);
    bench.set.lost(packet);
    assert.deepEqual(bench.drain().frames, ["stream 1 0+1000 fin"]);
    assert.equal(bench.set.bytesResent, 1_000);
  });

  it("each frame of a lost packet goes again, each of an acknowledged one doesn't", () => {
    const bench = new Bench();
    const [a, b, c] = [bench.own(), bench.own(), bench.own()];
    a.stream.write(pattern(10, 1));
    b.stream.write(pattern(20, 2));
    c.stream.abort();
    bench.turn();
    const { packet, frames } = bench.pack();
    assert.deepEqual(frames, ["reset 5 aborted 0", "stream 1 0+10", "stream 3 0+20"]);
    bench.set.lost(packet);
    const again = bench.pack();
    assert.deepEqual(again.frames.sort(), ["reset 5 aborted 0", "stream 1 0+10", "stream 3 0+20"]);
    bench.set.acked(again.packet);
    // The first packet is given up once more, as after a probe.
    bench.set.lost(packet);
    assert.deepEqual(bench.drain().frames.filter((frame) => frame.startsWith("stream")), []);
  });

  it("lost limits are told again as they are by then", () => {
    const bench = new Bench();
    bench.peer(2, 0, 10);
    const recorder = bench.attached();
    bench.peer(2, 10, 7_990);
    assert.equal(recorder.byteLength, 8_000);
    const { packet, frames } = bench.pack();
    assert.deepEqual(frames, ["maxData 23000", "maxStreamData 2 18000"]);
    bench.peer(2, 8_000, 1_000);
    bench.set.lost(packet);
    assert.deepEqual(bench.pack().frames, ["maxData 23000", "maxStreamData 2 18000"]);
    assert.deepEqual(bench.pack().frames, []);
  });

  it("a lost MAX_STREAMS is told again", () => {
    const bench = new Bench({ streamsMax: 1 });
    bench.peer(2, 0, 0, true);
    bench.attached();
    bench.opened[0]!.closeWrite();
    bench.set.acked(bench.drain().packets[0]!);
    const { packet, frames } = bench.pack();
    assert.deepEqual(frames, ["maxStreams 2"]);
    bench.set.lost(packet);
    assert.deepEqual(bench.pack().frames, ["maxStreams 2"]);
  });

  it("MAX_STREAM_DATA isn't said of a stream whose end is known", () => {
    const bench = new Bench();
    bench.peer(2, 0, 10);
    bench.attached();
    bench.peer(2, 10, 5_990);
    bench.set.data(2, 6_000, pattern(0), true);
    assert.deepEqual(bench.pack().frames, []);
  });
});

describe("StreamSet: receiving", () => {
  it("bytes are delivered in order, whatever order they come in, and once", () => {
    const bench = new Bench();
    const bytes = pattern(300, 9);
    bench.set.data(2, 100, bytes.slice(100, 200), false);
    const recorder = bench.attached();
    assert.equal(recorder.byteLength, 0);
    bench.set.data(2, 0, bytes.slice(0, 150), false);
    bench.set.data(2, 0, bytes.slice(0, 100), false);
    bench.set.data(2, 200, bytes.slice(200), true);
    bench.turn();
    assert.deepEqual([recorder.bytes, recorder.ends, bench.duplicates], [bytes, 1, 1]);
  });

  it("a paused reader gets bytes and the end when it resumes", () => {
    const bench = new Bench();
    bench.peer(2, 0, 1);
    const recorder = bench.attached();
    bench.opened[0]!.pause();
    bench.peer(2, 1, 50, true);
    assert.deepEqual([recorder.byteLength, recorder.ends], [1, 0]);
    bench.opened[0]!.resume();
    bench.turn();
    assert.deepEqual([recorder.byteLength, recorder.ends], [51, 1]);
  });

  it("a stream's credit is what it may bring, gaps included; a byte more ends the connection", () => {
    const bench = new Bench();
    bench.peer(2, 9_999, 1);
    assert.throws(() => bench.peer(2, 10_000, 1), { code: "frame_invalid", message: /exceeds its credit/ });
  });

  it("the connection's credit counts each byte once over all streams; a byte more ends the connection", () => {
    const bench = new Bench();
    bench.peer(2, 0, 10_000);
    bench.peer(2, 0, 10_000);
    bench.peer(4, 4_999, 1);
    assert.throws(() => bench.peer(4, 5_000, 1), { code: "frame_invalid", message: /connection's credit/ });
  });

  it("MAX_STREAM_DATA comes at half of the window, MAX_DATA at half of the connection's", () => {
    const bench = new Bench();
    bench.peer(2, 0, 0);
    const recorder = bench.attached();
    bench.peer(2, 0, 4_999);
    assert.deepEqual(bench.pack().frames, []);
    bench.peer(2, 4_999, 1);
    assert.deepEqual(bench.pack().frames, ["maxStreamData 2 15000"]);
    bench.peer(2, 5_000, 2_499);
    assert.deepEqual(bench.pack().frames, []);
    bench.peer(2, 7_499, 1);
    assert.deepEqual(bench.pack().frames, ["maxData 22500"]);
    assert.equal(recorder.byteLength, 7_500);
  });

  it("the end may not move, nor lie before bytes that came", () => {
    for (
      const act of [
        (bench: Bench) => bench.peer(2, 10, 1),
        (bench: Bench) => bench.peer(2, 0, 9, true),
        (bench: Bench) => bench.set.reset(2, 1, 11),
      ]
    ) {
      const bench = new Bench();
      bench.peer(2, 0, 10, true);
      assert.throws(() => act(bench), { code: "frame_invalid", message: /final size changes/ });
    }
    const short = new Bench();
    short.peer(2, 0, 10);
    assert.throws(() => short.peer(2, 0, 9, true), {
      code: "frame_invalid",
      message: /less than the bytes received/,
    });
  });
});

describe("StreamSet: ends", () => {
  it("a stream is over when both directions have ended and all was acknowledged", () => {
    const bench = new Bench();
    const { stream, recorder } = bench.own();
    stream.write(pattern(10, 1));
    stream.closeWrite();
    const { packets } = bench.drain();
    bench.peer(1, 0, 0, true);
    assert.deepEqual([recorder.ends, recorder.closes, bench.closed], [1, 0, []]);
    bench.set.acked(packets[0]!);
    assert.deepEqual([recorder.closes, recorder.error, bench.closed, bench.set.open], [1, undefined, [1], 0]);
  });

  it("RESET of the peer tells its reason, is answered by one, and ends the stream when that is acknowledged", () => {
    const bench = new Bench();
    const { stream, recorder } = bench.own();
    stream.write(pattern(10, 1));
    bench.drain();
    bench.set.reset(1, wireCode("endpoint_unreachable"), 5);
    bench.turn();
    assert.deepEqual([(recorder.error as SallyportError).code, recorder.closes], ["endpoint_unreachable", 1]);
    const { frames, packets } = bench.drain();
    assert.equal(frames.length, 1);
    assert.match(frames[0]!, /^reset 1 \w+ 10$/);
    assert.deepEqual(bench.closed, []);
    bench.set.acked(packets[0]!);
    assert.deepEqual(bench.closed, [1]);
  });

  it("RESET of the peer gives its bytes back as credit, those that never came too", () => {
    const bench = new Bench();
    bench.peer(2, 0, 0);
    bench.set.reset(2, 1, 9_000);
    bench.turn();
    assert.ok(bench.pack().frames.includes("maxData 24000"));
  });

  it("abort() sends RESET with its reason and the offset that was sent", () => {
    const bench = new Bench();
    const { stream, recorder } = bench.own();
    stream.write(pattern(100, 1));
    bench.pack();
    stream.write(pattern(100, 1));
    const why = new SallyportError("access_denied", "No", { side: "local" });
    stream.abort(why);
    stream.abort();
    bench.turn();
    assert.deepEqual([recorder.closes, recorder.error, stream.bufferedBytes], [1, why, 0]);
    assert.deepEqual(bench.drain().frames, ["reset 1 access_denied 100"]);
    assert.equal(stream.write(pattern(5)), true);
    stream.closeWrite();
    assert.deepEqual(bench.drain().frames, []);
  });

  it("a released stream sends what waits, drops what comes, and is reset when the peer doesn't end it in time", () => {
    const bench = new Bench();
    const { stream, recorder } = bench.own();
    stream.write(pattern(10, 1));
    stream.release();
    const { frames, packets } = bench.drain();
    assert.deepEqual(frames, ["stream 1 0+10 fin"]);
    bench.peer(1, 0, 6_000);
    assert.equal(recorder.byteLength, 0);
    assert.equal(bench.set.deadlineMs, Infinity);
    bench.set.acked(packets[0]!);
    bench.turn(500, 1_000);
    assert.equal(bench.set.deadlineMs, 1_500);
    bench.set.tick(1_499);
    assert.equal(recorder.closes, 0);
    bench.set.tick(1_500);
    bench.turn(1_500);
    assert.deepEqual([recorder.closes, bench.set.deadlineMs], [1, Infinity]);
    assert.ok(bench.drain().frames.some((frame) => frame.startsWith("reset 1 aborted 10")));
  });

  it("a released stream ends in order with the peer's end", () => {
    const bench = new Bench();
    const { stream, recorder } = bench.own();
    stream.release();
    bench.set.acked(bench.drain().packets[0]!);
    bench.turn(500, 1_000);
    bench.peer(1, 0, 100, true);
    assert.deepEqual([recorder.closes, recorder.error, bench.closed, bench.set.deadlineMs], [1, undefined, [
      1,
    ], Infinity]);
  });

  it("end() tells every stream why, and nothing is sent any more", () => {
    const bench = new Bench();
    const { stream, recorder } = bench.own();
    bench.peer(2, 0, 6_000);
    const other = bench.attached();
    stream.write(pattern(10, 1));
    stream.abort();
    const why = new SallyportError("session_idle", "Silent", { side: "network" });
    bench.set.end(why);
    bench.turn();
    assert.deepEqual([other.error, other.closes, recorder.closes, bench.set.open], [why, 1, 1, 0]);
    assert.deepEqual(bench.closed.sort(), [1, 2]);
    assert.equal(bench.set.deadlineMs, Infinity);
    stream.write(pattern(10, 1));
    bench.opened[0]!.closeWrite();
  });

  it("a handler that throws loses its stream", () => {
    const bench = new Bench();
    bench.peer(2, 0, 0);
    const recorder = bench.attached();
    recorder.onData = () => {
      throw new Error("handler's fault");
    };
    bench.peer(2, 0, 10);
    bench.turn();
    assert.equal(recorder.closes, 1);
    assert.ok(bench.drain().frames.some((frame) => frame.startsWith("reset 2 ")));
  });
});
