import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Bytes } from "../../../src/bytes/bytes.ts";
import {
  type DemandFrame,
  demandFrame,
  demandSegments,
  encodeDemand,
  encodeGrant,
  encodeRefusal,
  grantFrame,
  parseDemand,
  parseDemandSegments,
  parseGrant,
  refusalReason,
  wantsReasons,
} from "../../../src/wire/snocat/demand_proxy.ts";
import { hex, toHex } from "../../pipe/vectors.ts";
import { DEMAND_TEXT_MAX_BYTES } from "../../../src/wire/snocat/demand_proxy.ts";
import { codeOf } from "../../support/code_of.ts";
import { seedOf } from "../../support/seeded.ts";

const json = (value: unknown): Bytes => new TextEncoder().encode(JSON.stringify(value));
/** What a frame has collected of `bytes`, and how much of them it left. */
function collect(frame: DemandFrame, bytes: Bytes): { body: Bytes | undefined; left: number } {
  const taken = frame.push(bytes);
  return { body: frame.body, left: bytes.length - taken };
}

describe("parseDemand and parseGrant", () => {
  it("speaks snocat-cli's bytes", () => {
    assert.equal(toHex(encodeDemand()), "000000022222");
    assert.equal(toHex(encodeGrant(undefined)), "000000046e756c6c");
    assert.equal(
      toHex(encodeGrant([{ host: "::", port: 8080 }])),
      "0000000d" + "5b225b3a3a5d3a38303830225d",
    );
    assert.deepEqual(parseGrant(hex("5b225b3a3a5d3a38303830225d")), [{ host: "::", port: 8080 }]);
    assert.deepEqual(demandSegments({ host: "127.0.0.1", port: 22 }), [
      "proxyme",
      "0.0.1",
      "127.0.0.1",
      "22",
    ]);
  });

  it("takes targets with and without a host, and nothing else", () => {
    const parse = (...rest: string[]) => parseDemandSegments(["proxyme", ...rest]);
    assert.deepEqual(parse("0.0.1", "22"), { host: undefined, port: 22 });
    assert.deepEqual(parse("0.0.1", "::1", "65535"), { host: "::1", port: 65535 });
    for (const target of [{ host: undefined, port: 1 }, { host: "a.example", port: 443 }]) {
      assert.deepEqual(parseDemandSegments(demandSegments(target)), target);
    }
    const wrong = [
      ["0.0.1"],
      ["0.0.2", "22"],
      ["0.0.1", "0"],
      ["0.0.1", "65536"],
      ["0.0.1", "a", "b"],
      [
        "0.0.1",
        "",
        "22",
      ],
      ["0.0.1", "a", "22", ""],
      ["0.0.1", "a", "+22"],
      ["0.0.1", "a".repeat(254), "22"],
      [],
    ];
    for (const rest of wrong) assert.equal(parse(...rest), undefined, rest.join("/"));
    assert.equal(parseDemandSegments(["proxy-tcp", "0.0.1", "22"]), undefined);
  });

  it("carries a wish, and takes no harm from another's text", () => {
    const wish = (frame: Bytes) => parseDemand(collect(demandFrame(), frame).body as Bytes);
    assert.equal(wish(encodeDemand()), undefined);
    assert.equal(wish(encodeDemand(2222)), 2222);
    assert.equal(parseDemand(json("for my grandmother")), undefined);
    for (const text of ["tcp:", "tcp:0", "tcp:65536", "tcp: 1", "tcp:1e3", null, 7, ["tcp:1"], {}]) {
      assert.equal(codeOf(() => parseDemand(json(text))), "frame_invalid", String(text));
    }
    assert.equal(codeOf(() => parseDemand(hex("22ff22"))), "frame_invalid");
    assert.equal(codeOf(() => parseDemand(new Uint8Array(0))), "frame_invalid");
  });

  it("tells who asks for it why it refuses", () => {
    const body = (frame: Bytes) => frame.subarray(4);
    assert.equal(wantsReasons(body(encodeDemand())), false);
    assert.equal(wantsReasons(body(encodeDemand(undefined, true))), true);
    assert.equal(wantsReasons(body(encodeDemand(22))), true);
    assert.equal(wantsReasons(json("tcpip")), false);
    assert.equal(wantsReasons(json(7)), false);
    assert.equal(parseDemand(body(encodeDemand(undefined, true))), undefined);
    for (const reason of ["access_denied", "address_in_use", "limit_exceeded"] as const) {
      const answer = body(encodeRefusal(reason));
      assert.equal(parseGrant(answer), undefined);
      assert.equal(refusalReason(answer), reason);
    }
    for (const answer of [null, { refused: "shutdown" }, { refused: 7 }]) {
      assert.equal(parseGrant(json(answer)), undefined);
      assert.equal(refusalReason(json(answer)), undefined);
    }
  });

  it("takes IP addresses alone as a grant", () => {
    const addresses = [{ host: "::1", port: 1 }, { host: "192.0.2.7", port: 65535 }];
    assert.deepEqual(parseGrant(encodeGrant(addresses).subarray(4)), addresses);
    assert.equal(parseGrant(json(null)), undefined);
    const wrong = [
      [],
      ["a.example:80"],
      ["::1:80"],
      ["[192.0.2.7]:80"],
      ["[::1]"],
      ["[::1]:0"],
      [
        "[::1]:80\n",
      ],
      [7],
      {},
      "[::1]:80",
      7,
    ];
    for (const answer of wrong) {
      assert.equal(codeOf(() => parseGrant(json(answer))), "frame_invalid", JSON.stringify(answer));
    }
  });

  it("collects a frame that comes in pieces, and leaves what follows", () => {
    const bytes = Uint8Array.of(...encodeDemand(22), 1, 2, 3);
    for (let cut = 0; cut <= bytes.length; cut++) {
      const frame = demandFrame();
      const first = frame.push(bytes.subarray(0, cut));
      const rest = frame.push(bytes.subarray(first));
      assert.equal(first + rest, bytes.length - 3);
      assert.equal(parseDemand(frame.body as Bytes), 22);
    }
    const frame = demandFrame();
    for (const [index, byte] of encodeDemand(22).entries()) {
      assert.equal(frame.body, undefined, String(index));
      assert.equal(frame.push(Uint8Array.of(byte)), 1);
    }
    assert.equal(parseDemand(frame.body as Bytes), 22);
  });

  it("judges a length before the body", () => {
    const head = (size: number) => {
      const bytes = new Uint8Array(4);
      new DataView(bytes.buffer).setUint32(0, size);
      return bytes;
    };
    assert.equal(codeOf(() => demandFrame().push(head(DEMAND_TEXT_MAX_BYTES))), "none");
    assert.equal(codeOf(() => demandFrame().push(head(DEMAND_TEXT_MAX_BYTES + 1))), "frame_invalid");
    assert.equal(codeOf(() => grantFrame().push(head(0xffffffff))), "frame_invalid");
    assert.deepEqual(collect(demandFrame(), head(0)).body, new Uint8Array(0));
  });

  it("throws nothing but typed errors, whatever comes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        for (const parse of [parseDemand, parseGrant]) {
          assert.match(codeOf(() => parse(Uint8Array.from(bytes))), /^(none|frame_invalid)$/);
        }
      }),
      { seed: seedOf(41), numRuns: 100 },
    );
    fc.assert(
      fc.property(fc.json(), (text) => {
        assert.match(codeOf(() => parseGrant(new TextEncoder().encode(text))), /^(none|frame_invalid)$/);
      }),
      { seed: seedOf(42), numRuns: 100 },
    );
  });
});
