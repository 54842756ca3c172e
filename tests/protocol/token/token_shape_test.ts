/** What is seen of a token without its key: its age and its form. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FernetRing, generateFernetKey } from "../../../src/crypto/fernet.ts";
import {
  checkTokenExpiry,
  checkTokenShape,
  createToken,
  TOKEN_TTL_MIN_S,
  tokenMadeAtS,
} from "../../../src/protocol/token/token.ts";
import { TOKEN_MAX_BYTES } from "../../../src/wire/token/token_payload.ts";
import { codeOf } from "../../support/code_of.ts";

const ring = new FernetRing([generateFernetKey()]);
const NOW_MS = 1_700_000_000_000;
const { token, claims } = createToken(ring, { hostname: "a.test", ttlSeconds: 60, nowMs: NOW_MS });

describe("tokenMadeAtS()", () => {
  it("is the second of its making, as text and as bytes, and 0 of what is no token", () => {
    assert.equal(tokenMadeAtS(token), 1_700_000_000);
    assert.equal(tokenMadeAtS(new TextEncoder().encode(token)), 1_700_000_000);
    for (const other of ["", "gAAAAA", `hA${token.slice(2)}`]) assert.equal(tokenMadeAtS(other), 0, other);
  });
});

describe("checkTokenExpiry()", () => {
  it("takes a token up to its end, and says how long ago that was", () => {
    assert.equal(TOKEN_TTL_MIN_S, 10);
    assert.equal(codeOf(() => checkTokenExpiry(claims, claims.valid)), "none");
    assert.throws(() => checkTokenExpiry(claims, claims.valid + 2.5), {
      code: "token_expired",
      message: /it expired 3 s ago/,
    });
  });
});

describe("checkTokenShape()", () => {
  it("takes what has a token's form, and nothing else", () => {
    assert.equal(codeOf(() => checkTokenShape(token)), "none");
    const long = ring.seal(new Uint8Array(TOKEN_MAX_BYTES), { nowMs: NOW_MS });
    const never = `gAAAAAAAAAAA${token.slice(12)}`;
    for (const text of ["", token.slice(0, 50), `${token}\n`, long, never, `GET ${token}`]) {
      assert.equal(codeOf(() => checkTokenShape(text)), "token_invalid", text.slice(0, 20));
    }
  });
});
