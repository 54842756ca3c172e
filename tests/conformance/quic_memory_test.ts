import { createMemoryNetwork, type MemoryNetworkOptions } from "../../src/runtime/memory.ts";
import type { Harness } from "./runtime_helpers.ts";
import { quicSuite } from "./quic_suite.ts";

function harness(options: MemoryNetworkOptions): () => Promise<Harness> {
  return () => {
    const network = createMemoryNetwork(options);
    return Promise.resolve({
      runtime: network.runtime("127.0.0.1"),
      host: "127.0.0.1",
      virtualTime: true,
      run: (body) => network.settle(body()),
      fetch: (url) => network.fetch(url),
    });
  };
}

quicSuite("memory", harness({ seed: 1 }));
quicSuite(
  "memory, slow and jittery",
  harness({ seed: 2, link: { latencyMs: 0.2, jitterMs: 0.5, windowBytes: 30_000 } }),
);
