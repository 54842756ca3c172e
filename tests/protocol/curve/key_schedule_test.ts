/** PacketKey: whole packets sealed and opened; the handshake's keys are in vectors_test.ts. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { TAG_BYTES } from "../../../src/crypto/sodium.ts";
import { PacketKey } from "../../../src/protocol/curve/key_schedule.ts";
import {
  DATA_HEAD_BYTES,
  INIT_HEAD_BYTES,
  writeDataHead,
  writeInitHead,
} from "../../../src/wire/curve/curve_packet.ts";
import { pattern } from "../../support/seeded.ts";
import { cryptoForTests } from "./support.ts";

const crypto = await cryptoForTests();
const key = new PacketKey(crypto, pattern(44));
const other = new PacketKey(crypto, pattern(44, 2));

/** A sealed packet of `size` bytes of data, and its head's length. */
function sealed(size: number, kind: "data" | "init" = "data") {
  const head = kind === "data" ? DATA_HEAD_BYTES : INIT_HEAD_BYTES;
  const packet = new Uint8Array(head + size + TAG_BYTES);
  if (kind === "data") writeDataHead(packet, pattern(8, 3), 77);
  else writeInitHead(packet, pattern(32, 4), pattern(32, 5), 77);
  assert.equal(key.seal(packet, head, pattern(size, 6)), packet.length);
  return { packet, head };
}

describe("PacketKey", () => {
  for (const kind of ["data", "init"] as const) {
    it(`opens what it has sealed, and nothing altered: ${kind}`, () => {
      const { packet, head } = sealed(50, kind);
      const room = new Uint8Array(packet.length);
      assert.deepEqual(key.open(packet, head, room), pattern(50, 6));
      assert.equal(other.open(packet, head, room), undefined);
      for (let at = 0; at < packet.length; at += 7) {
        const altered = packet.slice();
        altered[at]! ^= 1;
        assert.equal(key.open(altered, head, room), undefined, `byte ${at}`);
      }
    });
  }

  it("opens an empty packet, and none that is shorter than its head and tag", () => {
    const { packet, head } = sealed(0);
    const room = new Uint8Array(1_500);
    assert.deepEqual(key.open(packet, head, room), new Uint8Array(0));
    for (const length of [packet.length - 1, head, head - 1]) {
      assert.equal(key.open(packet.subarray(0, length), head, room), undefined, `${length} bytes`);
    }
  });

  it("opens no packet that is larger than its room", () => {
    const { packet, head } = sealed(50);
    assert.notEqual(key.open(packet, head, new Uint8Array(packet.length)), undefined);
    assert.equal(key.open(packet, head, new Uint8Array(packet.length - 1)), undefined);
  });
});
