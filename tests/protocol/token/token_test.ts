import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import { FernetError, FernetRing, generateFernetKey } from "../../../src/crypto/fernet.ts";
import { SallyportError } from "../../../src/errors.ts";
import {
  checkTokenExpiry,
  createToken,
  openToken,
  tokenId,
  type TokenRequest,
  tryOpenToken,
} from "../../../src/protocol/token/token.ts";
import { TokenReader } from "../../../src/protocol/token/token_reader.ts";
import { ascii, toHex, TOKEN_KEYS, TOKENS, TOKENS_NOW } from "../../crypto/vectors.ts";
import { seededBytes } from "../../support/seeded.ts";
import { codeOf } from "../../support/code_of.ts";

const NOW_MS = 1_790_000_000_250;
const bytes = seededBytes(21);

function throwsCode(code: string, run: () => unknown): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof SallyportError, String(error));
    assert.equal(error.code, code);
    assert.equal(error.side, "peer");
    return true;
  });
}

describe("openToken: tokens of the reference", () => {
  const ring = new FernetRing(TOKEN_KEYS);
  for (const { name, token, payload, expected } of TOKENS) {
    it(`${name}: ${expected}`, () => {
      const read = () =>
        new TokenReader({ open: (whole) => tryOpenToken(ring, whole, TOKENS_NOW), startedAtMs: 0 })
          .push(ascii(token), 0);
      if (expected !== "accept") {
        const code = expected === "expired" ? "token_expired" : "token_invalid";
        throwsCode(code, () => openToken(ring, token, TOKENS_NOW));
        throwsCode(code, () => openToken(ring, ascii(token), TOKENS_NOW));
        // What needs more, or may need more, isn't refused by the reader yet; nothing wrong is let through.
        let opened;
        assert.match(codeOf(() => opened = read()), new RegExp(`^(none|${code})$`));
        assert.equal(opened, undefined);
        return;
      }
      const claims = openToken(ring, token, TOKENS_NOW);
      const members = JSON.parse(payload!);
      assert.equal(claims.valid, members.valid);
      assert.equal(claims.hostname, members.hostname);
      assert.equal(toHex(claims.aesKey), members.aes_key);
      assert.equal(toHex(claims.aesIv), members.aes_iv);
      assert.equal(claims.protocolVersion, members.protocol_version ?? 0);
      assert.equal(claims.cipher, members.cipher ?? "aes-cbc");
      assert.deepEqual([...claims.aliases], members.alias ?? []);
      assert.deepEqual(read()?.claims, claims);
    });
  }
});

describe("createToken", () => {
  const ring = new FernetRing([generateFernetKey()]);
  const request: TokenRequest = { hostname: "hub.example.org", ttlSeconds: 600, nowMs: NOW_MS };

  it("makes a token that says what was asked for", () => {
    const aesKey = bytes(32);
    const aesIv = bytes(16);
    const { token, claims } = createToken(ring, {
      hostname: "hub.example.org",
      aliases: ["www.hub.example.org", "hub.example.net"],
      protocolVersion: 1,
      cipher: "aes-gcm-siv",
      valid: 1_790_000_600.5,
      nowMs: NOW_MS,
      aesKey,
      aesIv,
    });
    const opened = openToken(ring, token, 1_790_000_000);
    assert.deepEqual(opened, claims);
    assert.equal(opened.hostname, "hub.example.org");
    assert.deepEqual([...opened.aliases], ["www.hub.example.org", "hub.example.net"]);
    assert.equal(opened.protocolVersion, 1);
    assert.equal(opened.cipher, "aes-gcm-siv");
    assert.equal(opened.valid, 1_790_000_600.5);
    assert.equal(toHex(opened.aesKey), toHex(aesKey));
    assert.equal(toHex(opened.aesIv), toHex(aesIv));
  });

  it("takes version 2 and aes-gcm where nothing is said", () => {
    const { token, claims } = createToken(ring, request);
    assert.equal(claims.protocolVersion, 2);
    assert.equal(claims.cipher, "aes-gcm");
    assert.deepEqual([...claims.aliases], []);
    assert.equal(claims.valid, 1_790_000_600);
    assert.deepEqual(openToken(ring, token, 1_790_000_000), claims);
    assert.match(token, /^gA[\w-]+={0,2}$/);
  });

  it("draws fresh key material each time", () => {
    const claims = Array.from({ length: 10 }, () => createToken(ring, request).claims);
    assert.equal(new Set(claims.map(({ aesKey }) => toHex(aesKey))).size, 10);
    assert.equal(new Set(claims.map(({ aesIv }) => toHex(aesIv))).size, 10);
  });

  it("doesn't hand out what an edge refuses", () => {
    for (
      const wrong of [
        { hostname: "" },
        { aesKey: bytes(31) },
        { aesIv: bytes(17) },
        { ttlSeconds: NaN },
        { protocolVersion: -1 },
      ]
    ) {
      assert.throws(() => createToken(ring, { ...request, ...wrong } as TokenRequest), {
        code: "token_invalid",
      });
    }
  });
});

describe("openToken", () => {
  const ring = new FernetRing([generateFernetKey()]);

  it("takes a token until its last moment", () => {
    const { token, claims } = createToken(ring, { hostname: "a.example.org", valid: 1000.5, nowMs: NOW_MS });
    openToken(ring, token, 0);
    openToken(ring, token, 1000.5);
    throwsCode("token_expired", () => openToken(ring, token, 1000.6));
    checkTokenExpiry(claims, 1000.5);
    throwsCode("token_expired", () => checkTokenExpiry(claims, 1001));
  });

  it("tells a foreign key from an expired token, and names no secret", () => {
    const { token } = createToken(new FernetRing([generateFernetKey()]), {
      hostname: "a.example.org",
      valid: 1,
      nowMs: NOW_MS,
    });
    assert.throws(() => openToken(ring, token, 1000), (error) => {
      assert.ok(error instanceof FernetError);
      assert.equal(error.fault, "key");
      assert.ok(!error.message.includes(token.slice(0, 8)));
      return true;
    });
  });
});

describe("tokenId", () => {
  it("is the beginning of the token's SHA-256, of text and of bytes", () => {
    const expected = createHash("sha256").update("gAAAA").digest("hex").slice(0, 12);
    assert.equal(tokenId("gAAAA"), expected);
    assert.equal(tokenId(ascii("gAAAA")), expected);
    assert.notEqual(tokenId("gAAAB"), expected);
  });
});
