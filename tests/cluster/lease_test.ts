import assert from "node:assert/strict";
import { it } from "node:test";
import { TunnelLease } from "../../src/cluster/lease.ts";
import { createMemoryRegistry, MemoryRegistryStore } from "../../src/cluster/memory_registry.ts";
import type { TunnelRecord, TunnelRegistry } from "../../src/cluster/registry.ts";
import { SallyportError } from "../../src/errors.ts";
import { createMemoryNetwork } from "../../src/runtime/memory/memory.ts";
import { type LogLine, recordingLogger } from "../support/tunnel.ts";
import { REGISTRY_RENEW_MS, REGISTRY_RETRY_MS } from "../../src/cluster/lease.ts";

/** A registry that can be out of reach, and a lease of it. */
function world() {
  const network = createMemoryNetwork();
  const { clock } = network;
  const store = new MemoryRegistryStore();
  const inner = createMemoryRegistry({ clock, store });
  const state = { down: false };
  const lines: LogLine[] = [];
  const calls: string[] = [];
  const pass = <A extends unknown[], T>(name: string, run: (...args: A) => Promise<T>) => (...args: A) => {
    calls.push(name);
    return state.down
      ? Promise.reject(new SallyportError("io_failed", "Cannot ask Redis: it is down", { side: "peer" }))
      : run(...args);
  };
  const registry: TunnelRegistry = {
    register: pass("register", (record: TunnelRecord) => inner.register(record)),
    renew: pass("renew", (record: TunnelRecord) => inner.renew(record)),
    remove: pass("remove", (key: TunnelRecord) => inner.remove(key)),
    byId: (id) => inner.byId(id),
    byName: (name) => inner.byName(name),
    close: () => inner.close(),
  };
  const lease = (id: string) =>
    new TunnelLease({
      registry,
      clock,
      log: recordingLogger(lines),
      record: { id, name: "a", node: "n", transport: "quic", attributes: new Map() },
    });
  const holder = async () => (await inner.byName("a"))?.id;
  return { network, store, state, lines, calls, lease, holder };
}

it("a lease stands for as long as it's held, and no longer", async () => {
  const { network, calls, lease, holder } = world();
  const one = lease("1");
  await one.start();
  for (let minute = 0; minute < 15; minute++) {
    await network.advance(60_000);
    assert.equal(await holder(), "1");
  }
  assert.equal(calls.length, 1 + 15 * 60_000 / REGISTRY_RENEW_MS);
  await one.leave();
  assert.equal(await holder(), undefined);
  await network.runUntilIdle();
  assert.equal(calls.at(-1), "remove");
});

it("a wiped store has it again at the next renewal", async () => {
  const { network, store, lease, holder } = world();
  await lease("1").start();
  store.clear();
  assert.equal(await holder(), undefined);
  await network.advance(REGISTRY_RENEW_MS);
  assert.equal(await holder(), "1");
});

it("the later of two keeps the name, and gets it whichever leaves", async () => {
  const { network, lease, holder } = world();
  const [one, two] = [lease("1"), lease("2")];
  await one.start();
  await two.start();
  await network.advance(3 * REGISTRY_RENEW_MS);
  assert.equal(await holder(), "2");
  await one.leave();
  assert.equal(await holder(), "2");
  await two.leave();
  assert.equal(await holder(), undefined);
});

it("a registry that is down is asked again, and the first success is a registration", async () => {
  const { network, state, lines, calls, lease, holder } = world();
  await lease("1").start();
  state.down = true;
  await lease("2").start();
  assert.equal(lines.at(-1)?.fields.reason, "io_failed");
  await network.advance(3 * REGISTRY_RETRY_MS);
  state.down = false;
  await network.advance(REGISTRY_RETRY_MS);
  assert.equal(await holder(), "2", calls.join(" "));
});
