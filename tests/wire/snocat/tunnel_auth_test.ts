import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import {
  AuthMessage,
  decodeAuthMessage,
  decodeAuthOffer,
  encodeAuthMessage,
  encodeAuthOffer,
} from "../../../src/wire/snocat/tunnel_auth.ts";
import { TUNNEL_AUTH_MESSAGE_MAX_BYTES } from "../../../src/wire/snocat/tunnel_auth.ts";
import { codeOf } from "../../support/code_of.ts";
import { seedOf } from "../../support/seeded.ts";

const hex = (data: Uint8Array) => Buffer.from(data).toString("hex");
const bytes = (text: string): Bytes => new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex"));

describe("encodeAuthOffer and decodeAuthOffer", () => {
  it("is as docs/protocols/tunnels.md says", () => {
    const offer = encodeAuthOffer(["secret", "simple-ack"]);
    assert.equal(hex(offer), "4e414d45" + "00" + "02" + "06736563726574" + "0a73696d706c652d61636b");
    assert.deepEqual(decodeAuthOffer(offer), { methods: ["secret", "simple-ack"], size: offer.length });
  });

  it("has 1 to 16 methods", () => {
    const offer = (count: number) =>
      codeOf(() => encodeAuthOffer(Array.from({ length: count }, (_, i) => `m${i}`)));
    assert.deepEqual([0, 1, 16, 17].map(offer), ["config_invalid", "none", "none", "config_invalid"]);
  });

  it("is waited for at every byte, and taken off what follows", () => {
    const offer = encodeAuthOffer(["token", "secret", "a"]);
    for (let length = 0; length < offer.length; length++) {
      assert.equal(decodeAuthOffer(offer.subarray(0, length)), undefined);
    }
    assert.equal(decodeAuthOffer(new Uint8Array([...offer, 1, 2]))?.size, offer.length);
  });

  const bad = [
    "00",
    "4e414d4501",
    "4e414d4500 00",
    "4e414d4500 11",
    "4e414d4500 01 00",
    "4e414d4500 01 21",
    "4e414d4500 01 05 41",
  ];
  for (const text of bad) {
    it(`of bytes ${text} is refused at once`, () => {
      assert.throws(() => decodeAuthOffer(bytes(text)), { code: "request_invalid" });
    });
  }

  for (const methods of [[], Array(17).fill("a"), [""], ["A"], ["a b"], ["a".repeat(33)]]) {
    it(`of ${JSON.stringify(methods).slice(0, 40)} can't be made`, () => {
      assert.throws(() => encodeAuthOffer(methods), { code: "config_invalid" });
    });
  }

  it("comes back as it was", () => {
    const methods = fc.array(fc.stringMatching(/^[a-z0-9-]{1,32}$/), { minLength: 1, maxLength: 16 });
    fc.assert(
      fc.property(methods, (names) => {
        assert.deepEqual(decodeAuthOffer(encodeAuthOffer(names))?.methods, names);
      }),
      { seed: seedOf(43), numRuns: 100 },
    );
  });
});

describe("encodeAuthMessage and decodeAuthMessage", () => {
  it("has a type and a length", () => {
    assert.equal(hex(encodeAuthMessage(AuthMessage.STEP, bytes("aabb"))), "00" + "0002" + "aabb");
    assert.equal(hex(encodeAuthMessage(AuthMessage.REFUSED, bytes(""))), "02" + "0000");
  });

  it("is waited for at every byte", () => {
    const message = encodeAuthMessage(AuthMessage.ACCEPTED, new Uint8Array(300));
    for (let length = 0; length < message.length; length++) {
      assert.equal(decodeAuthMessage(message.subarray(0, length)), undefined);
    }
    assert.deepEqual(decodeAuthMessage(new Uint8Array([...message, 9])), {
      type: AuthMessage.ACCEPTED,
      body: new Uint8Array(300),
      size: 303,
    });
  });

  it("is judged by its head", () => {
    assert.throws(() => decodeAuthMessage(bytes("03")), { code: "request_invalid" });
    assert.throws(() => decodeAuthMessage(bytes("00 4001")), { code: "request_invalid" });
    const most = new Uint8Array(TUNNEL_AUTH_MESSAGE_MAX_BYTES);
    assert.equal(decodeAuthMessage(encodeAuthMessage(0, most))?.body.length, most.length);
    assert.throws(() => encodeAuthMessage(0, new Uint8Array(most.length + 1)), { code: "config_invalid" });
  });

  it("any bytes are a message, too few, or refused", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (data) => {
        for (const decode of [decodeAuthMessage, decodeAuthOffer]) {
          assert.match(codeOf(() => decode(new Uint8Array(data))), /^(none|request_invalid)$/);
        }
      }),
      { seed: seedOf(44), numRuns: 100 },
    );
  });
});
