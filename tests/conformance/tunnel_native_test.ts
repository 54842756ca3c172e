import assert from "node:assert/strict";
import { it } from "node:test";
import { createRouter, type TunnelRequest } from "../../src/tunnel/requests/router.ts";
import { tcpProxy } from "../../src/tunnel/requests/tcp_proxy.ts";
import { currentRuntime } from "../../src/runtime/mod.ts";
import { hasIpv6 } from "../support/ipv6.ts";
import { bytesOf, type Harness, Watched } from "./runtime_helpers.ts";
import { curveKind, quicKind, sealedKind, snitunKind } from "./transport_helpers.ts";
import { tunnelSuite, watch } from "./tunnel_suite.ts";

async function open(): Promise<Harness> {
  return {
    runtime: await currentRuntime(),
    host: "127.0.0.1",
    virtualTime: false,
    run: (body) => body(),
    fetch: (url) => fetch(url),
  };
}

for (
  const kind of [snitunKind(2, "aes-gcm"), sealedKind("native", "native"), curveKind("vegas"), quicKind()]
) {
  tunnelSuite("native", kind, open);
}

for (
  const [host, kinds, skip] of [
    ["::1", ["ip6/::1", "dns6/::1", "dns/::1"], !hasIpv6() && "this machine has no ::1"],
    ["127.0.0.1", ["ip4/127.0.0.1", "dns4/localhost", "dns/localhost"], false],
  ] as const
) {
  it(`the TCP proxy dials ${kinds.join(", ")}`, { skip }, async () => {
    const runtime = await currentRuntime();
    const listener = await runtime.listen({
      host,
      port: 0,
      accept: (conn) => {
        const watched = new Watched(conn);
        watched.onData = (chunk) => watched.write(chunk);
      },
    });
    for (const kind of kinds) {
      const { service, rest } = createRouter({ "/proxy-tcp": tcpProxy({ runtime }) })
        .find(["proxy-tcp", ...kind.split("/"), "tcp", String(listener.address.port)])!;
      const request = { rest, signal: new AbortController().signal } as unknown as TunnelRequest;
      const serve = await service(request);
      const ends = await runtime.listen({
        host: "127.0.0.1",
        port: 0,
        accept: (conn) => serve(conn),
      });
      const near = watch(await runtime.dial({ ...ends.address, timeoutMs: 10_000 }));
      near.write(bytesOf(kind));
      await near.received(kind.length);
      assert.equal(near.text, kind);
      near.abort();
      await near.sawClose;
      ends.close();
    }
    listener.close();
  });
}
