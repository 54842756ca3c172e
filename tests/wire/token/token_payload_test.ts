import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { errorCode, SallyportError } from "../../../src/errors.ts";
import tokens from "../../vectors/snitun-tokens.json" with { type: "json" };
import {
  encodeTokenPayload,
  parseTokenPayload,
  type TokenClaims,
} from "../../../src/wire/token/token_payload.ts";
import { AlertDescription, decodeAlert, encodeAlert } from "../../../src/wire/tls/tls_alert.ts";
import { seedOf } from "../../support/seeded.ts";

const TOKENS = tokens.tokens as { name: string; payload: string | null; expected: string }[];
const utf8 = (text: string) => new TextEncoder().encode(text);
const good = {
  valid: 1790003600.5,
  hostname: "MyName.example.org.",
  aes_key: "b4".repeat(32),
  aes_iv: "96".repeat(16),
  protocol_version: 2,
  cipher: "aes-gcm",
  alias: ["www.example.org", "WWW.example.org", "myname.example.org"],
  plan: "pro",
};

const aliases = (count: number) => Array.from({ length: count }, (_, i) => `a${i}.example`);

/** What becomes of a payload: the sizes of its keys, or code and message of the refusal. */
function outcomeOf(bytes: Bytes): string {
  try {
    const { aesKey, aesIv } = parseTokenPayload(bytes);
    return `${aesKey.length} and ${aesIv.length} bytes`;
  } catch (error) {
    return `${errorCode(error)}: ${(error as Error).message}`;
  }
}

describe("encodeTokenPayload and parseTokenPayload", () => {
  it("are read with canonical names, each once, and keep what SniTun doesn't know", () => {
    const claims = parseTokenPayload(utf8(JSON.stringify(good)));
    assert.deepEqual([claims.hostname, claims.aliases, claims.extra], [
      "myname.example.org",
      ["www.example.org"],
      { plan: "pro" },
    ]);
    assert.deepEqual(parseTokenPayload(encodeTokenPayload(claims)), claims);
  });

  it("have defaults: version 0, aes-cbc, no aliases", () => {
    const { valid, hostname, aes_key, aes_iv } = good;
    const claims = parseTokenPayload(utf8(JSON.stringify({ valid, hostname, aes_key, aes_iv, alias: null })));
    assert.deepEqual([claims.protocolVersion, claims.cipher, claims.aliases], [0, "aes-cbc", []]);
  });

  it("take as many aliases as a session may have names", () => {
    const claims = parseTokenPayload(utf8(JSON.stringify({ ...good, alias: aliases(255) })));
    assert.deepEqual(claims.aliases, aliases(255));
  });

  it("take members' values from themselves alone, not from a __proto__ inside", () => {
    const inside = `"__proto__":{"alias":["evil.example"],"protocol_version":1,"cipher":"aes-gcm-siv"}`;
    const { alias: _, protocol_version: __, cipher: ___, ...rest } = good;
    const claims = parseTokenPayload(utf8(JSON.stringify(rest).replace("{", `{${inside},`)));
    assert.deepEqual([claims.aliases, claims.protocolVersion, claims.cipher], [[], 0, "aes-cbc"]);
  });

  it("come through with anything in them that may be", () => {
    const name = fc.string({ unit: fc.constantFrom(..."abz019-_"), minLength: 1, maxLength: 20 })
      .map((label) => `${label}.example`);
    const bytes = (length: number) =>
      fc.uint8Array({ minLength: length, maxLength: length }).map((any) => new Uint8Array(any));
    const claims = fc.record({
      valid: fc.double({ noNaN: true, noDefaultInfinity: true }).map((valid) => valid + 0),
      hostname: name,
      aliases: fc.uniqueArray(name, { maxLength: 5 }),
      aesKey: bytes(32),
      aesIv: bytes(16),
      protocolVersion: fc.constantFrom<0 | 1 | 2>(0, 1, 2),
      cipher: fc.constantFrom<TokenClaims["cipher"]>("aes-cbc", "aes-gcm", "aes-gcm-siv"),
      extra: fc.dictionary(fc.constantFrom("plan", "note", "x"), fc.string({ unit: "grapheme" })),
    });
    fc.assert(
      fc.property(claims, (given) => {
        fc.pre(!given.aliases.includes(given.hostname));
        const read = parseTokenPayload(encodeTokenPayload(given));
        assert.deepEqual({ ...read, extra: { ...read.extra } }, { ...given, extra: { ...given.extra } });
      }),
      { seed: seedOf(23), numRuns: 300 },
    );
  });

  it("give claims or token_invalid, whatever has become of their bytes", () => {
    const valid = utf8(JSON.stringify(good));
    const change = fc.tuple(fc.nat(valid.length - 1), fc.nat(255));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), fc.nat(valid.length), (changes, end) => {
        for (const bytes of [valid.slice(), valid.slice(0, end)]) {
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          assert.match(outcomeOf(bytes), /^(32 and 16 bytes$|token_invalid: (?!.*(b4b4b4|969696)))/);
        }
      }),
      { seed: seedOf(29), numRuns: 1500 },
    );
  });

  for (const { name, payload, expected } of TOKENS) {
    if (payload === null) continue;
    it(`of the reference: ${name}`, () => {
      const parse = () =>
        parseTokenPayload(name === "not UTF-8" ? Uint8Array.of(0xff, 0xfe, 0x7b, 0x7d) : utf8(payload));
      if (expected === "invalid") return assert.throws(parse, { code: "token_invalid" });
      const member = JSON.parse(payload);
      const claims = parse();
      assert.equal(claims.valid, member.valid);
      assert.equal(claims.hostname, member.hostname);
      assert.equal(Buffer.from(claims.aesKey).toString("hex"), member.aes_key);
      assert.equal(Buffer.from(claims.aesIv).toString("hex"), member.aes_iv);
      assert.equal(claims.protocolVersion, member.protocol_version ?? 0);
      assert.equal(claims.cipher, member.cipher ?? "aes-cbc");
      assert.deepEqual(claims.aliases, member.alias ?? []);
      assert.deepEqual({ ...claims.extra }, member.plan === undefined ? {} : { plan: member.plan });
    });
  }

  const bad: [string, object | string, RegExp][] = [
    ["no JSON", "hello", /payload isn't JSON/],
    ["NaN", '{"valid": NaN}', /payload isn't JSON/],
    [
      "an endless life",
      JSON.stringify(good).replace("1790003600.5", "1e999"),
      /valid is not a finite number/,
    ],
    ["an array", "[1]", /payload is not an object/],
    ["null", "null", /payload is not an object/],
    ["a string", '"{}"', /payload is not an object/],
    ["nothing", "", /payload isn't JSON/],
    ["a byte order mark", `\ufeff${JSON.stringify(good)}`, /payload isn't JSON/],
    ["nesting without end", "[".repeat(100_000), /payload/],
    ["a short key", { ...good, aes_key: "00ff" }, /aes_key has 2 bytes, needs 32/],
    ["a key that isn't hex", { ...good, aes_key: "zz".repeat(32) }, /aes_key isn't hexadecimal/],
    ["a short iv", { ...good, aes_iv: "00" }, /aes_iv has 1 bytes, needs 16/],
    ["half a byte of key", { ...good, aes_key: "b".repeat(63) }, /aes_key isn't hexadecimal/],
    ["a key with a prefix", { ...good, aes_key: `0x${"b4".repeat(31)}` }, /aes_key isn't hexadecimal/],
    ["a key as a number", { ...good, aes_key: 5 }, /aes_key is not a string/],
    ["a long key", { ...good, aes_key: "b4".repeat(33) }, /aes_key has 33 bytes, needs 32/],
    ["no iv", { ...good, aes_iv: undefined }, /aes_iv is missing/],
    [
      "a cipher of an object's",
      { ...good, cipher: "constructor" },
      /cipher isn't aes-cbc, aes-gcm, aes-gcm-siv/,
    ],
    ["a null cipher", { ...good, cipher: null }, /cipher isn't/],
    ["a null version", { ...good, protocol_version: null }, /protocol_version isn't/],
    ["a version as text", { ...good, protocol_version: "1" }, /protocol_version isn't/],
    ["a version that is true", { ...good, protocol_version: true }, /protocol_version isn't/],
    ["an unknown cipher", { ...good, cipher: "rot13" }, /cipher isn't/],
    ["version -1", { ...good, protocol_version: -1 }, /protocol_version isn't/],
    ["version 3", { ...good, protocol_version: 3 }, /protocol_version isn't/],
    ["version 1.5", { ...good, protocol_version: 1.5 }, /protocol_version isn't/],
    ["valid as text", { ...good, valid: "tomorrow" }, /valid is not a finite number/],
    ["no valid", { ...good, valid: undefined }, /valid is missing/],
    ["no hostname", { ...good, hostname: undefined }, /hostname is missing/],
    ["a hostname as an array", { ...good, hostname: ["a.example"] }, /hostname is not a string/],
    ["a long label", { ...good, hostname: "a".repeat(64) }, /hostname: a label has 64 characters/],
    ["a hostname that is none", { ...good, hostname: "192.0.2.1" }, /hostname is an IP address/],
    ["an alias that is none", { ...good, alias: ["a.*.example.org"] }, /alias\.0 has a \* elsewhere/],
    ["an alias as text", { ...good, alias: "www.example.org" }, /alias is not an array or null/],
    [
      "an alias as an object",
      { ...good, alias: { length: 1, 0: "a.example" } },
      /alias is not an array or null/,
    ],
    ["a null alias", { ...good, alias: ["a.example", null] }, /alias\.1 is not a string/],
    ["too many aliases", { ...good, alias: aliases(256) }, /alias has 256 names, at most 255/],
  ];
  for (const [name, payload, why] of bad) {
    it(`are refused: ${name}`, () => {
      const bytes = utf8(typeof payload === "string" ? payload : JSON.stringify(payload));
      assert.throws(() => parseTokenPayload(bytes), (error) => {
        assert.ok(error instanceof SallyportError);
        assert.equal(error.code, "token_invalid");
        assert.match(error.message, why);
        assert.ok(!error.message.includes(good.aes_key), "a key in a message");
        return true;
      });
    });
  }

  it("that aren't UTF-8 are refused, and so is any JSON that isn't one", () => {
    assert.throws(() => parseTokenPayload(Uint8Array.of(0xff, 0xfe, 0x7b, 0x7d)), /isn't UTF-8/);
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        assert.throws(() => parseTokenPayload(utf8(JSON.stringify(value))), { code: "token_invalid" });
      }),
      { seed: seedOf(5), numRuns: 300 },
    );
  });
});

describe("encodeAlert and decodeAlert", () => {
  it("are fatal and stand in a record of their own", () => {
    assert.deepEqual([...encodeAlert(112)], [21, 3, 3, 0, 2, 2, 112]);
    for (const description of Object.values(AlertDescription)) {
      assert.equal(decodeAlert(encodeAlert(description)), description);
    }
    const whole = encodeAlert(50);
    for (let end = 0; end < whole.length; end++) assert.equal(decodeAlert(whole.slice(0, end)), undefined);
    assert.equal(decodeAlert(new Uint8Array([...whole, 0])), undefined);
    assert.equal(decodeAlert(Uint8Array.of(21, 3, 3, 0, 2, 1, 0)), undefined, "a warning");
    assert.equal(decodeAlert(Uint8Array.of(22, 3, 3, 0, 2, 2, 112)), undefined);
    assert.equal(decodeAlert(new Uint8Array(0)), undefined);
  });
});
