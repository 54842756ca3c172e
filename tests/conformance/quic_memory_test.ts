import { memoryHarness } from "./memory_harness.ts";
import { quicSuite } from "./quic_suite.ts";

quicSuite("memory", memoryHarness({ seed: 1 }, "127.0.0.1"));
quicSuite(
  "memory, slow and jittery",
  memoryHarness({ seed: 2, link: { latencyMs: 0.2, jitterMs: 0.5, windowBytes: 30_000 } }, "127.0.0.1"),
);
