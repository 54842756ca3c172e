import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { SallyportError } from "../../src/errors.ts";
import { encodeTokenPayload, parseTokenPayload } from "../../src/wire/token_payload.ts";
import { decodeAlert, encodeAlert } from "../../src/wire/tls_alert.ts";

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

describe("token payloads", () => {
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

  const bad: [string, object | string, RegExp][] = [
    ["no JSON", "hello", /payload isn't JSON/],
    ["NaN", '{"valid": NaN}', /payload isn't JSON/],
    ["an array", "[1]", /payload/],
    ["null", "null", /payload/],
    ["a short key", { ...good, aes_key: "00ff" }, /aes_key has 2 bytes, needs 32/],
    ["a key that isn't hex", { ...good, aes_key: "zz".repeat(32) }, /aes_key isn't hexadecimal/],
    ["a short iv", { ...good, aes_iv: "00" }, /aes_iv has 1 bytes, needs 16/],
    ["an unknown cipher", { ...good, cipher: "rot13" }, /cipher isn't/],
    ["version -1", { ...good, protocol_version: -1 }, /protocol_version isn't/],
    ["version 3", { ...good, protocol_version: 3 }, /protocol_version isn't/],
    ["version 1.5", { ...good, protocol_version: 1.5 }, /protocol_version isn't/],
    ["valid as text", { ...good, valid: "tomorrow" }, /valid/],
    ["no hostname", { ...good, hostname: undefined }, /hostname/],
    ["a hostname that is none", { ...good, hostname: "192.0.2.1" }, /hostname is an IP address/],
    ["an alias that is none", { ...good, alias: ["*.example.org"] }, /alias\.0 has characters/],
    ["an alias as text", { ...good, alias: "www.example.org" }, /alias/],
    ["too many aliases", { ...good, alias: Array.from({ length: 256 }, (_, i) => `a${i}.example`) }, /alias/],
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
      { seed: 5, numRuns: 300 },
    );
  });
});

describe("TLS alerts", () => {
  it("are fatal and stand in a record of their own", () => {
    assert.deepEqual([...encodeAlert(112)], [21, 3, 3, 0, 2, 2, 112]);
    assert.equal(decodeAlert(encodeAlert(50)), 50);
    assert.equal(decodeAlert(Uint8Array.of(22, 3, 3, 0, 2, 2, 112)), undefined);
    assert.equal(decodeAlert(new Uint8Array(0)), undefined);
  });
});
