import assert from "node:assert/strict";
import { describe, it, test } from "node:test";
import fc from "fast-check";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import * as frames from "../../../src/wire/curve/curve_frame.ts";
import { RangeSet } from "../../../src/protocol/curve/range_set.ts";
import { errorCode } from "../../../src/errors.ts";
import { seedOf } from "../../support/seeded.ts";
import { codeOf } from "../../support/code_of.ts";

type Heard = unknown[];

function listener(heard: Heard): frames.FrameSink {
  return {
    ping: () => heard.push(["ping"]),
    ack: (ranges, delay) =>
      heard.push([
        "ack",
        delay,
        Array.from({ length: ranges.count }, (_, i) => [ranges.low[i], ranges.high[i]]),
      ]),
    stream: (id, offset, data, fin) => heard.push(["stream", id, offset, [...data], fin]),
    reset: (...args) => heard.push(["reset", ...args]),
    maxData: (...args) => heard.push(["maxData", ...args]),
    maxStreamData: (...args) => heard.push(["maxStreamData", ...args]),
    maxStreams: (...args) => heard.push(["maxStreams", ...args]),
    pathChallenge: (data) => heard.push(["challenge", [...data]]),
    pathResponse: (data) => heard.push(["response", [...data]]),
    close: (...args) => heard.push(["close", ...args]),
    params: (...args) => heard.push(["params", ...args]),
    connectionId: (id) => heard.push(["id", [...id]]),
  };
}

function write(run: (writer: frames.FrameWriter) => void): Bytes {
  const writer = new frames.FrameWriter(new Uint8Array(4_096));
  writer.reset(4_096);
  run(writer);
  return writer.written.slice();
}

function read(bytes: Bytes): { heard: Heard; eliciting: boolean } {
  const heard: Heard = [];
  return { heard, eliciting: frames.readFrames(bytes, listener(heard), new frames.AckRanges()) };
}

const { FrameType } = frames;
const EIGHT = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);

/** One of each, with what is heard of it. */
const SAMPLES: [name: string, bytes: Bytes, heard: unknown[], eliciting: boolean][] = [
  ["ping", write((w) => frames.writeControl(w, FrameType.ping)), ["ping"], true],
  [
    "reset",
    write((w) => frames.writeControl(w, FrameType.reset, 7, 2, 70_000)),
    ["reset", 7, 2, 70_000],
    true,
  ],
  ["max data", write((w) => frames.writeControl(w, FrameType.maxData, 2 ** 40)), ["maxData", 2 ** 40], true],
  ["max stream data", write((w) => frames.writeControl(w, FrameType.maxStreamData, 3, 999)), [
    "maxStreamData",
    3,
    999,
  ], true],
  ["max streams", write((w) => frames.writeControl(w, FrameType.maxStreams, 63)), ["maxStreams", 63], true],
  [
    "challenge",
    write((w) => frames.writeFixed(w, FrameType.pathChallenge, EIGHT)),
    ["challenge", [...EIGHT]],
    true,
  ],
  [
    "response",
    write((w) => frames.writeFixed(w, FrameType.pathResponse, EIGHT)),
    ["response", [...EIGHT]],
    true,
  ],
  [
    "connection id",
    write((w) => frames.writeFixed(w, FrameType.connectionId, EIGHT)),
    ["id", [...EIGHT]],
    true,
  ],
  [
    "close",
    write((w) => frames.writeClose(w, 18, "auf Wiederhören")),
    ["close", 18, "auf Wiederhören"],
    false,
  ],
  ["params", write((w) => frames.writeControl(w, FrameType.params, 1, 64, 16_384, 2 ** 30)), [
    "params",
    1,
    64,
    16_384,
    2 ** 30,
  ], true],
  [
    "stream",
    write((w) => {
      frames.writeStreamHead(w, 5, 1_000, 3, true);
      w.bytes(Uint8Array.of(9, 8, 7));
    }),
    ["stream", 5, 1_000, [9, 8, 7], true],
    true,
  ],
];

describe("readFrames and FrameWriter", () => {
  for (const [name, bytes, heard, eliciting] of SAMPLES) {
    it(`${name}: read as written, refused when cut at any byte`, () => {
      assert.deepEqual(read(bytes), { heard: [heard], eliciting });
      for (let size = 1; size < bytes.length; size++) {
        assert.throws(
          () => read(bytes.slice(0, size)),
          (error) => errorCode(error) === "frame_invalid",
          `${size} bytes`,
        );
      }
    });
  }

  it("one after the other, padding between", () => {
    const all = write((writer) => {
      for (const [, bytes] of SAMPLES) {
        writer.bytes(bytes);
        writer.byte(0);
      }
    });
    assert.deepEqual(read(all), { heard: SAMPLES.map(([, , heard]) => heard), eliciting: true });
  });

  it("padding alone asks for nothing", () => {
    assert.deepEqual(read(new Uint8Array(20)), { heard: [], eliciting: false });
  });

  it("a long reason is cut, an unknown type and a number beyond 2^53 are refused", () => {
    const cut = read(write((w) => frames.writeClose(w, 1, "ä".repeat(500)))).heard[0] as unknown[];
    assert.equal(cut[2], "ä".repeat(128));
    assert.throws(() => read(Uint8Array.of(0x2a)), /frame type 42/);
    assert.throws(() => read(Uint8Array.of(6, 0xff, 255, 255, 255, 255, 255, 255, 255)), /2\^53/);
  });

  it("an ACK goes below 0 nowhere", () => {
    assert.throws(() => read(Uint8Array.of(2, 5, 0, 0, 6)), /below 0/);
    assert.throws(() => read(Uint8Array.of(2, 5, 0, 1, 1, 3, 0)), /below 0/);
    assert.throws(
      () => read(Uint8Array.of(2, 5, 0, 64 | 0x40, 64)),
      (error) => errorCode(error) === "frame_invalid",
    );
  });
});

test("ACK: ranges are read as written, the highest ones when they don't all fit", () => {
  const sizes = fc.array(fc.tuple(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 300 })), {
    minLength: 1,
    maxLength: 100,
  });
  fc.assert(
    fc.property(sizes, fc.integer({ min: 40, max: 2_000 }), (gaps, room) => {
      const set = new RangeSet();
      let at = 0;
      for (const [gap, length] of gaps) {
        set.add(at + gap, at + gap + length);
        at += gap + length;
      }
      const writer = new frames.FrameWriter(new Uint8Array(2_000));
      writer.reset(room);
      assert.ok(frames.writeAck(writer, set, 12_345));
      assert.ok(writer.room >= 0, "it wrote past its room");
      const [, delay, ranges] = read(writer.written).heard[0] as [string, number, [number, number][]];
      assert.equal(delay, 12_345);
      assert.ok(ranges.length <= frames.ACK_RANGES_MAX && ranges.length >= Math.min(1, set.size));
      ranges.forEach(([low, high], i) => {
        const index = set.size - 1 - i;
        assert.deepEqual([low, high], [set.start(index), set.end(index) - 1]);
      });
    }),
    { seed: seedOf(3), numRuns: 300 },
  );
});

test("ACK: at most ACK_RANGES_MAX ranges are written, and taken", () => {
  const set = new RangeSet();
  for (let i = 0; i < frames.ACK_RANGES_MAX + 5; i++) set.add(3 * i, 3 * i + 1);
  const ack = write((w) => assert.ok(frames.writeAck(w, set, 0)));
  const [, , ranges] = read(ack).heard[0] as [string, number, [number, number][]];
  assert.equal(ranges.length, frames.ACK_RANGES_MAX);
  // Largest, delay, further ranges, and pairs of zeros: each range is one number, two below the last.
  const raw = (further: number) => {
    const writer = new frames.FrameWriter(new Uint8Array(4_096));
    writer.reset(4_096);
    writer.byte(FrameType.ack);
    for (const value of [10_000, 0, further, 0]) writer.varint(value);
    for (let i = 0; i < 2 * further; i++) writer.varint(0);
    return writer.written.slice();
  };
  assert.equal(codeOf(() => read(raw(frames.ACK_RANGES_MAX - 1))), "none");
  assert.equal(codeOf(() => read(raw(frames.ACK_RANGES_MAX))), "frame_invalid");
});

test("ACK: needs room for its largest number, its delay and one range, and stays in its room", () => {
  const set = new RangeSet();
  for (let i = 0; i < 5; i++) set.add(100_000 * i + 70_000, 100_000 * i + 140_000);
  const written = (room: number) => {
    const writer = new frames.FrameWriter(new Uint8Array(200));
    writer.reset(room);
    const whole = frames.writeAck(writer, set, 20_000);
    assert.ok(writer.room >= 0);
    return whole
      ? read(writer.written).heard.map((heard) => (heard as [string, number, unknown[]])[2].length)
      : [];
  };
  // A type, four bytes each of number and delay, a count and a range of up to eight bytes.
  assert.deepEqual([written(17), written(18)], [[], [1]]);
  // And 16 bytes for each further one.
  assert.deepEqual([written(33), written(34), written(50), written(200)], [[1], [2], [3], [5]]);
});

test("arbitrary bytes are read or refused, never anything else", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      assert.match(codeOf(() => read(bytes as Bytes)), /^(none|frame_invalid)$/);
    }),
    { seed: seedOf(5), numRuns: 3_000 },
  );
});

test("varints: every length, both ends", () => {
  for (
    const value of [
      0,
      63,
      64,
      16_383,
      16_384,
      2 ** 30 - 1,
      2 ** 30,
      2 ** 32,
      2 ** 32 + 5,
      Number.MAX_SAFE_INTEGER,
    ]
  ) {
    const bytes = write((writer) => frames.writeControl(writer, FrameType.maxData, value));
    assert.equal(bytes.length, 1 + frames.varintBytes(value));
    assert.deepEqual(read(bytes).heard, [["maxData", value]]);
  }
});
