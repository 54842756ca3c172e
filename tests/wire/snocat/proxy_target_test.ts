import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseProxyTarget, proxySegments, type ProxyTarget } from "../../../src/wire/snocat/proxy_target.ts";
import { parseTunnelAddress } from "../../../src/wire/snocat/tunnel_address.ts";

describe("parseProxyTarget", () => {
  const good: [string, ProxyTarget][] = [
    ["/tcp/80", { port: 80 }],
    ["/tcp/65535", { port: 65_535 }],
    ["/ip4/192.0.2.1/tcp/1", { host: { kind: "ip4", name: "192.0.2.1" }, port: 1 }],
    ["/ip6/2001:db8::1/tcp/22", { host: { kind: "ip6", name: "2001:db8::1" }, port: 22 }],
    ["/ip6/::1/tcp/22", { host: { kind: "ip6", name: "::1" }, port: 22 }],
    ["/dns/example.org/tcp/443", { host: { kind: "dns", name: "example.org" }, port: 443 }],
    ["/dns4/localhost/tcp/443", { host: { kind: "dns4", name: "localhost" }, port: 443 }],
    ["/dns6/a_b.example/tcp/443", { host: { kind: "dns6", name: "a_b.example" }, port: 443 }],
    ["/dns/127.0.0.1/tcp/443", { host: { kind: "dns", name: "127.0.0.1" }, port: 443 }],
    ["/dns/::1/tcp/443", { host: { kind: "dns", name: "::1" }, port: 443 }],
  ];
  for (const [text, target] of good) {
    it(`${text} is one, both ways`, () => {
      const segments = parseTunnelAddress(text);
      assert.deepEqual(parseProxyTarget(segments), target);
      assert.deepEqual(proxySegments(target), ["proxy-tcp", ...segments]);
    });
  }
  it("a name has one spelling", () => {
    assert.equal(parseProxyTarget(["dns", "Example.ORG.", "tcp", "80"]).host?.name, "example.org");
  });

  const bad = [
    "",
    "/",
    "/tcp",
    "/tcp/",
    "/tcp/0",
    "/tcp/080",
    "/tcp/65536",
    "/tcp/100000",
    "/tcp/-1",
    "/tcp/+1",
    "/tcp/1e3",
    "/tcp/80 ",
    "/tcp/80/",
    "/tcp/80/tcp/80",
    "/udp/80",
    "/ip4/192.0.2.1/udp/80",
    "/ip4/192.0.2.1",
    "/ip4/192.0.2.1/tcp",
    "/ip4/192.0.2.1/tcp/80/x",
    "/ip4/192.0.2/tcp/80",
    "/ip4/0x7f000001/tcp/80",
    "/ip4/::1/tcp/80",
    "/ip4/localhost/tcp/80",
    "/ip6/127.0.0.1/tcp/80",
    "/ip6/fe80::1%eth0/tcp/80",
    "/ip6/[::1]/tcp/80",
    "/dns//tcp/80",
    "/dns/a..b/tcp/80",
    "/dns/a b/tcp/80",
    "/dns/a\\/b/tcp/80",
    "/dns5/example.org/tcp/80",
    "/DNS/example.org/tcp/80",
    "/constructor/example.org/tcp/80",
  ];
  for (const text of bad) {
    it(`${JSON.stringify(text)} is none`, () => {
      assert.throws(() => parseProxyTarget(parseTunnelAddress(text)), { code: "address_invalid" });
    });
  }
});
