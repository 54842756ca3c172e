import { memoryHarness } from "./memory_harness.ts";
import { runtimeSuite } from "./runtime_suite.ts";

runtimeSuite("memory", memoryHarness({ seed: 1 }, "127.0.0.1"));
runtimeSuite(
  "memory, slow and jittery",
  memoryHarness({ seed: 2, link: { latencyMs: 0.2, jitterMs: 0.5, windowBytes: 30_000 } }, "127.0.0.1"),
);
