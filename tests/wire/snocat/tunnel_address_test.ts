import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { formatTunnelAddress, parseTunnelAddress } from "../../../src/wire/snocat/tunnel_address.ts";
import { codeOf } from "../../support/code_of.ts";
import { seedOf } from "../../support/seeded.ts";

describe("parseTunnelAddress", () => {
  const both: [string, string[]][] = [
    ["", []],
    ["/", [""]],
    ["//", ["", ""]],
    ["/a", ["a"]],
    ["/a/", ["a", ""]],
    ["//a", ["", "a"]],
    ["/a//b", ["a", "", "b"]],
    ["/proxy-tcp/ip6/::1/tcp/80", ["proxy-tcp", "ip6", "::1", "tcp", "80"]],
    ["/a\\/b/c", ["a/b", "c"]],
    ["/\\/", ["/"]],
    ["/\\\\", ["\\"]],
    ["/\\\\\\/", ["\\/"]],
    ["/\\\\/", ["\\", ""]],
    ["/\\/\\/\\\\/\\\\\\\\", ["//\\", "\\\\"]],
    ["/grüße/東京/🐱", ["grüße", "東京", "🐱"]],
    ["/ /\0/%2F", [" ", "\0", "%2F"]],
  ];
  for (const [text, segments] of both) {
    it(`${JSON.stringify(text)} has ${segments.length} segments, both ways`, () => {
      assert.deepEqual(parseTunnelAddress(text), segments);
      assert.equal(formatTunnelAddress(segments), text);
    });
  }

  for (const text of ["a", "a/b", " /a", "\\/a", "/a\\", "/\\n", "/a\\b/c", "/\\", "/a\\\\\\"]) {
    it(`${JSON.stringify(text)} is none`, () => {
      assert.throws(() => parseTunnelAddress(text), { code: "address_invalid" });
    });
  }

  it("any segments come back as they were", () => {
    const segment = fc.oneof(fc.string({ unit: "grapheme" }), fc.stringMatching(/^[/\\a]*$/));
    fc.assert(
      fc.property(fc.array(segment), (segments) => {
        assert.deepEqual(parseTunnelAddress(formatTunnelAddress(segments)), segments);
      }),
      { seed: seedOf(47), numRuns: 100 },
    );
  });

  it("any text is refused, or has one spelling", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[/\\ab]*$/), (text) => {
        let again = text;
        const code = codeOf(() => again = formatTunnelAddress(parseTunnelAddress(text)));
        assert.match(code, /^(none|address_invalid)$/);
        assert.equal(again, text);
      }),
      { seed: seedOf(48), numRuns: 100 },
    );
  });
});
