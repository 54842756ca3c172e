/** Headers and addresses against the reference's own (tests/vectors/snitun-frames.json). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { SallyportError } from "../../../src/errors.ts";
import vectors from "../../vectors/snitun-frames.json" with { type: "json" };
import * as frame from "../../../src/wire/snitun/snitun_frame.ts";
import { seedOf } from "../../support/seeded.ts";

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

describe("readHeader and writeHeader", () => {
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

  it("encodeCaller() puts the address into the header before version 2, and into the payload from then on", () => {
    for (const version of [0, 1, 2]) {
      const { extra, payload } = frame.encodeCaller(version, "192.0.2.1", zeros);
      assert.deepEqual([extra?.length, payload?.length], version < 2 ? [11, undefined] : [undefined, 16]);
    }
  });

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
        ["::FFFF:c000:201", "192.0.2.1", "192.0.2.1"],
        ["2001:db8:0:0:0::1", "0.0.0.0", "2001:db8::1"],
        // RFC 5952: the longest run of zeros, the first of two as long, and no run of one.
        ["2001:0:0:1:0:0:0:1", "0.0.0.0", "2001:0:0:1::1"],
        ["2001:db8:0:1:1:1:1:1", "0.0.0.0", "2001:db8:0:1:1:1:1:1"],
        ["fe80::1%eth0", "0.0.0.0", "fe80::1"],
        // Not mapped (RFC 4291 §2.5.5.2): these stay IPv6.
        ["::1.2.3.4", "0.0.0.0", "::102:304"],
        ["64:ff9b::192.0.2.1", "0.0.0.0", "64:ff9b::c000:201"],
      ]
    ) {
      assert.equal(frame.decodeCallerExtra(header(frame.encodeCallerExtra(address, zeros))), legacy);
      assert.equal(frame.decodeCallerPayload(frame.encodeCallerPayload(address, zeros)), current);
    }
    assert.equal(
      frame.decodeCallerPayload(bytes(`3600000000000000000000ffffc0000201${"00".repeat(15)}`)),
      "192.0.2.1",
      "a peer that doesn't normalise",
    );
    assert.equal(frame.decodeCallerExtra(header(new Uint8Array(11))), undefined);
    assert.equal(frame.decodeCallerPayload(new Uint8Array(16)), undefined);
    assert.equal(frame.decodeCallerPayload(Uint8Array.of(0x36, 1, 2, 3)), undefined);
  });

  it("fill what an address leaves with random bytes, to whole cipher blocks", () => {
    const ones = { fill: (target: Bytes) => void target.fill(0xee) };
    assert.equal(hex(frame.encodeCallerExtra("192.0.2.1", ones)), "34c0000201eeeeeeeeeeee");
    assert.equal(hex(frame.encodeCallerExtra("2001:db8::1", ones)), "3400000000eeeeeeeeeeee");
    assert.equal(hex(frame.encodeCallerPayload("192.0.2.1", ones)), `34c0000201${"ee".repeat(11)}`);
    assert.equal(
      hex(frame.encodeCallerPayload("2001:db8::1", ones)),
      `3620010db8${"00".repeat(11)}01${"ee".repeat(15)}`,
    );
    assert.equal(hex(frame.encodePing("ping", ones)), "70696e67eeeeeeeeeeeeee");
    assert.equal(hex(frame.newChannelId(ones)), "ee".repeat(16));
  });

  it("aren't made for what is no address", () => {
    for (const text of ["", "127.1", "0x7f.0.0.1", "example.org", "1.2.3.4.5", "::g", "[::1]"]) {
      for (const encode of [frame.encodeCallerExtra, frame.encodeCallerPayload]) {
        assert.throws(() => encode(text, zeros), { code: "frame_invalid", side: "local" }, text);
      }
    }
  });

  const MAX = 8 * 1024 * 1024;
  const sizes: [number, number, readonly number[], readonly number[]][] = [
    // Flag, protocol version, sizes that it may have, sizes that end the session.
    [0x01, 0, [0], [1, 16, 32, 0xffffffff]],
    [0x01, 1, [0], [1, 16, 32, 0xffffffff]],
    [0x01, 2, [16, 32], [0, 1, 15, 17, 24, 31, 33, 48, 0xffffffff]],
    ...[0, 1, 2].flatMap((version): [number, number, number[], number[]][] => [
      [0x02, version, [0, 1, MAX], [MAX + 1, 0x80000000, 0xffffffff]],
      [0x04, version, [0], [1, 0xffffffff]],
      [0x08, version, [0], [1, 0xffffffff]],
      [0x16, version, version === 0 ? [0, 1, MAX] : [0], version === 0 ? [MAX + 1] : [1, 0xffffffff]],
      [0x32, version, version === 0 ? [0, 1, MAX] : [0], version === 0 ? [MAX + 1] : [1, 0xffffffff]],
      [0x00, version, [0, 1, MAX], [MAX + 1, 0xffffffff]],
      [0xff, version, [0, 1, MAX], [MAX + 1, 0xffffffff]],
    ]),
  ];
  for (const [flag, version, allowed, refused] of sizes) {
    it(`of flag 0x${flag.toString(16)} in version ${version} have sizes that are checked`, () => {
      const check = (size: number) => {
        const header = new Uint8Array(32);
        frame.writeHeader(header, 0, new Uint8Array(16), flag, size, new Uint8Array(11));
        return frame.checkHeader(header, version);
      };
      for (const size of allowed) assert.equal(check(size), undefined, `${size}`);
      for (const size of refused) {
        assert.equal(check(size)?.code, "frame_invalid", `${size}`);
        assert.match(check(size)?.message ?? "", /announces \d+ bytes, may have /);
      }
    });
  }

  it("are read from any bytes without an exception", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 32, maxLength: 32 }),
        fc.integer({ min: 0, max: 2 }),
        (any, version) => {
          const header = new Uint8Array(any);
          const problem = frame.checkHeader(header, version);
          assert.ok(problem === undefined || problem instanceof SallyportError);
          assert.ok(problem !== undefined || frame.frameSize(header) <= MAX);
          for (const address of [frame.decodeCallerExtra(header), frame.decodeCallerPayload(header)]) {
            if (address === undefined) continue;
            assert.equal(frame.decodeCallerPayload(frame.encodeCallerPayload(address, zeros)), address);
          }
          frame.isPing(header);
          frame.isPong(header);
          // And written again they are the same bytes.
          const again = new Uint8Array(32);
          const id = header.slice(0, 16);
          const [type, size] = [frame.frameType(header), frame.frameSize(header)];
          frame.writeHeader(again, 0, id, type, size, frame.frameExtra(header));
          assert.deepEqual(again, header);
        },
      ),
      { seed: seedOf(17), numRuns: 1000 },
    );
  });

  it("tell pings from pongs", () => {
    for (const which of ["ping", "pong"] as const) {
      const header = new Uint8Array(32);
      const extra = frame.encodePing(which, zeros);
      frame.writeHeader(header, 0, frame.newChannelId(zeros), frame.FrameType.PING, 0, extra);
      assert.deepEqual([frame.isPing(header), frame.isPong(header)], [which === "ping", which === "pong"]);
      header[24] ^= 1;
      assert.deepEqual([frame.isPing(header), frame.isPong(header)], [false, false]);
    }
  });
});
