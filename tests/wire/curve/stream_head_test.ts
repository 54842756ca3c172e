/** Heads of the curve transport's streams, byte by byte (docs/protocols/curve.md, Sessions). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  decodeCurveHead,
  encodeCallerHead,
  encodeGoingAwayHead,
} from "../../../src/wire/curve/stream_head.ts";

const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex"));
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

describe("encodeCallerHead and decodeCurveHead", () => {
  const callers: [
    string,
    Parameters<typeof encodeCallerHead>[0],
    string,
    { address: string; port: number },
  ][] = [
    [
      "IPv4 and a name",
      { address: "192.0.2.1", port: 0x1234, serverName: "a.test" },
      "00 1234 04c0000201 06612e74657374",
      { address: "192.0.2.1", port: 0x1234 },
    ],
    ["IPv6 alone", { address: "2001:db8::1", port: 0xff }, "00 00ff 1020010db8000000000000000000000001 00", {
      address: "2001:db8::1",
      port: 0xff,
    }],
    ["no address, no port", { address: "nowhere" }, "00 0000 00 00", { address: "0.0.0.0", port: 0 }],
    [
      "a name that is too long",
      { address: "192.0.2.1", serverName: "a".repeat(254) },
      "00 0000 04c0000201 00",
      {
        address: "192.0.2.1",
        port: 0,
      },
    ],
  ];
  for (const [name, caller, bytes, read] of callers) {
    it(`encodeCallerHead() and decodeCurveHead(): ${name}`, () => {
      const head = encodeCallerHead(caller);
      assert.equal(toHex(head), bytes.replaceAll(" ", ""));
      const serverName = caller.serverName === "a.test" ? "a.test" : undefined;
      const expected = { kind: "caller", size: head.length, ...read, serverName };
      assert.deepEqual(decodeCurveHead(head), expected);
      // What follows is the visitor's.
      assert.deepEqual(decodeCurveHead(new Uint8Array([...head, 1, 2, 3])), expected);
      for (let cut = 0; cut < head.length; cut++) {
        assert.equal(decodeCurveHead(head.subarray(0, cut)), undefined);
      }
    });
  }

  it("the longest name passes", () => {
    const serverName = "a".repeat(253);
    const head = decodeCurveHead(encodeCallerHead({ address: "192.0.2.1", serverName }));
    assert.deepEqual(head, { kind: "caller", size: 262, address: "192.0.2.1", port: 0, serverName });
  });

  it("encodeGoingAwayHead() is two bytes", () => {
    assert.equal(toHex(encodeGoingAwayHead(7)), "0107");
    assert.deepEqual(decodeCurveHead(hex("0107ff")), { kind: "going away", size: 2, code: 7 });
    assert.equal(decodeCurveHead(hex("01")), undefined);
  });

  const malformed: [string, string][] = [
    ["an unknown kind", "02"],
    ["an address of three bytes", "00 0000 03"],
    ["an address of 15 bytes", "00 0000 0f"],
    ["a name of 254 bytes, by its length", "00 0000 00 fe"],
    ["a blank in the name", "00 0000 00 01 20"],
    ["DEL in the name", "00 0000 00 01 7f"],
  ];
  for (const [name, bytes] of malformed) {
    it(`decodeCurveHead() throws frame_invalid for ${name}`, () => {
      assert.throws(() => decodeCurveHead(hex(bytes)), { code: "frame_invalid" });
    });
  }
  it("decodeCurveHead() takes the characters at both ends of printable ASCII", () => {
    const head = decodeCurveHead(hex("00 0000 00 02 217e"));
    assert.equal(head?.kind === "caller" && head.serverName, "!~");
  });
});
