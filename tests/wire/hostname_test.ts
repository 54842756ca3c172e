import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { canonicalHostname, hostnameFault, printableName } from "../../src/wire/hostname.ts";

describe("hostnames", () => {
  const good: [string, string][] = [
    ["myhome.example.org", "myhome.example.org"],
    ["MyHome.Example.ORG.", "myhome.example.org"],
    ["localhost", "localhost"],
    ["_dmarc.my_host.example", "_dmarc.my_host.example"],
    ["xn--mnchen-3ya.example", "xn--mnchen-3ya.example"],
    [`${"a".repeat(63)}.example`, `${"a".repeat(63)}.example`],
    ["1.2.3.4.example", "1.2.3.4.example"],
  ];
  for (const [text, canonical] of good) {
    it(`"${text.slice(0, 30)}" is one`, () => assert.equal(canonicalHostname(text), canonical));
  }
  const bad: [string, RegExp][] = [
    ["", /empty/],
    [".", /empty/],
    ["a..b", /empty label/],
    ["example.org..", /empty label/],
    [".example.org", /empty label/],
    ["a".repeat(64), /64 characters/],
    [`${"a.".repeat(127)}`, /characters|label/],
    ["192.0.2.1", /IP address/],
    ["2001:db8::1", /IP address/],
    ["*.example.org", /other than letters/],
    ["a b", /other than letters/],
    ["a\n.example", /other than letters/],
    ["münchen.example", /beyond ASCII/],
    ["[::1]", /other than letters/],
    ["a/b", /other than letters/],
  ];
  for (const [text, why] of bad) {
    it(`${JSON.stringify(text.slice(0, 30))} is none: ${why.source}`, () => {
      if (text.startsWith("a.a.")) {
        assert.match(hostnameFault(`${text}aa`) ?? "", why);
        return;
      }
      assert.match(hostnameFault(text) ?? "", why);
      assert.throws(() => canonicalHostname(text), { code: "unrecognized_name" });
    });
  }
  it("are printed without control characters, and cut", () => {
    assert.equal(printableName('a\u001b[31m\nü"\\'), "a\\u{1b}[31m\\u{a}\\u{fc}\\u{22}\\u{5c}");
    assert.equal(printableName("x".repeat(200), 10), `${"x".repeat(10)}…`);
  });
});
