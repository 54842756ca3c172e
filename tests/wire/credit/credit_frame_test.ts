/** Frames of the credit dialect, byte by byte (docs/protocols/sealed.md, Frames). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { ErrorCode } from "../../../src/errors.ts";
import {
  checkCreditHeader,
  CONTROL_MAX_BYTES,
  CREDIT_FRAME_MAX_BYTES,
  CREDIT_HEADER_BYTES,
  CreditFrame,
  creditFrameSize,
  creditFrameStream,
  decodeCredit,
  decodeOpen,
  decodeReason,
  encodeCreditFrame,
  encodeOpen,
  encodeReason,
  PING_BYTES,
  writeCreditHeader,
} from "../../../src/wire/credit/credit_frame.ts";
import { codeOf } from "../../support/code_of.ts";

const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex"));
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

describe("encodeCreditFrame and checkCreditHeader", () => {
  it("figures are the specification's", () => {
    assert.deepEqual([CREDIT_HEADER_BYTES, PING_BYTES, CREDIT_FRAME_MAX_BYTES, CONTROL_MAX_BYTES], [
      8,
      16,
      65_536,
      277,
    ]);
    assert.deepEqual({ ...CreditFrame }, {
      OPEN: 1,
      DATA: 2,
      CREDIT: 3,
      FIN: 4,
      RESET: 5,
      GOAWAY: 6,
      PING: 7,
      PONG: 8,
      OFFER: 9,
    });
  });

  it("writeCreditHeader() writes type, 24 bits of length and 32 bits of stream at its place", () => {
    const bytes = new Uint8Array(12).fill(0xee);
    writeCreditHeader(bytes, 2, 7, 0x123456, 0x89abcdef);
    assert.equal(toHex(bytes), "eeee" + "07123456" + "89abcdef" + "eeee");
    assert.deepEqual([creditFrameSize(bytes.subarray(2)), creditFrameStream(bytes.subarray(2))], [
      0x123456,
      0x89abcdef,
    ]);
  });

  it("encodeCreditFrame() puts the body after the header", () => {
    assert.equal(toHex(encodeCreditFrame(2, 5, hex("aabb"))), "0200000200000005aabb");
  });

  it("decodeCredit() is unsigned", () => assert.equal(decodeCredit(hex("ffeeddcc")), 0xffeeddcc));

  // Type, least and largest length that pass.
  const sizes: [number, number, number][] = [
    [CreditFrame.OPEN, 0, 277],
    [CreditFrame.DATA, 0, 65_536],
    [CreditFrame.CREDIT, 4, 4],
    [CreditFrame.FIN, 0, 0],
    [CreditFrame.RESET, 2, 2],
    [CreditFrame.GOAWAY, 2, 2],
    [CreditFrame.PING, 16, 16],
    [CreditFrame.PONG, 16, 16],
    [CreditFrame.OFFER, 0, 0],
    [0, 0, 65_536],
    [77, 0, 65_536],
  ];
  for (const [type, least, most] of sizes) {
    it(`checkCreditHeader() lets type ${type} have ${least} to ${most} bytes`, () => {
      const header = new Uint8Array(8);
      const check = (size: number) => {
        writeCreditHeader(header, 0, type, size, 1);
        checkCreditHeader(header);
      };
      check(least);
      check(most);
      assert.throws(() => check(most + 1), { code: "frame_invalid" });
      assert.equal(codeOf(() => check(Math.max(0, least - 1))), least === 0 ? "none" : "frame_invalid");
    });
  }
});

describe("encodeOpen and decodeOpen", () => {
  const cases: [string, Parameters<typeof encodeOpen>[1], string][] = [
    [
      "IPv4 and a name",
      { address: "192.0.2.1", port: 0x1234, serverName: "a.test", creditBytes: 0x20000 },
      "0100001200000003" + "00020000" + "1234" + "04c0000201" + "06612e74657374",
    ],
    [
      "IPv6 without a name",
      { address: "2001:db8::1", port: 1, serverName: undefined, creditBytes: 1 },
      "0100001800000003" + "00000001" + "0001" + "1020010db8000000000000000000000001" + "00",
    ],
    [
      "no address",
      { address: "0.0.0.0", port: 0, serverName: undefined, creditBytes: 0 },
      "0100000c00000003" + "00000000" + "0000" + "0400000000" + "00",
    ],
  ];
  for (const [name, open, bytes] of cases) {
    it(`encodeOpen() and decodeOpen(): ${name}`, () => {
      assert.equal(toHex(encodeOpen(3, open)), bytes);
      assert.deepEqual(decodeOpen(hex(bytes).subarray(8)), open);
    });
  }

  it("encodeOpen() leaves out an address that isn't one and a name longer than 253 characters", () => {
    const long = { address: "nowhere", port: 0, serverName: "a".repeat(254), creditBytes: 0 };
    assert.equal(toHex(encodeOpen(0, long)), "0100000800000000" + "00000000" + "0000" + "00" + "00");
    const longest = encodeOpen(0, { ...long, serverName: "a".repeat(253) });
    assert.equal(decodeOpen(longest.subarray(8)).serverName, "a".repeat(253));
  });

  it("decodeOpen() says 0.0.0.0 where there is no address, and reads all of the port", () => {
    assert.deepEqual(decodeOpen(hex("00000000 ff01 00 00")), {
      address: "0.0.0.0",
      port: 0xff01,
      serverName: undefined,
      creditBytes: 0,
    });
  });

  const malformed: [string, string][] = [
    ["nothing", ""],
    ["no length of an address", "00000000 0000"],
    ["an address of three bytes", "00000000 0000 03 010203 00"],
    ["an address of 17 bytes", "00000000 0000 11 0102030405060708090a0b0c0d0e0f1011 00"],
    ["an address that is cut", "00000000 0000 04 0102"],
    ["no length of a name", "00000000 0000 04 01020304"],
    ["a name that is cut", "00000000 0000 00 02 61"],
    ["a byte after the name", "00000000 0000 00 01 61 62"],
    ["a blank in the name", "00000000 0000 00 01 20"],
    ["DEL in the name", "00000000 0000 00 01 7f"],
  ];
  for (const [name, body] of malformed) {
    it(`decodeOpen() throws frame_invalid for ${name}`, () => {
      assert.throws(() => decodeOpen(hex(body)), { code: "frame_invalid" });
    });
  }
  it("decodeOpen() takes the characters at both ends of printable ASCII", () => {
    assert.equal(decodeOpen(hex("00000000 0000 00 02 217e")).serverName, "!~");
  });
});

describe("encodeReason and decodeReason", () => {
  const reasons: ErrorCode[] = [
    "aborted",
    "stream_overflow",
    "limit_exceeded",
    "access_denied",
    "endpoint_unreachable",
    "session_idle",
    "shutdown",
    "replaced",
    "token_expired",
    "connection_lost",
    "frame_invalid",
    "unrecognized_name",
  ];
  it("have the specification's numbers", () => {
    for (const [number, code] of reasons.entries()) {
      const frame = encodeReason(CreditFrame.RESET, 9, code);
      assert.equal(toHex(frame), `0500000200000009${number.toString(16).padStart(4, "0")}`);
      assert.equal(decodeReason(frame.subarray(8)), code);
    }
  });
  it("unknown ones are aborted, both ways", () => {
    assert.equal(toHex(encodeReason(CreditFrame.GOAWAY, 0, "config_invalid")), "06000002000000000000");
    for (const body of ["000c", "0100", "ffff"]) assert.equal(decodeReason(hex(body)), "aborted");
  });
});
