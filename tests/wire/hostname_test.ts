import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { canonicalHostname, hostnameFault, isHostname, printableName } from "../../src/wire/hostname.ts";
import { seedOf } from "../support/seeded.ts";

/** The longest name: labels of 63, 63, 63 and 61 characters. */
const NAME_253 = [63, 63, 63, 61].map((length) => "a".repeat(length)).join(".");

describe("canonicalHostname and hostnameFault", () => {
  const good: [string, string][] = [
    ["myhome.example.org", "myhome.example.org"],
    ["MyHome.Example.ORG.", "myhome.example.org"],
    ["localhost", "localhost"],
    ["_dmarc.my_host.example", "_dmarc.my_host.example"],
    ["xn--mnchen-3ya.example", "xn--mnchen-3ya.example"],
    [`${"a".repeat(63)}.example`, `${"a".repeat(63)}.example`],
    ["1.2.3.4.example", "1.2.3.4.example"],
    [NAME_253, NAME_253],
    [`${NAME_253}.`, NAME_253],
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
    ["a".repeat(64), /a label has 64 characters/],
    [`${NAME_253}a`, /it has 254 characters/],
    [`${NAME_253}a.`, /it has 254 characters/],
    ["192.0.2.1", /IP address/],
    ["192.0.2.1.", /IP address/],
    ["::ffff:192.0.2.1", /IP address/],
    ["example.org\0", /other than letters/],
    // KELVIN SIGN: its lower case is an ASCII k.
    ["\u212aelvin.example", /beyond ASCII/],
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
      assert.match(hostnameFault(text) ?? "", why);
      assert.throws(() => canonicalHostname(text), { code: "unrecognized_name" });
    });
  }
  it("are printed without control characters, and cut", () => {
    assert.equal(printableName('a\u001b[31m\nü"\\'), "a\\u{1b}[31m\\u{a}\\u{fc}\\u{22}\\u{5c}");
    assert.equal(printableName("x".repeat(200), 10), `${"x".repeat(10)}…`);
    assert.equal(printableName("x".repeat(80)), "x".repeat(80));
    assert.equal(printableName("\u{1f600}…\ud83d"), "\\u{1f600}\\u{2026}\\u{d83d}");
  });

  it("have one spelling, which is stable, and only good characters in it", { timeout: 60_000 }, () => {
    const label = fc.string({ unit: fc.constantFrom(..."abzABZ019-_"), minLength: 1, maxLength: 63 });
    const name = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => [...labels, "x"].join("."));
    fc.assert(
      fc.property(name, fc.boolean(), (text, dot) => {
        fc.pre(text.length <= 253);
        assert.equal(canonicalHostname(dot ? `${text}.` : text), text.toLowerCase());
      }),
      { seed: seedOf(19), numRuns: 100 },
    );
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 300 }), (text) => {
        assert.match(printableName(text), /^[\x20-\x7e]*…?$/);
        if (hostnameFault(text) === undefined) assert.match(canonicalHostname(text), /^[a-z0-9_.-]{1,253}$/);
        else assert.throws(() => canonicalHostname(text), { code: "unrecognized_name" });
      }),
      { seed: seedOf(19), numRuns: 200 },
    );
  });
});

describe("isHostname", () => {
  const cases = {
    "home.example.org": true,
    "localhost": true,
    "999.1.1.1": false,
    "a.123": false,
    "": false,
    "a b": false,
  };
  for (const [host, expected] of Object.entries(cases)) {
    it(`says that ${JSON.stringify(host)} ${expected ? "may" : "may not"} be dialled`, () =>
      assert.equal(isHostname(host), expected));
  }
});
