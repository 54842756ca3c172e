import assert from "node:assert/strict";
import { createMemoryRegistry, MemoryRegistryStore } from "../../src/cluster/memory_registry.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import { registrySuite } from "../conformance/registry_suite.ts";

registrySuite(() => {
  const { clock, advance } = createMemoryNetwork();
  const store = new MemoryRegistryStore();
  return Promise.resolve({
    open: (lifetimes) => Promise.resolve(createMemoryRegistry({ clock, store, ...lifetimes })),
    wipe: () => Promise.resolve(store.clear()),
    until: async (met) => {
      for (let i = 0; i < 10 && !await met(); i++) await advance(100);
      assert.ok(await met());
    },
    close: () => Promise.resolve(),
  });
});
