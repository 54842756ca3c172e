/** What the proxy dials, and what it doesn't, in the network in memory. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { NetworkSet } from "../../../src/wire/ip/networks.ts";
import { createMemoryNetwork } from "../../../src/runtime/memory/memory.ts";
import type { DialOptions, Runtime } from "../../../src/runtime/port.ts";
import type { TunnelRequest } from "../../../src/tunnel/requests/router.ts";
import { tcpProxy, type TcpProxyOptions } from "../../../src/tunnel/requests/tcp_proxy.ts";
import { parseTunnelAddress } from "../../../src/wire/snocat/tunnel_address.ts";
import { assertRejects } from "../../conformance/runtime_helpers.ts";

/** A proxy, and what it has dialled; `reachable` are the addresses where something listens. */
function proxy(options: Partial<TcpProxyOptions> & { readonly reachable?: readonly string[] } = {}) {
  const network = createMemoryNetwork();
  const host = network.runtime("10.0.0.1");
  const dialled: string[] = [];
  const timeouts: number[] = [];
  const { reachable, ...more } = options;
  const runtime: Runtime = {
    ...host,
    dial: (dial: DialOptions) => {
      dialled.push(`${dial.host} ${dial.port}`);
      timeouts.push(Math.round(dial.timeoutMs));
      const up = reachable === undefined || reachable.includes(dial.host);
      return host.dial({ ...dial, host: "10.0.0.2", port: up ? 80 : 81 });
    },
  };
  const service = tcpProxy({
    runtime,
    lookup: (name) =>
      Promise.resolve(
        name === "both.test"
          ? ["2001:db8::1", "192.0.2.1"]
          : name === "inside.test"
          ? ["192.0.2.1", "127.0.0.1"]
          : name === "rebound.test"
          ? ["::ffff:192.0.2.1"]
          : [],
      ),
    ...more,
  });
  const ask = async (address: string) => {
    await network.runtime("10.0.0.2").listen({
      host: "10.0.0.2",
      port: 80,
      accept: (conn) => conn.attach({ data() {}, end() {}, drain() {}, close() {} }),
    }).catch(() => {});
    const request = { rest: parseTunnelAddress(address), signal: new AbortController().signal };
    return await network.settle(Promise.resolve(service(request as unknown as TunnelRequest)));
  };
  return { ask, dialled, timeouts };
}

const everything = new NetworkSet(["0.0.0.0/0", "::/0"]);

describe("tcpProxy", () => {
  const loopback: [string, string[]][] = [
    ["/tcp/22", ["127.0.0.1 22"]],
    ["/ip4/127.0.0.1/tcp/22", ["127.0.0.1 22"]],
    ["/ip4/127.9.9.9/tcp/22", ["127.9.9.9 22"]],
    ["/ip6/::1/tcp/22", ["::1 22"]],
    ["/dns/127.0.0.1/tcp/22", ["127.0.0.1 22"]],
    ["/dns/inside.test/tcp/22", ["127.0.0.1 22"]],
  ];
  for (const [address, dials] of loopback) {
    it(`dials ${address} with no policy of its own`, async () => {
      const { ask, dialled } = proxy();
      await ask(address);
      assert.deepEqual(dialled, dials);
    });
  }

  for (
    const address of [
      "/ip4/192.0.2.1/tcp/22",
      "/ip4/0.0.0.0/tcp/22",
      "/ip6/::/tcp/22",
      "/ip6/2001:db8::1/tcp/22",
      "/dns/both.test/tcp/22",
      "/dns/rebound.test/tcp/22",
    ]
  ) {
    it(`doesn't dial ${address} with none`, async () => {
      const { ask, dialled } = proxy();
      await assertRejects(ask(address), "access_denied");
      assert.deepEqual(dialled, []);
    });
  }

  it("takes a name's addresses of the kind that was asked for", async () => {
    for (
      const [address, dials] of [
        ["/dns/both.test/tcp/1", ["2001:db8::1 1"]],
        ["/dns4/both.test/tcp/1", ["192.0.2.1 1"]],
        ["/dns6/both.test/tcp/1", ["2001:db8::1 1"]],
        ["/dns4/192.0.2.9/tcp/1", ["192.0.2.9 1"]],
        ["/dns/rebound.test/tcp/1", ["192.0.2.1 1"]],
        ["/ip6/2001:db8::9/tcp/1", ["2001:db8::9 1"]],
      ] as const
    ) {
      const { ask, dialled } = proxy({ networks: everything });
      await ask(address);
      assert.deepEqual(dialled, dials);
    }
    for (const address of ["/dns6/rebound.test/tcp/1", "/dns4/::1/tcp/1", "/dns/nobody.test/tcp/1"]) {
      await assertRejects(proxy({ networks: everything }).ask(address), "host_unknown");
    }
  });

  it("goes on to the next address, and says what the last came to", async () => {
    const one = proxy({ networks: everything, reachable: ["192.0.2.1"] });
    await one.ask("/dns/both.test/tcp/1");
    assert.deepEqual(one.dialled, ["2001:db8::1 1", "192.0.2.1 1"]);
    assert.equal(one.timeouts[0], 5_000, "half the time, the other half is the other's");
    const none = proxy({ reachable: [] });
    await assertRejects(none.ask("/tcp/22"), "endpoint_unreachable");
    assert.deepEqual(none.dialled, ["127.0.0.1 22", "::1 22"]);
  });

  it("asks the operator's own policy last, with the address that would be dialled", async () => {
    const asked: unknown[] = [];
    const { ask, dialled } = proxy({
      permits: (destination) => {
        asked.push(destination);
        return Promise.resolve(destination.port === 22);
      },
    });
    await ask("/dns/inside.test/tcp/22");
    await assertRejects(ask("/tcp/23"), "access_denied");
    assert.deepEqual(asked[0], {
      address: "127.0.0.1",
      port: 22,
      host: { kind: "dns", name: "inside.test" },
    });
    assert.equal(asked.length, 3, "what lies outside the networks isn't asked about");
    assert.deepEqual(dialled, ["127.0.0.1 22"]);
  });
});
