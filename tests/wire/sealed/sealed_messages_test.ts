/** The sealed transport's messages, against bytes written by hand (docs/protocols/sealed.md). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  ANSWER_BYTES,
  decodeAnswer,
  decodeHello,
  encodeAnswer,
  encodeHello,
  HELLO_BYTES,
  mayComeFirst,
  paddingOf,
  RECORD_HEAD_BYTES,
  SEALED_PADDING_MAX_BYTES,
  SEALED_VERSION,
} from "../../../src/wire/sealed/sealed_messages.ts";

const hex = (data: Uint8Array) => Buffer.from(data).toString("hex");
const bytes = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex"));

describe("HELLO_BYTES and ANSWER_BYTES", () => {
  it("are those of the specification", () => {
    assert.deepEqual([SEALED_VERSION, HELLO_BYTES, ANSWER_BYTES, RECORD_HEAD_BYTES], [2, 15, 35, 6]);
    assert.equal(SEALED_PADDING_MAX_BYTES, 1_023);
  });
});

describe("encodeHello and decodeHello", () => {
  const table = [
    ["00000002 0123 000000006553f100 00", {
      version: 2,
      paddingBytes: 0x123,
      unixSeconds: 1_700_000_000,
      aes: false,
    }],
    ["00010203 03ff 0000000100000000 01", {
      version: 0x10203,
      paddingBytes: 1_023,
      unixSeconds: 2 ** 32,
      aes: true,
    }],
  ] as const;
  for (const [text, hello] of table) {
    it(`${text} is read and written`, () => {
      assert.equal(hex(encodeHello(hello)), text.replaceAll(" ", ""));
      assert.deepEqual(decodeHello(bytes(text)), hello);
      // Wherever it stands in a buffer.
      assert.deepEqual(decodeHello(bytes(`ffff${text}`).subarray(2)), hello);
    });
  }

  it("has whole seconds, and of its flags the lowest bit counts", () => {
    const hello = { version: 2, paddingBytes: 0, unixSeconds: 1.9, aes: false };
    assert.equal(decodeHello(encodeHello(hello)).unixSeconds, 1);
    for (const [flags, aes] of [[0, false], [1, true], [2, false], [0xfe, false], [0xff, true]] as const) {
      const message = encodeHello(hello);
      message[14] = flags;
      assert.equal(decodeHello(message).aes, aes);
    }
  });
});

describe("encodeAnswer and decodeAnswer", () => {
  it("has a key, a padding and flags, and is a copy", () => {
    const publicKey = Uint8Array.from({ length: 32 }, (_, i) => i + 1);
    for (const aes of [true, false]) {
      const answer = { publicKey, paddingBytes: 0x203, aes };
      const text = hex(publicKey) + "0203" + (aes ? "01" : "00");
      assert.equal(hex(encodeAnswer(answer)), text);
      const buffer = bytes(`ff${text}`);
      const read = decodeAnswer(buffer.subarray(1));
      buffer.fill(0);
      assert.deepEqual(read, answer);
    }
  });
});

describe("mayComeFirst and paddingOf", () => {
  it("mayComeFirst() refuses the first bytes of TLS, tokens and PROXY headers, and no others", () => {
    const refused = Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => !mayComeFirst(byte));
    assert.deepEqual(refused, [0x0d, 0x16, 0x50, 0x67]);
  });

  it("paddingOf() takes ten bits of two random bytes", () => {
    for (
      const [high, low, padding] of [[0, 0, 0], [0, 255, 255], [1, 0, 256], [3, 255, 1_023], [4, 1, 1], [
        0xff,
        0xff,
        1_023,
      ]] as const
    ) {
      assert.equal(paddingOf(high, low), padding);
    }
  });
});
