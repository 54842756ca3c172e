import { currentRuntime } from "../../src/runtime/mod.ts";
import type { Harness } from "./runtime_helpers.ts";
import { curveKind, sealedKind, snitunKind } from "./transport_helpers.ts";
import { tunnelSuite } from "./tunnel_suite.ts";

async function open(): Promise<Harness> {
  return {
    runtime: await currentRuntime(),
    host: "127.0.0.1",
    virtualTime: false,
    run: (body) => body(),
    fetch: (url) => fetch(url),
  };
}

for (const kind of [snitunKind(2, "aes-gcm"), sealedKind("native", "native"), curveKind("vegas")]) {
  tunnelSuite("native", kind, open);
}
