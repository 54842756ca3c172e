/**
 * What every registry of tunnels must do, sentence by sentence of src/cluster/registry.ts.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { RegistryLifetimes, TunnelRecord, TunnelRegistry } from "../../src/cluster/registry.ts";
import { withOpened } from "./with_opened.ts";

/** A store under test; each opening is a node of its own. */
export interface RegistryStore {
  open(lifetimes?: RegistryLifetimes): Promise<TunnelRegistry>;
  /** Empties the store behind its users' backs. */
  wipe(): Promise<void>;
  /** Lets time pass until `met`; fails where that takes more than a few lifetimes. */
  until(met: () => Promise<boolean>): Promise<void>;
  close(): Promise<void>;
}

let made = 0;

function record(name: string, more: Partial<TunnelRecord> = {}): TunnelRecord {
  return {
    id: `id-${++made}`,
    name,
    node: "node-a",
    transport: "quic",
    attributes: new Map([["raw", new Uint8Array([0, 255, 13, 10])], ["__proto__", new Uint8Array(0)]]),
    ...more,
  };
}

/** Registers the suite. `store` gives an empty one. */
export function registrySuite(store: () => Promise<RegistryStore>, skip: string | false = false): void {
  const test = withOpened(store, skip);

  test("a tunnel is found by its id and its name, from another node too, whole", async (store) => {
    const [one, other] = [await store.open(), await store.open()];
    const tunnel = record("device\nwith: odd {characters} é");
    await one.register(tunnel);
    for (const registry of [one, other]) {
      assert.deepEqual(await registry.byId(tunnel.id), tunnel);
      assert.deepEqual(await registry.byName(tunnel.name), tunnel);
      assert.equal(await registry.byId(tunnel.name), undefined);
      assert.equal(await registry.byName("nobody"), undefined);
    }
  });

  test("the last registration of a name wins, and the earlier one stays by its id", async (store) => {
    const [one, other] = [await store.open(), await store.open()];
    const [first, second] = [record("a"), record("a", { node: "node-b" })];
    await one.register(first);
    await other.register(second);
    assert.deepEqual(await one.byName("a"), second);
    assert.equal(await one.renew(first), "replaced");
    assert.equal(await other.renew(second), "current");
    assert.deepEqual(await one.byName("a"), second);
    assert.deepEqual(await other.byId(first.id), first);
  });

  test("a stale leaver doesn't remove its successor", async (store) => {
    const [one, other] = [await store.open(), await store.open()];
    const [first, second] = [record("a"), record("a")];
    await one.register(first);
    await other.register(second);
    await one.remove(first);
    assert.deepEqual(await one.byName("a"), second);
    assert.equal(await one.byId(first.id), undefined);
    await other.remove(second);
    assert.equal(await one.byName("a"), undefined);
    await other.remove(second);
  });

  test("a crash is forgotten: what isn't renewed isn't found any more", async (store) => {
    const registry = await store.open({ recordTtlMs: 300 });
    const tunnel = record("a");
    await registry.register(tunnel);
    await store.until(async () => await registry.byId(tunnel.id) === undefined);
    assert.equal(await registry.byName("a"), undefined);
    // Its name finds nobody, so whoever still lives gets it back.
    const lasting = await store.open();
    const other = record("a");
    assert.equal(await lasting.renew(other), "current");
    assert.deepEqual(await registry.byName("a"), other);
  });

  test("an earlier tunnel that is alive gets its name back from a later one that crashed", async (store) => {
    const [lasting, crashing] = [await store.open(), await store.open({ recordTtlMs: 300 })];
    const [first, second] = [record("a"), record("a")];
    await lasting.register(first);
    await crashing.register(second);
    await store.until(async () => await lasting.byId(second.id) === undefined);
    assert.equal(await lasting.renew(first), "current");
    assert.deepEqual(await crashing.byName("a"), first);
  });

  test("a renewal lengthens both lives", async (store) => {
    const short = await store.open({ recordTtlMs: 300, nameTtlMs: 300 });
    const long = await store.open();
    const [renewed, control] = [record("a"), record("b")];
    await short.register(renewed);
    await long.renew(renewed);
    await short.register(control);
    await store.until(async () => await long.byId(control.id) === undefined);
    assert.deepEqual(await long.byName("a"), renewed);
  });

  test("a wiped record is registered again by its renewal", async (store) => {
    const registry = await store.open();
    const tunnel = record("a");
    await registry.register(tunnel);
    await store.wipe();
    assert.equal(await registry.byName("a"), undefined);
    assert.equal(await registry.renew(tunnel), "current");
    assert.deepEqual(await registry.byName("a"), tunnel);
    assert.deepEqual(await registry.byId(tunnel.id), tunnel);
  });
}
