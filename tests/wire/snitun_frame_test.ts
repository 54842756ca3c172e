/** Headers and addresses against the reference's own (tests/vectors/snitun-frames.json). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../src/bytes/bytes.ts";
import vectors from "../vectors/snitun-frames.json" with { type: "json" };
import * as frame from "../../src/wire/snitun_frame.ts";

interface Vector {
  flow: keyof typeof frame.FrameType;
  channel: string;
  extra: string;
  data: string;
  header: string;
}
interface Case {
  cipher: string;
  protocol_version: number;
  frames: Vector[];
}
const cases = vectors.cases as Case[];
const bytes = (hex: string): Bytes => new Uint8Array(Buffer.from(hex, "hex"));
const hex = (data: Uint8Array) => Buffer.from(data).toString("hex");
const zeros = { fill: (target: Bytes) => void target.fill(0) };

describe("SniTun frames", () => {
  for (const { cipher, protocol_version, frames } of cases) {
    it(`of the reference, ${cipher}, version ${protocol_version}, both ways`, () => {
      for (const vector of frames) {
        const type = frame.FrameType[vector.flow];
        const size = vector.data.length / 2;
        const header = new Uint8Array(40);
        frame.writeHeader(header, 4, bytes(vector.channel), type, size, bytes(vector.extra));
        assert.equal(hex(header.subarray(4, 36)), vector.header);
        const parsed = bytes(vector.header);
        assert.deepEqual([frame.frameType(parsed), frame.frameSize(parsed)], [type, size]);
        assert.equal(hex(frame.frameExtra(parsed)), vector.extra);
        assert.equal(frame.checkHeader(parsed, protocol_version), undefined);
        if (vector.flow === "NEW") {
          const address = protocol_version < 2
            ? frame.decodeCallerExtra(parsed)
            : frame.decodeCallerPayload(bytes(vector.data));
          const random = {
            fill: (target: Bytes) =>
              target.set(bytes(protocol_version < 2 ? vector.extra : vector.data).subarray(0, target.length)),
          };
          const again = protocol_version < 2
            ? frame.encodeCallerExtra(address!, random)
            : frame.encodeCallerPayload(address!, random);
          assert.equal(hex(again), protocol_version < 2 ? vector.extra : vector.data);
        }
      }
    });
  }

  it("carry sizes of 32 bits", () => {
    const header = new Uint8Array(32);
    for (const size of [0, 1, 255, 256, 65_535, 0x7fffffff, 0x80000000, 0xffffffff]) {
      frame.writeHeader(header, 0, new Uint8Array(16), frame.FrameType.DATA, size, new Uint8Array(11));
      assert.equal(frame.frameSize(header), size);
    }
  });

  it("name callers by address; a mapped IPv4 address is IPv4, and versions 0 and 1 know no IPv6", () => {
    const header = (extra: Bytes) => {
      const out = new Uint8Array(32);
      frame.writeHeader(out, 0, new Uint8Array(16), frame.FrameType.NEW, 0, extra);
      return out;
    };
    for (
      const [address, legacy, current] of [
        ["192.0.2.1", "192.0.2.1", "192.0.2.1"],
        ["::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"],
        ["2001:db8:0:0:0::1", "0.0.0.0", "2001:db8::1"],
      ]
    ) {
      assert.equal(frame.decodeCallerExtra(header(frame.encodeCallerExtra(address, zeros))), legacy);
      assert.equal(frame.decodeCallerPayload(frame.encodeCallerPayload(address, zeros)), current);
    }
    assert.equal(frame.decodeCallerPayload(new Uint8Array(16)), undefined);
    assert.equal(frame.decodeCallerPayload(Uint8Array.of(0x36, 1, 2, 3)), undefined);
  });

  it("tell pings from pongs", () => {
    for (const which of ["ping", "pong"] as const) {
      const header = new Uint8Array(32);
      const extra = frame.encodePing(which, zeros);
      frame.writeHeader(header, 0, frame.newChannelId(zeros), frame.FrameType.PING, 0, extra);
      assert.deepEqual([frame.isPing(header), frame.isPong(header)], [which === "ping", which === "pong"]);
    }
  });
});
