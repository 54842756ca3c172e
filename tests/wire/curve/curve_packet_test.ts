/** The curve transport's packets, byte by byte (docs/protocols/curve.md, Packets). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  COOKIE_PACKET_BYTES,
  DATA_HEAD_BYTES,
  DATAGRAM_MIN_BYTES,
  headBytes,
  HELLO_BYTES,
  idText,
  INIT_HEAD_BYTES,
  keyText,
  packetNonce,
  packetType,
  readCookie,
  readHello,
  readNumber,
  READY_HEAD_BYTES,
  writeCookie,
  writeDataHead,
  writeHello,
  writeInitHead,
  writeReadyHead,
} from "../../../src/wire/curve/curve_packet.ts";
import { pattern } from "../../support/seeded.ts";

const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const KEY = pattern(32, 1);
const OTHER = pattern(32, 2);
const THIRD = pattern(32, 3);
const COOKIE = pattern(32, 4);
const PREFIX = "535001";
/** Six bytes, each another. */
const NUMBER = 0x0102_0304_0506;
const NUMBER_HEX = "010203040506";

describe("the packets of curve: headBytes, readHello, readCookie", () => {
  it("have the specification's sizes", () => {
    assert.deepEqual(
      [
        DATAGRAM_MIN_BYTES,
        HELLO_BYTES,
        COOKIE_PACKET_BYTES,
        INIT_HEAD_BYTES,
        READY_HEAD_BYTES,
        DATA_HEAD_BYTES,
      ],
      [1_088, 192, 132, 74, 74, 18],
    );
  });

  it("HELLO is prefix, 1, key and zeros", () => {
    const packet = new Uint8Array(200).fill(0xee);
    assert.equal(writeHello(packet, KEY), 192);
    assert.equal(toHex(packet.subarray(0, 192)), PREFIX + "01" + toHex(KEY) + "00".repeat(156));
    assert.equal(packet[192], 0xee);
    assert.deepEqual(readHello(packet.slice(0, 192)), KEY);
    for (const size of [191, 193]) assert.equal(readHello(packet.slice(0, size)), undefined);
  });

  it("COOKIE is prefix, 2, three keys and the cookie", () => {
    const packet = new Uint8Array(132);
    const parts = { connectionKey: KEY, serverKey: OTHER, minuteKey: THIRD, cookie: COOKIE };
    assert.equal(writeCookie(packet, parts), 132);
    assert.equal(toHex(packet), PREFIX + "02" + [KEY, OTHER, THIRD, COOKIE].map(toHex).join(""));
    assert.deepEqual(readCookie(packet), parts);
    for (const size of [131, 133]) assert.equal(readCookie(new Uint8Array(size)), undefined);
  });

  it("INIT, READY and DATA begin with prefix, type, their names and six bytes of number", () => {
    const packet = new Uint8Array(80);
    assert.equal(writeInitHead(packet, KEY, COOKIE, NUMBER), 74);
    assert.equal(toHex(packet.subarray(0, 74)), PREFIX + "03" + toHex(KEY) + toHex(COOKIE) + NUMBER_HEX);
    assert.equal(writeReadyHead(packet, KEY, OTHER, NUMBER), 74);
    assert.equal(toHex(packet.subarray(0, 74)), PREFIX + "04" + toHex(KEY) + toHex(OTHER) + NUMBER_HEX);
    assert.equal(writeDataHead(packet, KEY, NUMBER), 18);
    assert.equal(toHex(packet.subarray(0, 18)), PREFIX + "05" + toHex(KEY.subarray(0, 8)) + NUMBER_HEX);
  });

  it("readNumber() gives every number back, up to 48 bits", () => {
    const packet = new Uint8Array(40);
    for (const number of [0, 1, 255, 65_535, 2 ** 24, 2 ** 31, 2 ** 32 - 1, 2 ** 32, NUMBER, 2 ** 48 - 1]) {
      writeDataHead(packet, KEY, number);
      assert.equal(readNumber(packet, DATA_HEAD_BYTES), number);
    }
  });

  it("packetType() knows this protocol's prefix alone", () => {
    assert.equal(packetType(new Uint8Array([0x53, 0x50, 0x01, 5])), 5);
    for (const wrong of [[0x52, 0x50, 1, 5], [0x53, 0x51, 1, 5], [0x53, 0x50, 2, 5], [0x53, 0x50, 1]]) {
      assert.equal(packetType(new Uint8Array(wrong)), 0);
    }
  });

  it("headBytes() needs the tag and a byte more", () => {
    for (const [type, head] of [[3, 74], [4, 74], [5, 18]] as const) {
      const packet = new Uint8Array(head + 17);
      packet.set([0x53, 0x50, 0x01, type]);
      assert.equal(headBytes(packet), head);
      assert.equal(headBytes(packet.subarray(0, -1)), 0);
    }
    for (const type of [0, 1, 2, 6]) {
      const packet = new Uint8Array(200);
      packet.set([0x53, 0x50, 0x01, type]);
      assert.equal(headBytes(packet), 0);
    }
  });

  it("packetNonce() is the iv with the number over its last six bytes", () => {
    const iv = pattern(12, 7);
    const nonce = new Uint8Array(12);
    packetNonce(nonce, iv, NUMBER);
    const expected = iv.map((byte, i) => i < 6 ? byte : byte ^ (i - 5));
    assert.deepEqual(nonce, expected);
    packetNonce(nonce, iv, 0);
    assert.deepEqual(nonce, iv);
  });

  it("idText() and keyText() differ where any byte does", () => {
    const ids = new Set([idText(KEY, 0)]);
    for (let i = 0; i < 8; i++) {
      for (const bit of [1, 0x80]) {
        const other = KEY.slice();
        other[i]! ^= bit;
        ids.add(idText(other, 0));
      }
    }
    assert.equal(ids.size, 17);
    const keys = new Set([keyText(KEY)]);
    for (let i = 0; i < 32; i++) {
      const other = KEY.slice();
      other[i]! ^= 1;
      keys.add(keyText(other));
    }
    assert.equal(keys.size, 33);
    assert.equal(keyText(KEY).length, 16);
    assert.equal(idText(KEY, 8), keyText(KEY).slice(4, 8));
  });
});
