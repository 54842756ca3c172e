import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { formatTunnelAddress, parseTunnelAddress } from "../../../src/wire/snocat/tunnel_address.ts";

describe("addresses inside a tunnel", () => {
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
    fc.assert(fc.property(fc.array(segment), (segments) => {
      assert.deepEqual(parseTunnelAddress(formatTunnelAddress(segments)), segments);
    }));
  });

  it("any text is refused, or has one spelling", () => {
    fc.assert(fc.property(fc.stringMatching(/^[/\\ab]*$/), (text) => {
      let segments: string[];
      try {
        segments = parseTunnelAddress(text);
      } catch (error) {
        assert.equal((error as { code?: string }).code, "address_invalid");
        return;
      }
      assert.equal(formatTunnelAddress(segments), text);
    }));
  });
});
