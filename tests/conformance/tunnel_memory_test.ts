import { createMemoryNetwork } from "../../src/runtime/memory.ts";
import type { Harness } from "./runtime_helpers.ts";
import { curveKind, quicKind, sealedKind, snitunKind } from "./transport_helpers.ts";
import { tunnelSuite } from "./tunnel_suite.ts";

function open(): Promise<Harness> {
  const network = createMemoryNetwork({ seed: 5 });
  return Promise.resolve({
    runtime: network.runtime(),
    host: "10.0.0.1",
    virtualTime: true,
    run: (body) => network.settle(body()),
    fetch: (url) => network.fetch(url),
  });
}

const kinds = [
  snitunKind(0, "aes-cbc"),
  snitunKind(2, "aes-gcm"),
  sealedKind("native", "native"),
  curveKind("vegas"),
  quicKind(),
];
for (const kind of kinds) tunnelSuite("memory", kind, open);
