import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import { type FernetFault, FernetRing, generateFernetKey } from "../../../src/crypto/fernet.ts";
import { SallyportError } from "../../../src/errors.ts";
import { type OpenedToken, TokenReader } from "../../../src/protocol/token/token_reader.ts";
import type { TokenClaims } from "../../../src/wire/token/token_payload.ts";
import { ascii, concat } from "../../crypto/vectors.ts";
import { seededBytes } from "../../support/seeded.ts";
import {
  TOKEN_DEADLINE_MS,
  TOKEN_PAUSE_FIRST_MS,
  TOKEN_QUIET_MS,
} from "../../../src/protocol/token/token_reader.ts";
import { TOKEN_MAX_BYTES } from "../../../src/wire/token/token_payload.ts";
import { codeOf } from "../../support/code_of.ts";

const START_MS = 5_000;
const ring = new FernetRing([generateFernetKey(), generateFernetKey()]);
const stranger = new FernetRing([generateFernetKey()]);

/** A reader whose claims are the payload's text as hostname; `tries` counts how often it opened, `tried` how much. */
function makeReader(): { reader: TokenReader; tries: () => number; tried: () => number } {
  let tries = 0;
  let tried = 0;
  const open = (token: Bytes): TokenClaims | FernetFault => {
    tries++;
    tried += token.length;
    const opened = ring.tryOpen(token);
    if (typeof opened === "string") return opened;
    const hostname = new TextDecoder().decode(opened);
    return { hostname } as TokenClaims;
  };
  return {
    reader: new TokenReader({ open, startedAtMs: START_MS }),
    tries: () => tries,
    tried: () => tried,
  };
}

/** A token whose text ends in `padding` signs and holds at least `payloadBytes`. */
function tokenWith(maker: FernetRing, padding: number, payloadBytes = 0): { token: Bytes; hostname: string } {
  for (let length = payloadBytes;; length += 16) {
    const hostname = "h".repeat(length);
    const token = maker.seal(new TextEncoder().encode(hostname));
    if (token.length - token.replace(/=+$/, "").length === padding) return { token: ascii(token), hostname };
  }
}

function throwsCode(code: string, run: () => unknown): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof SallyportError, String(error));
    assert.equal(error.code, code);
    return true;
  });
}

function assertOpened(opened: OpenedToken | undefined, token: Bytes, hostname: string): void {
  assert.ok(opened !== undefined);
  assert.deepEqual([...opened.token], [...token]);
  assert.equal(opened.claims.hostname, hostname);
}

describe("TokenReader", () => {
  for (const padding of [0, 1, 2]) {
    const { token, hostname } = tokenWith(ring, padding);

    it(`reads a token with ${padding} padding signs, whole and in every cut`, () => {
      assertOpened(makeReader().reader.push(token, START_MS), token, hostname);
      for (let cut = 1; cut < token.length; cut++) {
        const { reader } = makeReader();
        assert.equal(reader.push(token.subarray(0, cut), START_MS), undefined);
        const opened = reader.push(token.subarray(cut), START_MS + 1);
        // Without padding, the reader waits a moment after a small last piece.
        assert.ok(padding === 0 || opened !== undefined);
        assertOpened(opened ?? reader.tick(START_MS + 1 + TOKEN_PAUSE_FIRST_MS), token, hostname);
      }
    });

    it(`reads it one byte at a time, from a buffer that is reused (${padding} signs)`, () => {
      const { reader } = makeReader();
      const buffer = new Uint8Array(1);
      let opened: OpenedToken | undefined;
      for (const byte of token) {
        assert.equal(opened, undefined);
        buffer[0] = byte;
        opened = reader.push(buffer, START_MS);
        buffer[0] = 0;
      }
      assertOpened(opened ?? reader.tick(START_MS + TOKEN_PAUSE_FIRST_MS), token, hostname);
    });

    it(`refuses bytes after the token, in the same chunk and after it (${padding} signs)`, () => {
      for (const more of [0x41, 0x3d, 0x0a, 0x00]) {
        const { reader } = makeReader();
        const together = concat(token, Uint8Array.of(more));
        if (padding === 0 && more === 0x41) {
          // Could be the beginning of a longer token: it never becomes one.
          assert.equal(reader.push(together, START_MS), undefined);
          throwsCode("deadline_exceeded", () => reader.tick(START_MS + TOKEN_DEADLINE_MS));
        } else throwsCode("token_invalid", () => reader.push(together, START_MS));
      }
      const { reader } = makeReader();
      reader.push(token, START_MS);
      throwsCode("token_invalid", () => reader.push(Uint8Array.of(0x41), START_MS));
      throwsCode("token_invalid", () => reader.push(token, START_MS));
    });
  }

  it("reads the longest token, and refuses one byte more at once", () => {
    const overhead = ring.seal(new Uint8Array(0)).length;
    let { token, hostname } = tokenWith(ring, 0, Math.floor((TOKEN_MAX_BYTES - overhead) * 0.74));
    while (token.length + 64 <= TOKEN_MAX_BYTES) {
      ({ token, hostname } = tokenWith(ring, 0, hostname.length + 16));
    }
    assert.ok(token.length > TOKEN_MAX_BYTES - 64 && token.length <= TOKEN_MAX_BYTES, `${token.length}`);
    const { reader, tries } = makeReader();
    let opened: OpenedToken | undefined;
    for (const byte of token) opened = reader.push(Uint8Array.of(byte), START_MS) ?? opened;
    assertOpened(opened ?? reader.tick(START_MS + TOKEN_PAUSE_FIRST_MS), token, hostname);
    assert.ok(tries() <= 25, `tried ${tries()} times`);

    const endless = makeReader();
    const full = new Uint8Array(TOKEN_MAX_BYTES).fill(0x41);
    full[0] = 0x67;
    assert.equal(endless.reader.push(full, START_MS), undefined);
    throwsCode("token_invalid", () => endless.reader.push(Uint8Array.of(0x41), START_MS));
    const flood = concat(full, Uint8Array.of(0x41));
    throwsCode("token_invalid", () => makeReader().reader.push(flood, START_MS));
  });

  it("refuses characters that can't be in a token, at once and in any place", () => {
    const { token } = tokenWith(ring, 0);
    for (let at = 0; at < 30; at++) {
      for (const wrong of [0x00, 0x0a, 0x0d, 0x20, 0x2b, 0x2f, 0x2a, 0x80, 0xff]) {
        const { reader } = makeReader();
        assert.equal(reader.push(token.subarray(0, at), START_MS), undefined);
        throwsCode("token_invalid", () => reader.push(Uint8Array.of(wrong), START_MS));
      }
    }
    for (
      const text of [
        "hAAA",
        "gQAA",
        "gaAA",
        "\x16\x03\x01",
        "GET ",
        "=",
        "g=",
        "gA=A",
        "gAA=A",
        "gAA==",
        "gA==A",
      ]
    ) {
      throwsCode("token_invalid", () => makeReader().reader.push(ascii(text), START_MS));
    }
  });

  it("refuses a padded text at once when no Fernet token is that long", () => {
    const { reader, tries } = makeReader();
    throwsCode("token_invalid", () => reader.push(ascii("gAAAAABqsRRwYLE="), START_MS));
    assert.equal(tries(), 0);
  });

  for (const padding of [1, 2]) {
    it(`refuses a token of a foreign key with ${padding} padding signs at once`, () => {
      const { token } = tokenWith(stranger, padding);
      throwsCode("token_invalid", () => makeReader().reader.push(token, START_MS));
      const { reader } = makeReader();
      for (const byte of token.subarray(0, -1)) {
        assert.equal(reader.push(Uint8Array.of(byte), START_MS), undefined);
      }
      assert.equal(reader.deadlineMs, START_MS + TOKEN_DEADLINE_MS);
      throwsCode("token_invalid", () => reader.push(token.subarray(-1), START_MS));
    });
  }

  it("waits a moment for more of a token of a foreign key without padding, then refuses it", () => {
    const { token } = tokenWith(stranger, 0);
    const { reader } = makeReader();
    const cameAtMs = START_MS + 200;
    assert.equal(reader.push(token, cameAtMs), undefined);
    assert.equal(reader.deadlineMs, cameAtMs + TOKEN_QUIET_MS);
    reader.tick(cameAtMs + TOKEN_QUIET_MS - 1);
    throwsCode("token_invalid", () => reader.tick(cameAtMs + TOKEN_QUIET_MS));
    reader.tick(cameAtMs + TOKEN_QUIET_MS + 1);
    throwsCode("token_invalid", () => reader.push(token, cameAtMs));
  });

  it("goes on where a part of a token looked like a whole one", () => {
    const { token, hostname } = tokenWith(ring, 2, 200);
    const { reader, tries } = makeReader();
    // Of 73 + 16 k bytes, 105 + 48 n need no padding: 140 + 64 n characters.
    const looksWhole = token.subarray(0, 204);
    assert.equal(reader.push(looksWhole, START_MS), undefined);
    assert.equal(tries(), 1);
    assert.equal(reader.deadlineMs, START_MS + TOKEN_QUIET_MS);
    assert.equal(reader.push(token.subarray(204, 210), START_MS + TOKEN_QUIET_MS - 1), undefined);
    assert.equal(reader.deadlineMs, START_MS + TOKEN_DEADLINE_MS);
    assertOpened(reader.push(token.subarray(210), START_MS + 2 * TOKEN_QUIET_MS), token, hostname);
    assert.equal(tries(), 2);
  });

  it("tries at most once a chunk, and only what could be whole", () => {
    const { token } = tokenWith(ring, 1, 900);
    const { reader, tries } = makeReader();
    for (let at = 0; at < token.length; at += 4) reader.push(token.subarray(at, at + 4), START_MS);
    const wholeLooking = Math.floor((token.length - 140) / 64) + 1;
    assert.ok(tries() <= wholeLooking + 1, `${tries()} tries in ${token.length} characters`);
  });

  it("hashes a few times the token's length, however it is cut and whenever the pieces come", () => {
    const full = new Uint8Array(TOKEN_MAX_BYTES).fill(0x41);
    full[0] = 0x67;
    for (const pieceBytes of [1, 4, 16, 64, 536]) {
      for (const gapMs of [0, TOKEN_PAUSE_FIRST_MS, 500]) {
        const { reader, tries, tried } = makeReader();
        let nowMs = START_MS;
        for (let at = 0; at < full.length && nowMs < START_MS + TOKEN_DEADLINE_MS - 1_000; at += pieceBytes) {
          reader.push(full.subarray(at, at + pieceBytes), nowMs);
          nowMs += gapMs;
          if (nowMs >= reader.deadlineMs) reader.tick(nowMs);
        }
        const what = `${pieceBytes} bytes each ${gapMs} ms`;
        assert.ok(tries() <= 35, `${tries()} trials of ${what}`);
        assert.ok(tried() <= 15 * TOKEN_MAX_BYTES, `${tried()} bytes were hashed of ${what}`);
      }
    }
  });

  it("has one deadline that bytes don't move", () => {
    const { token } = tokenWith(ring, 0);
    const lateMs = START_MS + TOKEN_DEADLINE_MS;
    const slow = makeReader().reader;
    assert.equal(slow.deadlineMs, lateMs);
    for (let i = 0; i < 60; i++) slow.push(token.subarray(i, i + 1), START_MS + i * 100);
    assert.equal(slow.deadlineMs, lateMs);
    slow.tick(lateMs - 1);
    throwsCode("deadline_exceeded", () => slow.tick(lateMs));
    // The timer may be late: bytes beyond the deadline are refused without it.
    throwsCode("deadline_exceeded", () => makeReader().reader.push(token, lateMs));
    const foreign = makeReader().reader;
    foreign.push(tokenWith(stranger, 0).token, lateMs - 10);
    assert.equal(foreign.deadlineMs, lateMs);
  });

  it("nothing is due once the token has come", () => {
    const { reader } = makeReader();
    reader.push(tokenWith(ring, 1).token, START_MS);
    assert.equal(reader.tick(START_MS + 10 * TOKEN_DEADLINE_MS), undefined);
  });

  it("passes on what open throws for a token that a key opened", () => {
    const open = () => {
      throw new SallyportError("token_expired", "Cannot accept token: it expired 1 s ago", { side: "peer" });
    };
    for (const padding of [0, 1]) {
      const reader = new TokenReader({ open, startedAtMs: START_MS });
      throwsCode("token_expired", () => reader.push(tokenWith(ring, padding).token, START_MS));
      throwsCode("token_invalid", () => reader.push(ascii("A"), START_MS));
    }
  });

  it("waits for more where no key decrypts it, not where the envelope is broken", () => {
    for (const [fault, waits] of [["key", true], ["shape", false], ["padding", false]] as const) {
      const open = () => fault;
      const reader = new TokenReader({ open, startedAtMs: START_MS });
      const { token } = tokenWith(ring, 0);
      assert.equal(codeOf(() => reader.push(token, START_MS)), waits ? "none" : "token_invalid");
    }
  });

  it("survives any mutation: opens the token itself or nothing", () => {
    const random = seededBytes(99);
    const { token } = tokenWith(ring, 1, 60);
    for (let round = 0; round < 400; round++) {
      const changed = token.slice();
      const [at, value, kind] = random(3) as unknown as [number, number, number];
      changed[at % changed.length] = value;
      const input = kind % 3 === 0 ? changed.subarray(0, changed.length - value % 9) : changed;
      const same = input.length === token.length && input.every((byte, i) => byte === token[i]);
      let opened;
      const code = codeOf(() => opened = makeReader().reader.push(input, START_MS));
      assert.match(code, same ? /^none$/ : /^(none|token_invalid)$/);
      assert.equal(opened !== undefined, same);
    }
  });
});
