/** LOGIN and VERDICT, as docs/protocols/login.md has them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  decodeLogin,
  decodeVerdict,
  encodeLogin,
  encodeLoginToken,
  encodeVerdict,
  LOGIN_CHALLENGE_BYTES,
  LOGIN_MAX_BYTES,
  loginLength,
  PROOF_BYTES,
  verdictCode,
  verdictLength,
} from "../../../src/wire/login/login_messages.ts";
import { TOKEN_MAX_BYTES } from "../../../src/wire/token/token_payload.ts";
import { codeOf } from "../../support/code_of.ts";

const text = (value: string) => new TextEncoder().encode(value);
const proof = new Uint8Array(PROOF_BYTES).fill(9);

describe("encodeLogin and decodeLogin", () => {
  it("is a length of two bytes, the token, and a proof of 32", () => {
    assert.deepEqual([PROOF_BYTES, LOGIN_CHALLENGE_BYTES, LOGIN_MAX_BYTES], [
      32,
      32,
      2 + TOKEN_MAX_BYTES + 32,
    ]);
    const token = new Uint8Array(0x123).fill(7);
    assert.deepEqual([...encodeLoginToken(token)], [1, 0x23, ...token]);
    assert.deepEqual([...encodeLogin({ token, proof })], [1, 0x23, ...token, ...proof]);
  });

  it("loginLength() needs two bytes, and takes tokens of 1 to TOKEN_MAX_BYTES", () => {
    const head = (length: number) => Uint8Array.of(length >> 8, length);
    assert.equal(loginLength(new Uint8Array(0)), undefined);
    assert.equal(loginLength(Uint8Array.of(0)), undefined);
    for (const length of [1, 255, 256, TOKEN_MAX_BYTES]) {
      assert.equal(loginLength(head(length)), 2 + length + 32);
    }
    for (const length of [0, TOKEN_MAX_BYTES + 1, 65_535]) {
      assert.equal(codeOf(() => loginLength(head(length))), "token_invalid", `${length}`);
    }
  });

  it("decodeLogin() takes exactly its bytes, and copies them", () => {
    const bytes = Uint8Array.from([0, 2, 0x61, 0x62, ...proof]);
    const login = decodeLogin(bytes);
    bytes.fill(0);
    assert.deepEqual(login, { token: text("ab"), proof });
    for (const length of [bytes.length - 1, bytes.length + 1]) {
      const wrong = new Uint8Array(length);
      wrong[1] = 2;
      assert.equal(codeOf(() => decodeLogin(wrong)), "token_invalid");
    }
  });
});

describe("encodeVerdict and decodeVerdict", () => {
  it("is a length of one byte and a code, empty where the agent is let in", () => {
    assert.deepEqual([...encodeVerdict(undefined)], [0]);
    assert.deepEqual([...encodeVerdict("shutdown")], [8, ...text("shutdown")]);
    assert.deepEqual([...encodeVerdict("x".repeat(70))], [64, ...text("x".repeat(64))]);
    assert.equal(decodeVerdict(Uint8Array.of(0)), undefined);
    assert.equal(decodeVerdict(Uint8Array.of(8, ...text("shutdown"))), "shutdown");
    assert.equal(decodeVerdict(encodeVerdict("x".repeat(64))), "x".repeat(64));
  });

  it("verdictLength() needs the first byte", () => {
    assert.equal(verdictLength(new Uint8Array(0)), undefined);
    assert.equal(verdictLength(Uint8Array.of(0)), 1);
    assert.equal(verdictLength(Uint8Array.of(8, 1)), 9);
  });

  const wrong: [string, Uint8Array<ArrayBuffer>][] = [
    ["nothing", new Uint8Array(0)],
    ["too few bytes", Uint8Array.of(2, 0x61)],
    ["too many bytes", Uint8Array.of(1, 0x61, 0x61)],
    ["capitals", Uint8Array.of(1, 0x41)],
    ["a control character", Uint8Array.of(1, 0x0a)],
    ["65 characters", Uint8Array.of(65, ...text("x".repeat(65)))],
  ];
  for (const [name, bytes] of wrong) {
    it(`of ${name} is refused`, () => {
      assert.equal(codeOf(() => decodeVerdict(bytes)), "challenge_failed");
    });
  }

  it("verdictCode() knows the codes that an edge may say, and takes others for session_refused", () => {
    for (const code of ["access_denied", "key_reused", "token_stale", "unauthorized", "shutdown"]) {
      assert.equal(verdictCode(code), code);
    }
    for (const code of ["internal", "closed", "", "future_code"]) {
      assert.equal(verdictCode(code), "session_refused");
    }
  });
});
