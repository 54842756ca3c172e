import { memoryHarness } from "./memory_harness.ts";
import { curveKind, quicKind, sealedKind, snitunKind } from "./transport_helpers.ts";
import { tunnelSuite } from "./tunnel_suite.ts";

const open = memoryHarness({ seed: 5 }, "10.0.0.1");

const kinds = [
  snitunKind(0, "aes-cbc"),
  snitunKind(2, "aes-gcm"),
  sealedKind("native", "native"),
  curveKind("vegas"),
  quicKind(),
];
for (const kind of kinds) tunnelSuite("memory", kind, open);
