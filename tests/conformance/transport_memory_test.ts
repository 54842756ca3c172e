import { memoryHarness } from "./memory_harness.ts";
import { curveKind, quicKind, sealedKind, snitunKind } from "./transport_helpers.ts";
import { transportSuite } from "./transport_suite.ts";

const open = memoryHarness({ seed: 5 }, "10.0.0.1");

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
