import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { formatHostPort, splitHostPort, unbracketed } from "../../../src/wire/ip/host_port.ts";

describe("splitHostPort", () => {
  const cases: [string, ReturnType<typeof splitHostPort>][] = [
    ["192.0.2.1:80", { host: "192.0.2.1", isBracketed: false, port: 80 }],
    ["example.org", { host: "example.org", isBracketed: false, port: undefined }],
    ["[2001:db8::1]:443", { host: "2001:db8::1", isBracketed: true, port: 443 }],
    ["[::1]", { host: "::1", isBracketed: true, port: undefined }],
    [":80", { host: "", isBracketed: false, port: 80 }],
    ["[]:1", { host: "", isBracketed: true, port: 1 }],
    ["a:99999", { host: "a", isBracketed: false, port: 99_999 }],
    ["a:100000", undefined],
    ["a:", undefined],
    ["a:-1", undefined],
    ["a:8 0", undefined],
    ["2001:db8::1:443", undefined],
    ["[::1", undefined],
    ["::1]:80", undefined],
    ["[::1]80", undefined],
    ["[[::1]]:80", undefined],
    ["a[::1]:80", undefined],
  ];
  for (const [text, expected] of cases) {
    it(`splits ${JSON.stringify(text)}: ${expected === undefined ? "no" : "yes"}`, () =>
      assert.deepEqual(splitHostPort(text), expected));
  }

  it("reads what formatHostPort() writes", () => {
    for (const address of [{ host: "192.0.2.1", port: 0 }, { host: "fe80::1%eth0", port: 65_535 }]) {
      const { host, port } = splitHostPort(formatHostPort(address))!;
      assert.deepEqual({ host, port }, address);
    }
  });
});

describe("unbracketed", () => {
  it("takes the brackets from a URL's IPv6 address, and leaves other hosts as they are", () => {
    const hosts = ["[2001:db8::1]", "[::1]", "192.0.2.1", "example.org"].map(unbracketed);
    assert.deepEqual(hosts, ["2001:db8::1", "::1", "192.0.2.1", "example.org"]);
  });
});
