/** HKDF with SHA-256 against RFC 5869. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { hkdfExpand, hkdfExtract, sha256 } from "../../src/crypto/hkdf.ts";

const hex = (text: string) => new Uint8Array(Buffer.from(text.replace(/\s/g, ""), "hex"));
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

describe("sha256()", () => {
  it("takes texts and bytes one after the other (FIPS 180-2, abc)", () => {
    const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert.equal(toHex(sha256("a", hex("62"), "c")), abc);
  });
});

describe("hkdfExtract and hkdfExpand", () => {
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
