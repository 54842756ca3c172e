import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { SallyportError } from "../../../src/errors.ts";
import { isLocalSource, NetworkSet, normalizeIp, parseIp, sourceOf } from "../../../src/wire/ip/networks.ts";
import { seedOf } from "../../support/seeded.ts";

describe("sourceOf", () => {
  it("is the address, of IPv6 its /64, of an IPv4-mapped one the IPv4 address", () => {
    assert.equal(sourceOf("192.0.2.1"), "192.0.2.1");
    assert.equal(sourceOf("::ffff:192.0.2.1"), "192.0.2.1");
    assert.equal(sourceOf("2001:db8:a:b:c:d:e:f"), sourceOf("2001:db8:a:b::"));
    assert.notEqual(sourceOf("2001:db8:a:c::"), sourceOf("2001:db8:a:b::"));
    assert.notEqual(sourceOf("::192.0.2.1"), sourceOf("192.0.2.1"));
    assert.equal(sourceOf("unknown"), "unknown");
  });
});

describe("isLocalSource", () => {
  for (
    const [host, isLocal] of [
      ["127.0.0.1", true],
      ["127.255.0.3", true],
      ["::1", true],
      ["128.0.0.1", false],
      ["192.0.2.1", false],
      ["2001:db8::1", false],
      ["1::", false],
    ] as const
  ) {
    it(`says that ${host} is ${isLocal ? "this machine" : "elsewhere"}`, () =>
      assert.equal(isLocalSource(sourceOf(host)), isLocal));
  }
});

describe("parseIp", () => {
  const cases: [string, string | undefined][] = [
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["::ffff:c000:201", "192.0.2.1"],
    ["::192.0.2.1", "::c000:201"],
    ["2001:DB8:0:0::1", "2001:db8::1"],
    ["fe80::1%eth0", "fe80::1"],
    ["::", "::"],
    ["127.1", undefined],
    ["0x7f.0.0.1", undefined],
    ["0177.0.0.1", undefined],
    ["2130706433", undefined],
    ["256.0.0.1", undefined],
    ["1.2.3.4%eth0", undefined],
    ["[::1]", undefined],
    ["1::2::3", undefined],
    ["00001::", undefined],
    ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
    ["1:2:3:4:5:6:7:8:9", undefined],
    ["localhost", undefined],
    ["", undefined],
    [" 192.0.2.1", undefined],
  ];
  for (const [text, expected] of cases) {
    it(`reads ${JSON.stringify(text)} as ${expected ?? "no address"}`, () =>
      assert.equal(normalizeIp(text), expected));
  }

  it("gives 4 or 16 bytes", () => {
    assert.deepEqual(parseIp("192.0.2.1"), [192, 0, 2, 1]);
    assert.equal(parseIp("2001:db8::1")?.length, 16);
  });
});

describe("NetworkSet", () => {
  const cases: [string, string, boolean][] = [
    ["10.0.0.0/8", "10.255.255.255", true],
    ["10.0.0.0/8", "11.0.0.0", false],
    ["10.0.0.0/8", "::ffff:10.1.2.3", true],
    ["::ffff:10.0.0.0/104", "10.1.2.3", true],
    ["::ffff:10.0.0.0/104", "11.1.2.3", false],
    ["192.0.2.128/25", "192.0.2.127", false],
    ["192.0.2.128/25", "192.0.2.128", true],
    ["192.0.2.7", "192.0.2.7", true],
    ["192.0.2.7", "192.0.2.6", false],
    ["0.0.0.0/0", "203.0.113.9", true],
    ["0.0.0.0/0", "2001:db8::1", false],
    ["::/0", "2001:db8::1", true],
    // A v4 address is no v6 address, whichever way the socket reports it.
    ["::/0", "::ffff:203.0.113.9", false],
    ["fd00::/8", "fdff::1", true],
    ["fd00::/8", "fe00::1", false],
    ["fe80::/10", "febf::1%eth0", true],
    ["2001:db8::1", "2001:db8:0::1", true],
    ["10.0.0.0/8", "not an address", false],
  ];
  for (const [cidr, ip, expected] of cases) {
    it(`${cidr} ${expected ? "holds" : "doesn't hold"} ${ip}`, () => {
      assert.equal(new NetworkSet([cidr]).contains(ip), expected);
    });
  }

  it("holds what any of its networks holds", () => {
    const set = new NetworkSet(["10.0.0.0/8", "fd00::/8"]);
    assert.equal(set.size, 2);
    assert.ok(set.contains("10.0.0.1") && set.contains("fd00::1") && !set.contains("192.0.2.1"));
    assert.ok(!new NetworkSet([]).contains("10.0.0.1"));
  });

  const wrong: [string, RegExp][] = [
    ["10.0.0.0/33", /more than 32 bits/],
    ["fd00::/129", /more than 128 bits/],
    ["10.0.0.1/8", /did you mean 10\.0\.0\.0\/8\?/],
    ["fd00::1/64", /did you mean fd00::\/64\?/],
    ["10.0.0.0/", /is not CIDR/],
    ["10.0.0.0/08", /is not CIDR/],
    ["10.0.0.0/8/8", /is not CIDR/],
    ["10.0.0/8", /is not CIDR/],
    ["fe80::%eth0/64", /is not CIDR/],
    ["example.org", /is not CIDR/],
    ["", /is not CIDR/],
  ];
  for (const [cidr, message] of wrong) {
    it(`refuses ${JSON.stringify(cidr)}`, () => {
      assert.throws(() => new NetworkSet([cidr]), (error) => {
        assert.ok(
          error instanceof SallyportError && error.code === "config_invalid" && error.side === "config",
        );
        assert.match(error.message, message);
        return true;
      });
    });
  }

  it("agrees with a comparison of bits", () => {
    const bits = (bytes: readonly number[]) =>
      bytes.map((byte) => byte.toString(2).padStart(8, "0")).join("");
    const v4 = fc.array(fc.nat(255), { minLength: 4, maxLength: 4 });
    fc.assert(
      fc.property(v4, fc.nat(32), v4, fc.nat(32), (base, prefix, other, shared) => {
        // Addresses that share their first bits with the network, so that both answers occur.
        const address = parseInt(bits(base).slice(0, shared) + bits(other).slice(shared), 2);
        const ip = [24, 16, 8, 0].map((shift) => (address >>> shift) & 255);
        const network = parseInt(bits(base).slice(0, prefix).padEnd(32, "0"), 2);
        const cidr = `${[24, 16, 8, 0].map((shift) => (network >>> shift) & 255).join(".")}/${prefix}`;
        const expected = bits(ip).slice(0, prefix) === bits(base).slice(0, prefix);
        assert.equal(new NetworkSet([cidr]).contains(ip.join(".")), expected);
      }),
      { seed: seedOf(1), numRuns: 300 },
    );
  });
});
