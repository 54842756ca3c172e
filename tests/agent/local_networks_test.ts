import assert from "node:assert/strict";
import type { networkInterfaces } from "node:os";
import { describe, it } from "node:test";
import { localNetworks } from "../../src/agent/local_networks.ts";

type Interfaces = ReturnType<typeof networkInterfaces>;

const at = (cidr: string | null, internal = false) =>
  ({
    address: cidr?.split("/")[0] ?? "",
    cidr,
    internal,
    family: "IPv4",
    mac: "02:00:00:00:00:01",
    netmask: "",
  }) as NonNullable<Interfaces[string]>[number];

describe("localNetworks", () => {
  it("are those of the addresses, in one spelling, without what is everywhere", () => {
    const interfaces = (): Interfaces => ({
      lo: [at("127.0.0.1/8", true)],
      wlan0: [
        at("192.168.1.77/24"),
        at("fe80::1/64"),
        at("2001:db8:0:1:abcd::7/64"),
        at("2001:DB8:0:1::9/64"),
      ],
      eth0: [at("10.9.8.7/23"), at("169.254.3.4/16"), at(null)],
      none: undefined,
    });
    assert.equal(localNetworks(interfaces), "10.9.8.0/23,192.168.1.0/24,2001:db8:0:1::/64");
  });

  it("are none where the system has none or doesn't tell", () => {
    assert.equal(localNetworks(() => ({})), "none");
    assert.equal(
      localNetworks(() => {
        throw new Error("not allowed");
      }),
      "none",
    );
    assert.equal(localNetworks(() => ({ odd: [at("nonsense/9"), at("10.0.0.1/99")] })), "none");
  });

  it("are the same in whatever order the system lists the interfaces", () => {
    const [a, b] = [[at("192.168.1.77/24")], [at("10.9.8.7/23")]];
    assert.equal(localNetworks(() => ({ a, b })), "10.9.8.0/23,192.168.1.0/24");
    assert.equal(localNetworks(() => ({ b, a })), "10.9.8.0/23,192.168.1.0/24");
  });

  it("come from this runtime, without spaces", () => assert.match(localNetworks(), /^\S+$/));
});
