import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { checkSimpleAck, encodeSimpleAck, SIMPLE_ACK_BYTES } from "../../../src/wire/snocat/simple_ack.ts";
import {
  ANSWER_ACCEPTED,
  ANSWER_REFUSED,
  decodeAddress,
  decodeGreeting,
  encodeAddress,
  encodeGreeting,
  REQUEST_FIRST_BYTE,
} from "../../../src/wire/snocat/tunnel_request.ts";
import { TUNNEL_ADDRESS_MAX_BYTES } from "../../../src/wire/snocat/tunnel_request.ts";
import { codeOf } from "../../support/code_of.ts";
import { seedOf } from "../../support/seeded.ts";

const bytes = (hex: string): Bytes => new Uint8Array(Buffer.from(hex.replaceAll(" ", ""), "hex"));
const hex = (data: Uint8Array) => Buffer.from(data).toString("hex");

describe("encodeGreeting and decodeGreeting", () => {
  it("are NYAN and a version", () => {
    assert.equal(hex(encodeGreeting()), "4e59414e00");
    assert.equal(decodeGreeting(bytes("4e 59 41 4e 00")), 0);
    assert.equal(decodeGreeting(bytes("4e 59 41 4e 07 ff")), 7);
  });

  it("begin with a byte of their own, and are answered by 0 or 1", () => {
    assert.deepEqual([REQUEST_FIRST_BYTE, ANSWER_ACCEPTED, ANSWER_REFUSED], [0x4e, 0, 1]);
  });

  it("are waited for at every byte, and refused at the first wrong one", () => {
    const whole = bytes("4e 59 41 4e 00");
    for (let length = 0; length < whole.length; length++) {
      assert.equal(decodeGreeting(whole.subarray(0, length)), undefined);
      if (length === 4) continue;
      const wrong = whole.slice(0, length + 1);
      wrong[length] ^= 0x20;
      assert.throws(() => decodeGreeting(wrong), { code: "request_invalid" });
    }
  });
});

describe("encodeAddress and decodeAddress", () => {
  it("stand after a length of four bytes", () => {
    assert.equal(hex(encodeAddress("/a")), "00000002" + "2f61");
    assert.equal(hex(encodeAddress("")), "00000000");
    assert.equal(hex(encodeAddress("/é")), "00000003" + "2fc3a9");
    assert.deepEqual(decodeAddress(bytes("00000000")), { address: "", size: 4 });
    assert.deepEqual(decodeAddress(bytes("00000003 2fc3a9 ffff")), { address: "/é", size: 7 });
    // A byte order mark is a character of the address.
    assert.deepEqual(decodeAddress(bytes("00000003 efbbbf")), { address: "\ufeff", size: 7 });
  });

  it("are waited for at every byte", () => {
    const whole = encodeAddress("/proxy-tcp/tcp/80");
    for (let length = 0; length < whole.length; length++) {
      assert.equal(decodeAddress(whole.subarray(0, length)), undefined);
    }
  });

  it("have at most 2048 bytes, which is judged by the length alone", () => {
    const longest = "/" + "a".repeat(TUNNEL_ADDRESS_MAX_BYTES - 1);
    assert.equal(decodeAddress(encodeAddress(longest))?.address, longest);
    assert.throws(() => encodeAddress(longest + "a"), { code: "address_invalid" });
    for (const length of ["00000801", "7fffffff", "80000000", "ffffffff"]) {
      assert.throws(() => decodeAddress(bytes(length)), { code: "request_invalid" });
    }
  });

  it("are UTF-8", () => {
    for (const text of ["80", "c3", "c080", "eda080", "f5808080"]) {
      const body = bytes(text);
      const whole = new Uint8Array([0, 0, 0, body.length, ...body]);
      assert.throws(() => decodeAddress(whole), { code: "request_invalid" });
    }
  });

  it("come back as they were, wherever they lie in a buffer", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "grapheme", maxLength: 200 }),
        fc.nat(9),
        fc.uint8Array(),
        (text, at, more) => {
          const encoded = encodeAddress(text);
          const buffer = new Uint8Array(at + encoded.length + more.length);
          buffer.set(encoded, at);
          buffer.set(more, at + encoded.length);
          assert.deepEqual(decodeAddress(buffer.subarray(at)), { address: text, size: encoded.length });
        },
      ),
      { seed: seedOf(45), numRuns: 100 },
    );
  });

  it("any bytes are an address, too few, or refused", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (data) => {
        for (const decode of [decodeGreeting, decodeAddress]) {
          assert.match(codeOf(() => decode(new Uint8Array(data))), /^(none|request_invalid)$/);
        }
      }),
      { seed: seedOf(46), numRuns: 100 },
    );
  });
});

describe("encodeSimpleAck and checkSimpleAck", () => {
  it("is HELO and HELO/HELO, filled up to 64 bytes with zeros", () => {
    assert.equal(hex(encodeSimpleAck("hello")), "48454c4f" + "00".repeat(60));
    assert.equal(hex(encodeSimpleAck("answer")), "48454c4f2f48454c4f" + "00".repeat(55));
  });

  for (const message of ["hello", "answer"] as const) {
    it(`waits for the whole ${message}, and refuses at the first wrong byte`, () => {
      const whole = encodeSimpleAck(message);
      for (let length = 0; length <= SIMPLE_ACK_BYTES; length++) {
        assert.equal(checkSimpleAck(message, whole.subarray(0, length)), length === SIMPLE_ACK_BYTES);
        if (length === SIMPLE_ACK_BYTES) continue;
        const wrong = whole.slice(0, length + 1);
        wrong[length] ^= 1;
        assert.throws(() => checkSimpleAck(message, wrong), { code: "credential_refused" });
      }
      assert.ok(checkSimpleAck(message, new Uint8Array([...whole, 9])));
    });
  }
});
