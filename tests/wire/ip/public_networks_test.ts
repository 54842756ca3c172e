/** Which addresses lie on the internet, and how addresses are written. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ipText } from "../../../src/wire/ip/networks.ts";
import { isPublicAddress } from "../../../src/wire/ip/public_networks.ts";

describe("isPublicAddress()", () => {
  const table: [boolean, string[]][] = [
    [true, ["1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.255.255", "223.255.255.255", "198.17.0.1"]],
    [true, ["2606:4700::1111", "2a00::1", "::ffff:8.8.8.8"]],
    [false, ["10.0.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.1.1"]],
    [false, ["100.64.0.1", "100.127.255.255", "0.0.0.0", "224.0.0.1", "255.255.255.255", "203.0.113.9"]],
    [false, ["::1", "::", "fe80::1", "fd00::1", "ff02::1", "2001:db8::1", "2002::1", "::ffff:10.0.0.1"]],
    [false, ["localhost", "", "1.1.1", "example.com"]],
  ];
  for (const [isPublic, hosts] of table) {
    it(`is ${isPublic} of ${hosts.join(" ")}`, () => {
      for (const host of hosts) assert.equal(isPublicAddress(host), isPublic, host);
    });
  }
});

describe("ipText()", () => {
  it("is the usual spelling; of a mapped IPv4 address, that address", () => {
    assert.equal(ipText(Uint8Array.of(192, 0, 2, 1)), "192.0.2.1");
    const ipv6 = (...last: number[]) => Uint8Array.from([...new Uint8Array(16 - last.length), ...last]);
    assert.equal(ipText(ipv6(1)), "::1");
    assert.equal(
      ipText(Uint8Array.from([0x20, 1, 0xd, 0xb8, ...ipv6(0x12, 0x34).subarray(4)])),
      "2001:db8::1234",
    );
    assert.equal(ipText(ipv6(255, 255, 192, 0, 2, 1)), "192.0.2.1");
  });
});
