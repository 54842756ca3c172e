import { createMemoryNetwork, type MemoryNetworkOptions } from "../../src/runtime/memory/memory.ts";
import type { Harness } from "./runtime_helpers.ts";

/** Opens the network in memory for a suite, a new one for each test, with `host` as this machine's address. */
export function memoryHarness(options: MemoryNetworkOptions, host: string): () => Promise<Harness> {
  return () => {
    const network = createMemoryNetwork(options);
    return Promise.resolve({
      runtime: network.runtime(host),
      host,
      virtualTime: true,
      run: (body) => network.settle(body()),
      fetch: (url) => network.fetch(url),
    });
  };
}
