import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import {
  encodeClientAuth,
  encodeCount,
  encodeHeader,
  encodeMessage,
  encodePing,
  encodeReceived,
  encodeServerHelo,
  encodeText,
  encodeUpgrade,
  encodeWindow,
  incrementNonce,
  parseAnnouncement,
  parseClientAuth,
  parseCount,
  parseHeader,
  parseReceived,
  parseServerHelo,
  parseUpgrade,
  parseWindow,
  PDU_HEADER_BYTES,
  PduType,
  printableText,
  trimText,
} from "../../../src/wire/sodium/sodium_pdu.ts";
import { hex, readRecorded, toHex } from "../../pipe/vectors.ts";
import { PIPE_BODY_MAX_BYTES } from "../../../src/wire/sodium/sodium_pdu.ts";
import { seedOf } from "../../support/seeded.ts";
import { codeOf } from "../../support/code_of.ts";

const recorded = await readRecorded();
const header = (type: number, size: number, magic = 0xbaadc0de): Bytes => {
  const bytes = new Uint8Array(PDU_HEADER_BYTES);
  encodeHeader(type as PduType, size, bytes);
  new DataView(bytes.buffer).setUint32(0, magic);
  return bytes;
};

describe("parseHeader and the codecs of PDUs", () => {
  for (const [index, session] of recorded.sessions.entries()) {
    it(`session ${index}: CLIENT_AUTH and SERVER_HELO come out as they were recorded`, () => {
      const auth = parseClientAuth(hex(session.auth.plain));
      assert.equal(toHex(auth.publicKey), session.client_public);
      assert.equal(printableText(auth.login), session.login);
      assert.equal(printableText(auth.passphrase), session.passphrase);
      const login = encodeText(session.login, "login");
      assert.deepEqual(trimText(auth.login), login);
      assert.equal(toHex(encodeClientAuth(auth)), session.auth.plain);
      const helo = parseServerHelo(hex(session.helo.plain));
      assert.deepEqual(helo.nonce, incrementNonce(auth.nonce));
      assert.equal(printableText(helo.message), "Welcome.");
      assert.equal(parseAnnouncement(helo.message), undefined);
      assert.deepEqual(
        encodeServerHelo({ ...helo, message: encodeMessage("Welcome.") }),
        hex(session.helo.plain),
      );
    });

    it(`session ${index}: answers to DATA are the recorded ones`, () => {
      const sizes = session.pdus.filter((pdu) => pdu.sender === "client" && pdu.type === PduType.Data)
        .map((pdu) => pdu.body.length / 2);
      const answers = session.pdus.filter((pdu) => pdu.sender === "server" && pdu.type === PduType.Data);
      assert.deepEqual(
        sizes.map((size) => toHex(encodeReceived(size))),
        answers.map((answer) => answer.body),
      );
      assert.deepEqual(answers.map((answer) => parseReceived(hex(answer.body))), sizes);
    });
  }

  it("writes a ping's date", () => {
    const pings = recorded.sessions[0].pdus.filter((pdu) => pdu.type === PduType.Ping);
    assert.deepEqual([toHex(encodePing(1_700_000_000, 123_456_789))], pings.map((ping) => ping.body));
  });

  it("judges a body's size by its type, and any beyond 131,070 as too large", () => {
    assert.deepEqual(parseHeader(header(PduType.Data, PIPE_BODY_MAX_BYTES)), { type: 3, size: 131_070 });
    assert.deepEqual(parseHeader(header(PduType.Data, 0)), { type: 3, size: 0 });
    assert.equal(codeOf(() => parseHeader(header(PduType.Data, 131_071))), "limit_exceeded");
    assert.equal(codeOf(() => parseHeader(header(PduType.Data, 0xffff_ffff))), "limit_exceeded");
    for (
      const [type, size] of [[4, 15], [4, 17], [5, 0], [1, 339], [2, 177], [0x11, 8], [0x12, 4], [0x15, 257]]
    ) {
      assert.equal(codeOf(() => parseHeader(header(type!, size!))), "frame_invalid", `${type} ${size}`);
    }
    for (const type of [0, 6, 0x0f, 0x16, 0xffff_ffff]) {
      assert.equal(codeOf(() => parseHeader(header(type, 0))), "frame_invalid");
    }
    assert.equal(codeOf(() => parseHeader(header(3, 0, 0xbaadc0df))), "frame_invalid");
  });

  it("refuses another version, another type, another length", () => {
    const auth = hex(recorded.sessions[0].auth.plain);
    for (let length = 0; length < auth.length; length += 7) {
      assert.equal(codeOf(() => parseClientAuth(auth.subarray(0, length))), "frame_invalid");
    }
    const other = auth.slice();
    other[15] = 0xff;
    assert.equal(codeOf(() => parseClientAuth(other)), "frame_invalid");
    const helo = hex(recorded.sessions[0].helo.plain);
    assert.equal(codeOf(() => parseServerHelo(helo.subarray(1))), "frame_invalid");
    const typed = helo.slice();
    typed[7] = PduType.ClientAuth;
    assert.equal(codeOf(() => parseServerHelo(typed)), "frame_invalid");
  });

  it("increments a nonce as a little-endian number", () => {
    assert.equal(toHex(incrementNonce(hex("ff".repeat(24)))), "00".repeat(24));
    assert.equal(toHex(incrementNonce(hex("ffff00" + "11".repeat(21)))), "000001" + "11".repeat(21));
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 24, maxLength: 24 }), (bytes) => {
        const number = (of: Uint8Array) => BigInt("0x" + toHex(of.slice().reverse()));
        assert.equal(number(incrementNonce(bytes as Bytes)), (number(bytes) + 1n) % (1n << 192n));
      }),
      { numRuns: 100, seed: seedOf(1) },
    );
  });

  it("takes texts of 128 bytes without a NUL, and no longer ones", () => {
    assert.deepEqual(encodeText("x".repeat(128), "login"), new Uint8Array(128).fill(0x78));
    assert.deepEqual(trimText(encodeText("x".repeat(128), "login")), new Uint8Array(128).fill(0x78));
    assert.equal(codeOf(() => encodeText("ä".repeat(65), "login")), "config_invalid");
    assert.equal(codeOf(() => encodeText("a\0b", "login")), "config_invalid");
    const dirty = encodeText("name", "login").fill(0xaa, 5);
    assert.deepEqual(trimText(dirty), encodeText("name", "login"));
  });

  it("prints nothing that a terminal would obey", () => {
    assert.equal(printableText(new TextEncoder().encode("a\x1b[2Jb\r\nc")), "a?[2Jb??c");
  });

  it("carries an announcement after the text, where a C client doesn't look", () => {
    const announcement = { publicKey: new Uint8Array(32).fill(7), aes: true };
    const message = encodeMessage("Welcome.", announcement);
    assert.equal(message.length, 128);
    assert.equal(printableText(message), "Welcome.");
    assert.deepEqual(parseAnnouncement(message), announcement);
    const without = { ...announcement, aes: false };
    assert.deepEqual(parseAnnouncement(encodeMessage("Welcome.", without)), without);
    for (let at = 63; at < 72; at++) {
      const altered = message.slice();
      altered[at]! ^= 1;
      assert.equal(parseAnnouncement(altered), undefined);
    }
    assert.throws(() => encodeMessage("x".repeat(64), announcement), RangeError);
  });

  it("reads its own bodies back", () => {
    fc.assert(
      fc.property(fc.nat(Number.MAX_SAFE_INTEGER), fc.nat(0xffff_ffff), (count, window) => {
        assert.equal(parseCount(encodeCount(count)), count);
        assert.equal(parseWindow(encodeWindow(window)), window);
        const upgrade = { totalBytes: count, aes: window % 2 === 0 };
        assert.deepEqual(parseUpgrade(encodeUpgrade(upgrade)), upgrade);
      }),
      { numRuns: 100, seed: seedOf(2) },
    );
    const unknown = { totalBytes: undefined, aes: false };
    assert.deepEqual(parseUpgrade(encodeUpgrade(unknown)), unknown);
    assert.equal(codeOf(() => parseCount(new Uint8Array(8).fill(0xfe))), "frame_invalid");
  });

  it("refuses any other answer to DATA", () => {
    for (
      const text of [
        "",
        "DATA OK: RECEIVED 01 BYTES",
        "DATA OK: RECEIVED -1 BYTES",
        "DATA OK: RECEIVED 1 BYTES ",
      ]
    ) {
      const body = new Uint8Array(32);
      new TextEncoder().encodeInto(text, body);
      assert.equal(codeOf(() => parseReceived(body)), "frame_invalid", text);
    }
    assert.equal(printableText(encodeReceived(131_070)), "DATA OK: RECEIVED 131070 BYTES");
  });

  // Least and most bytes of each type's body.
  const sizes: [PduType, number, number][] = [
    [PduType.Data, 0, PIPE_BODY_MAX_BYTES],
    [PduType.Upgrade, 9, 9],
    [PduType.Upgraded, 4, 4],
    [PduType.Taken, 8, 8],
    [PduType.End, 8, 8],
    [PduType.Done, 8, 8],
  ];
  for (const [type, least, most] of sizes) {
    it(`takes bodies of ${least} to ${most} bytes of type ${type}`, () => {
      const code = (size: number) => codeOf(() => parseHeader(header(type, size)));
      assert.deepEqual([code(least), code(most)], ["none", "none"]);
      assert.notEqual(code(most + 1), "none");
      assert.equal(code(Math.max(0, least - 1)), least === 0 ? "none" : "frame_invalid");
    });
  }
});
