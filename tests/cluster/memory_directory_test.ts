/** The directory in memory, in virtual time. */
import { createMemoryDirectory, DirectoryStore } from "../../src/cluster/memory_directory.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import { directorySuite } from "../conformance/directory_suite.ts";

directorySuite(() => {
  const network = createMemoryNetwork();
  const { clock } = network;
  const store = new DirectoryStore();
  return Promise.resolve({
    open: (leaseMs?: number) =>
      Promise.resolve(createMemoryDirectory({ clock, store, ...leaseMs === undefined ? {} : { leaseMs } })),
    expire: async (leaseMs: number) => void await network.advance(leaseMs + 1),
    until: () => Promise.resolve(),
    close: () => Promise.resolve(),
  });
});
