/** HTTP/2's frames, byte by byte (RFC 9113 §4, §6 and §7). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  dataFrames,
  END_STREAM,
  FRAME_MAX_BYTES,
  frameOf,
  FrameType,
  integersFrame,
  makeFrame,
  readFrameHeader,
  readSettings,
  readUint31,
  readUint32,
  Reason,
  Setting,
  settingsFrame,
} from "../../../src/wire/http2/frames.ts";

describe("makeFrame and readFrameHeader", () => {
  it("write and read a length of 24 bits, type, flags and a stream of 31 bits", () => {
    const frame = makeFrame(FrameType.CONTINUATION, 0x25, 0x7a_bc_de_f1, 0x01_02_03);
    assert.deepEqual([...frame.subarray(0, 9)], [1, 2, 3, 9, 0x25, 0x7a, 0xbc, 0xde, 0xf1]);
    assert.equal(frame.length, 9 + 0x01_02_03);
    const behind = new Uint8Array(14);
    behind.set(frame.subarray(0, 9), 5);
    assert.deepEqual(readFrameHeader(behind, 5), {
      byteLength: 0x01_02_03,
      type: 9,
      flags: 0x25,
      id: 0x7a_bc_de_f1,
    });
  });
});

describe("frameOf", () => {
  it("puts the payload after the header", () => {
    const frame = frameOf(FrameType.PING, 1, 0, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert.deepEqual([...frame], [0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
  });
});

describe("dataFrames", () => {
  it("makes full frames and a rest, of which the last one alone may end the stream", () => {
    for (const byteLength of [0, 1, FRAME_MAX_BYTES, FRAME_MAX_BYTES + 1, 3 * FRAME_MAX_BYTES - 7]) {
      const piece = Uint8Array.from({ length: byteLength }, (_, index) => index * 31);
      for (const endsStream of [false, true]) {
        const frames = dataFrames(5, piece, endsStream);
        const payload: number[] = [];
        const flags: number[] = [];
        for (let at = 0; at < frames.length;) {
          const header = readFrameHeader(frames, at);
          assert.deepEqual([header.type, header.id], [FrameType.DATA, 5]);
          flags.push(header.flags);
          const end = at + 9 + header.byteLength;
          if (end < frames.length) assert.equal(header.byteLength, FRAME_MAX_BYTES);
          for (const byte of frames.subarray(at + 9, end)) payload.push(byte);
          at = end;
        }
        assert.deepEqual(payload, [...piece]);
        assert.equal(flags.length, Math.max(1, Math.ceil(byteLength / FRAME_MAX_BYTES)));
        const last = endsStream ? END_STREAM : 0;
        assert.deepEqual(flags, [...flags.slice(0, -1).fill(0), last]);
      }
    }
  });
});

describe("integersFrame", () => {
  it("has integers of 4 bytes, highest byte first", () => {
    const frame = integersFrame(FrameType.GOAWAY, 0, 0x89_ab_cd_ef, Reason.CANCEL);
    assert.deepEqual([...frame], [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x89, 0xab, 0xcd, 0xef, 0, 0, 0, 8]);
  });
});

describe("settingsFrame and readSettings", () => {
  it("write and read 2 bytes of id and 4 of value; what is cut off is left out", () => {
    const frame = settingsFrame([[Setting.ENABLE_PUSH, 0], [0x0102, 0x03_04_05_06]]);
    assert.deepEqual([...frame], [0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]);
    const payload = frame.subarray(9);
    assert.deepEqual([...readSettings(payload)], [[2, 0], [0x0102, 0x03_04_05_06]]);
    assert.deepEqual([...readSettings(payload.subarray(0, 11))], [[2, 0]]);
  });
});

describe("readUint32 and readUint31", () => {
  it("read 4 bytes without a sign; the second drops the reserved bit", () => {
    const bytes = Uint8Array.of(0xee, 0x81, 0x23, 0x45, 0x67);
    assert.equal(readUint32(bytes, 1), 0x81_23_45_67);
    assert.equal(readUint31(bytes, 1), 0x01_23_45_67);
  });
});

describe("FrameType, Setting and Reason", () => {
  it("have the values of RFC 9113", () => {
    assert.deepEqual(Object.values(FrameType), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert.deepEqual(Object.values(Setting), [2, 3, 4, 5, 6]);
    assert.deepEqual(Object.values(Reason), [0, 1, 2, 3, 5, 6, 7, 8, 9, 11]);
  });
});
