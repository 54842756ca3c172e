import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  type CurveCrypto,
  hkdfExpand,
  hkdfExtract,
  loadCurveCrypto,
} from "../../../src/protocol/curve/crypto.ts";
import { pattern } from "./support.ts";

const hex = (text: string) => new Uint8Array(Buffer.from(text.replace(/\s/g, ""), "hex"));
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

function conformance(name: "native" | "wasm"): void {
  describe(`curve crypto, ${name}`, () => {
    let crypto: CurveCrypto;
    it("loads", async () => {
      crypto = await loadCurveCrypto(name);
      assert.equal(crypto.name, name);
    });

    it("agrees with RFC 7748, section 5.2, and with itself from both ends", () => {
      const alice = hex("77".repeat(32));
      const bob = hex("5d".repeat(32));
      const left = crypto.shared(alice, crypto.publicKey(bob));
      const right = crypto.shared(bob, crypto.publicKey(alice));
      assert.deepEqual(left, right);
      // RFC 7748, 5.2, first vector.
      const scalar = hex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4");
      const point = hex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
      assert.equal(
        toHex(crypto.shared(scalar, point)!),
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
      );
    });

    it("refuses public keys of low order", () => {
      assert.equal(crypto.shared(pattern(32), new Uint8Array(32)), undefined);
      assert.equal(crypto.shared(pattern(32), hex("01" + "00".repeat(31))), undefined);
    });

    it("seals as RFC 8439, section 2.8.2, and opens nothing that was altered", () => {
      const plain = new TextEncoder().encode(
        "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
      );
      const key = hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
      const nonce = hex("070000004041424344454647");
      const ad = hex("50515253c0c1c2c3c4c5c6c7");
      const sealed = new Uint8Array(plain.length + 16);
      crypto.seal(sealed, plain, ad, nonce, key);
      assert.equal(toHex(sealed.subarray(0, 16)), "d31a8d34648e60db7b86afbc53ef7ec2");
      assert.equal(toHex(sealed.subarray(-16)), "1ae10b594f09e26a7e902ecbd0600691");
      const out = new Uint8Array(plain.length);
      assert.ok(crypto.open(out, sealed, ad, nonce, key));
      assert.deepEqual(out, plain);
      for (let i = 0; i < sealed.length; i += 7) {
        const altered = sealed.slice();
        altered[i] = altered[i]! ^ 1;
        assert.equal(crypto.open(out, altered, ad, nonce, key), false);
      }
      assert.equal(crypto.open(out, sealed, ad.slice(1), nonce, key), false);
    });
  });
}

conformance("native");
conformance("wasm");

describe("HKDF", () => {
  it("agrees with RFC 5869, test case 1", () => {
    const prk = hkdfExtract(hex("000102030405060708090a0b0c"), hex("0b".repeat(22)));
    assert.equal(toHex(prk), "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
  });
  it("expands past one block", () => {
    // RFC 5869's test case 3 has no info: 42 bytes.
    const prk = hkdfExtract(new Uint8Array(0), hex("0b".repeat(22)));
    assert.equal(toHex(prk), "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04");
    assert.equal(
      toHex(hkdfExpand(prk, "", 42)),
      "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    );
  });
});
