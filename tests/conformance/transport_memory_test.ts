import { createMemoryNetwork } from "../../src/runtime/memory.ts";
import type { Harness } from "./runtime_helpers.ts";
import { curveKind, quicKind, sealedKind, snitunKind } from "./transport_helpers.ts";
import { transportSuite } from "./transport_suite.ts";

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
  snitunKind(1, "aes-gcm"),
  snitunKind(2, "aes-cbc"),
  snitunKind(2, "aes-gcm"),
  snitunKind(2, "aes-gcm-siv"),
  sealedKind("native", "native"),
  sealedKind("native", "wasm"),
  sealedKind("wasm", "native"),
  sealedKind("native", "native", true),
  curveKind("vegas"),
  curveKind("newreno"),
  quicKind(),
];
for (const kind of kinds) transportSuite("memory", kind, open);
