import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, it } from "node:test";
import { decodeBase64Url, decodedLength, sextet } from "../../src/crypto/base64url.ts";
import { ascii, toHex } from "./vectors.ts";
import { seededBytes } from "../support/seeded.ts";

function decode(text: string): string | undefined {
  const target = new Uint8Array(3 + text.length + 2);
  const length = decodeBase64Url(ascii(text), target, 3);
  return length < 0 ? undefined : toHex(target.slice(3, 3 + length));
}

function encode(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64").replaceAll("+", "-").replaceAll("/", "_");
}

describe("decodeBase64Url", () => {
  it("decodes what the runtime encodes, of every length", () => {
    const bytes = seededBytes(3);
    for (let length = 0; length <= 200; length++) {
      const value = bytes(length);
      const text = encode(value);
      assert.equal(decodedLength(ascii(text)), length);
      assert.equal(decode(text), toHex(value));
    }
  });

  it("decodes RFC 4648's examples", () => {
    assert.equal(decode(""), "");
    assert.equal(decode("Zg=="), "66");
    assert.equal(decode("Zm8="), "666f");
    assert.equal(decode("Zm9v"), "666f6f");
    assert.equal(decode("Zm9vYmFy"), "666f6f626172");
  });

  it("knows its 64 characters and no other", () => {
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (let char = 0; char < 256; char++) {
      assert.equal(sextet(char), alphabet.indexOf(String.fromCharCode(char)));
    }
  });

  it("refuses a wrong character in any place", () => {
    for (const text of ["Zm9vYmFy", "Zm9vYmE=", "Zm9vYg=="]) {
      for (let at = 0; at < text.length; at++) {
        for (const wrong of ["+", "/", "=", " ", "\n", "\0", "\x80", "\xff"]) {
          if (wrong === text[at]) continue;
          assert.equal(
            decode(text.slice(0, at) + wrong + text.slice(at + 1)),
            undefined,
            `${text} ${at} ${wrong}`,
          );
        }
      }
    }
  });

  it("refuses missing, additional and misplaced padding, and bits after the last byte", () => {
    for (
      const text of [
        "Zg",
        "Zg=",
        "Zg===",
        "Zm8",
        "Zm8==",
        "Zm9v=",
        "Zm9v====",
        "=",
        "====",
        "Z===",
        "Zg==Zg==",
      ]
    ) {
      assert.equal(decode(text), undefined, text);
    }
    for (const text of ["Zh==", "Zv==", "Zm9=", "Zm-="]) assert.equal(decode(text), undefined, text);
  });
});
