import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createCipheriv, createHmac } from "node:crypto";
import { describe, it } from "node:test";
import fernetPackage from "fernet";
import type { Bytes } from "../../src/bytes/bytes.ts";
import {
  couldBeComplete,
  FernetError,
  type FernetFault,
  FernetRing,
  generateFernetKey,
  isFernetKey,
} from "../../src/crypto/fernet.ts";
import { SallyportError } from "../../src/errors.ts";
import { ascii, concat, toHex, TOKEN_KEYS, TOKENS } from "./vectors.ts";
import { seededBytes } from "../support/seeded.ts";

const bytes = seededBytes(5);
const utf8 = (text: string): Bytes => new TextEncoder().encode(text);
const text = (value: Bytes) => new TextDecoder("utf-8", { fatal: true }).decode(value);
const decodeRaw = (token: string): Bytes => new Uint8Array(Buffer.from(token, "base64url"));

interface PackageToken {
  decode(token: string): string;
}
const packageApi = fernetPackage as unknown as {
  Secret: new (key: string) => object;
  Token: new (options: { secret: object; ttl: number }) => PackageToken;
};

function packageDecode(key: string, token: string): string {
  return new packageApi.Token({ secret: new packageApi.Secret(key), ttl: 0 }).decode(token);
}

/** A token made by node:crypto alone, so that it can be wrong in ways that no library makes. */
function forge(key: string, plain: Bytes, options: { version?: number; padding?: Bytes } = {}): string {
  const raw = decodeRaw(key);
  const rest = 16 - plain.length % 16;
  const cipher = createCipheriv("aes-128-cbc", raw.subarray(16), new Uint8Array(16)).setAutoPadding(false);
  const padded = concat(plain, options.padding ?? new Uint8Array(rest).fill(rest));
  const ciphertext = new Uint8Array(cipher.update(padded));
  cipher.final();
  const signed = concat(
    Uint8Array.of(options.version ?? 0x80),
    new Uint8Array(8),
    new Uint8Array(16),
    ciphertext,
  );
  const mac = new Uint8Array(createHmac("sha256", raw.subarray(0, 16)).update(signed).digest());
  return encode(concat(signed, mac));
}

function encode(value: Bytes): string {
  return Buffer.from(value).toString("base64").replaceAll("+", "-").replaceAll("/", "_");
}

function refused(ring: FernetRing, token: string | Bytes, fault: FernetFault): void {
  assert.equal(ring.tryOpen(token), fault);
  assert.throws(() => ring.open(token), (error) => {
    assert.ok(error instanceof FernetError);
    assert.equal(error.code, "token_invalid");
    assert.equal(error.fault, fault);
    return true;
  });
}

describe("FernetRing: tokens of the reference", () => {
  const ring = new FernetRing(TOKEN_KEYS);
  for (const { name, token, payload } of TOKENS) {
    it(name, () => {
      if (payload === null) {
        const fault = name === "one character changed" || name === "foreign key" ? "key" : "shape";
        for (const form of [token, ascii(token)]) refused(ring, form, fault);
        return;
      }
      for (const form of [token, ascii(token)]) {
        // The vector that isn't UTF-8 is recorded as Latin-1.
        const expected: Bytes = name === "not UTF-8" ? ascii(payload) : utf8(payload);
        assert.equal(toHex(ring.open(form)), toHex(expected));
      }
    });
  }
});

describe("FernetRing", () => {
  it("opens what it made, of every length, text beyond ASCII too", () => {
    const ring = new FernetRing([generateFernetKey()]);
    for (let length = 0; length <= 50; length++) {
      const payload = bytes(length);
      const token = ring.seal(payload);
      assert.ok(couldBeComplete(ascii(token)));
      assert.equal(toHex(ring.open(token)), toHex(payload));
    }
    const json = JSON.stringify({ name: "Zürich 東京 \u{1f6aa} \u0000 é" });
    assert.equal(text(ring.open(ring.seal(utf8(json)))), json);
  });

  it("and the package open what the other made", () => {
    const key = generateFernetKey();
    const ring = new FernetRing([key]);
    const json = '{"hostname":"a.example.org","name":"Zürich 東京 \u{1f6aa}"}';
    assert.equal(packageDecode(key, ring.seal(utf8(json))), json);
    assert.equal(text(ring.open(forge(key, utf8(json)))), json);
  });

  it("makes the token of the specification from its key, time and IV", () => {
    // github.com/fernet/spec, generate.json
    const ring = new FernetRing(["cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="]);
    const token = ring.seal(utf8("hello"), {
      nowMs: 499162800 * 1000,
      iv: Uint8Array.from({ length: 16 }, (_, i) => i),
    });
    assert.equal(
      token,
      "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==",
    );
  });

  it("puts the given IV and the whole second into the token", () => {
    const ring = new FernetRing([generateFernetKey()]);
    for (let i = 0; i < 20; i++) {
      const iv = bytes(16);
      const raw = decodeRaw(ring.seal(utf8("x"), { iv, nowMs: 1_790_000_000_000 + i * 53 }));
      assert.equal(toHex(raw.slice(9, 25)), toHex(iv));
      assert.equal(toHex(raw.slice(0, 9)), i * 53 < 1000 ? "80000000006ab13b80" : "80000000006ab13b81");
    }
  });

  it("draws a fresh IV for each token", () => {
    const ring = new FernetRing([generateFernetKey()]);
    const ivs = new Set(
      Array.from({ length: 20 }, () => toHex(decodeRaw(ring.seal(utf8("x"))).slice(9, 25))),
    );
    assert.equal(ivs.size, 20);
    assert.ok(!ivs.has("000102030405060708090a0b0c0d0e0f"));
  });

  it("makes tokens with the first key and opens those of any", () => {
    const [a, b, c] = [generateFernetKey(), generateFernetKey(), generateFernetKey()];
    const ring = new FernetRing([a, b]);
    assert.equal(ring.size, 2);
    assert.equal(text(new FernetRing([a]).open(ring.seal(utf8("x")))), "x");
    refused(new FernetRing([b]), ring.seal(utf8("x")), "key");
    assert.equal(text(ring.open(new FernetRing([b]).seal(utf8("y")))), "y");
    refused(ring, new FernetRing([c]).seal(utf8("z")), "key");
  });

  it("gives a payload that outlives the next call", () => {
    const ring = new FernetRing([generateFernetKey()]);
    const first = ring.open(ring.seal(utf8("first")));
    ring.open(ring.seal(utf8("second, and longer than the one before")));
    assert.equal(text(first), "first");
  });

  it("refuses a token with any bit flipped, whole characters too", () => {
    const ring = new FernetRing([generateFernetKey()]);
    const raw = decodeRaw(ring.seal(utf8("a payload")));
    for (let bit = 0; bit < raw.length * 8; bit++) {
      const changed = raw.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      refused(ring, encode(changed), bit < 8 ? "shape" : "key");
    }
  });

  it("refuses a token cut at any byte, lengthened, or with white space", () => {
    const ring = new FernetRing([generateFernetKey()]);
    const token = ring.seal(utf8("p".repeat(40)));
    for (let length = 0; length < token.length; length++) {
      assert.equal(typeof ring.tryOpen(token.slice(0, length)), "string", `${length}`);
    }
    for (const more of ["=", "A", "\n", " ", "AAAA", "\0"]) refused(ring, token + more, "shape");
    refused(ring, ` ${token}`, "shape");
    refused(ring, `Ł${token.slice(1)}`, "shape");
  });

  it("refuses missing padding and bits after the last byte, which Python and the package take", () => {
    const key = generateFernetKey();
    const ring = new FernetRing([key]);
    const token = ring.seal(utf8("x"));
    assert.ok(token.endsWith("=="));
    refused(ring, token.replace(/=+$/, ""), "shape");
    assert.equal(packageDecode(key, token.replace(/=+$/, "")), "x");
    const last = token.charCodeAt(token.length - 3);
    const loose = token.slice(0, -3) + String.fromCharCode(last + 1) + "==";
    assert.deepEqual(decodeRaw(loose), decodeRaw(token));
    refused(ring, loose, "shape");
  });

  it("refuses a version other than 0x80 although its MAC is right", () => {
    const key = generateFernetKey();
    for (const version of [0, 0x7f, 0x81]) {
      refused(new FernetRing([key]), forge(key, utf8("x"), { version }), "shape");
    }
  });

  it("refuses broken padding although its MAC is right", () => {
    const key = generateFernetKey();
    const ring = new FernetRing([key]);
    const plain = utf8("0123456789abc");
    assert.equal(text(ring.open(forge(key, plain, { padding: Uint8Array.of(3, 3, 3) }))), "0123456789abc");
    for (const padding of [[0, 0, 0], [3, 2, 3], [2, 3, 3], [1, 1, 17], [9, 9, 255], [4, 4, 4]]) {
      refused(ring, forge(key, plain, { padding: Uint8Array.from(padding) }), "padding");
    }
    refused(ring, forge(key, utf8("0123456789abcdef"), { padding: new Uint8Array(16).fill(17) }), "padding");
    refused(ring, forge(key, utf8(""), { padding: new Uint8Array(32).fill(17) }), "padding");
    refused(ring, forge(key, utf8("0123456789abcdef"), { padding: new Uint8Array(0) }), "padding");
    refused(ring, forge(key, utf8(""), { padding: new Uint8Array(0) }), "shape");
  });

  it("refuses to make a token without an IV of 16 bytes or a time", () => {
    const ring = new FernetRing([generateFernetKey()]);
    for (
      const options of [{ iv: bytes(15) }, { nowMs: 0 }, { nowMs: NaN }, { nowMs: -5000 }, {
        nowMs: Infinity,
      }]
    ) {
      assert.throws(() => ring.seal(utf8("x"), options), { code: "token_invalid", side: "local" });
    }
  });
});

describe("generateFernetKey and isFernetKey", () => {
  const good = generateFernetKey();
  const bad: Readonly<Record<string, string>> = {
    empty: "",
    unpadded: good.slice(0, 43),
    "16 bytes": `${"A".repeat(22)}==`,
    "33 bytes": "A".repeat(44),
    "standard alphabet": `+/${good.slice(2)}`,
    "trailing newline": `${good}\n`,
    "stray bits": `${"A".repeat(42)}B=`,
    "not ASCII": `ü${good.slice(1)}`,
  };

  it("generated ones are 44 characters, valid and different", () => {
    assert.match(good, /^[\w-]{43}=$/);
    assert.ok(isFernetKey(good));
    assert.notEqual(generateFernetKey(), generateFernetKey());
    for (const key of TOKEN_KEYS) assert.ok(isFernetKey(key));
  });

  for (const [name, key] of Object.entries(bad)) {
    it(`${name}: refused by its place, not by its text`, () => {
      assert.equal(isFernetKey(key), false);
      assert.throws(() => new FernetRing([good, key, good]), (error) => {
        assert.ok(error instanceof SallyportError);
        assert.equal(error.code, "config_invalid");
        assert.equal(error.side, "config");
        assert.match(error.message, /key 2 of 3/);
        assert.ok(key === "" || !error.message.includes(key.trim().slice(0, 8)));
        return true;
      });
    });
  }

  it("none at all is refused", () => {
    assert.throws(() => new FernetRing([]), { code: "config_invalid", side: "config" });
  });
});

describe("couldBeComplete", () => {
  it("is true for exactly the lengths and paddings of 73 + 16 k bytes", () => {
    const possible = new Set(Array.from({ length: 40 }, (_, k) => encode(new Uint8Array(73 + 16 * k))));
    for (let length = 0; length < 700; length++) {
      for (const padding of ["", "=", "=="]) {
        const candidate = "A".repeat(length) + padding;
        assert.equal(couldBeComplete(ascii(candidate)), possible.has(candidate), `${length} ${padding}`);
      }
    }
  });

  it("judges a part of a buffer", () => {
    const buffer = concat(ascii(encode(new Uint8Array(73))), ascii("=====AAAA"));
    assert.equal(couldBeComplete(buffer, 100), true);
    assert.equal(couldBeComplete(buffer, 104), false);
    assert.equal(couldBeComplete(buffer), false);
  });
});
