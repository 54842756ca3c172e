import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Harness } from "./runtime_helpers.ts";
import { curveKind, quicKind, sealedKind, snitunKind } from "./transport_helpers.ts";
import { transportSuite } from "./transport_suite.ts";

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
  const kind of [
    curveKind("vegas"),
    quicKind(),
    snitunKind(2, "aes-gcm"),
    sealedKind("native", "native"),
    sealedKind("wasm", "wasm"),
  ]
) {
  transportSuite("native", kind, open);
}
