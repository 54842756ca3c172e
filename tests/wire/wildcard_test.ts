import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { canonicalServedName, coversName, servedNameFault, wildcardOf } from "../../src/wire/wildcard.ts";

describe("canonicalServedName and coversName", () => {
  it("are host names, or wildcards of one label, in one spelling", () => {
    assert.equal(canonicalServedName("Home.Example.ORG."), "home.example.org");
    assert.equal(canonicalServedName("*.Home.Example.ORG."), "*.home.example.org");
    const wrong: readonly [string, RegExp][] = [
      ["*", /its whole first label/],
      ["*.", /it is empty/],
      ["*.org", /two labels after its \*/],
      ["*.*.example.org", /its whole first label: \*\.example\.org/],
      ["a.*.example.org", /its whole first label/],
      ["a*.example.org", /its whole first label/],
      ["*.exam ple.org", /characters other than/],
      ["*.192.0.2.1", /it is an IP address/],
    ];
    for (const [name, why] of wrong) {
      assert.match(servedNameFault(name) ?? "", why, name);
      assert.throws(() => canonicalServedName(name), { code: "unrecognized_name" }, name);
    }
  });

  it("cover one label, as certificates do", () => {
    assert.equal(wildcardOf("a.home.example.org"), "*.home.example.org");
    assert.equal(wildcardOf("example.org"), undefined);
    assert.equal(wildcardOf("localhost"), undefined);
    assert.equal(coversName("*.example.org", "a.example.org"), true);
    assert.equal(coversName("*.example.org", "*.example.org"), true);
    assert.equal(coversName("*.example.org", "example.org"), false);
    assert.equal(coversName("*.example.org", "a.b.example.org"), false);
    assert.equal(coversName("*.example.org", "*.b.example.org"), false);
    assert.equal(coversName("a.example.org", "a.example.org"), true);
  });
});
