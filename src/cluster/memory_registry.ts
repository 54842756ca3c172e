/**
 * An in-memory registry: for one node, and for tests.
 *
 * @module
 */
import type { Clock } from "../runtime/port.ts";
import type { RegistryLifetimes, TunnelKey, TunnelRecord, TunnelRegistry } from "./registry.ts";
import { REGISTRY_NAME_TTL_MS, REGISTRY_RECORD_TTL_MS } from "./registry.ts";

/** Options of {@link createMemoryRegistry}. */
export interface MemoryRegistryOptions extends RegistryLifetimes {
  readonly clock: Clock;
  /** Shared entries: registries with the same store see each other's. Defaults to a new store. */
  readonly store?: MemoryRegistryStore;
}

interface Entries {
  readonly records: Expiring<TunnelRecord>;
  readonly names: Expiring<string>;
}

/** The entries of a store, for the registries of this file alone. */
let entriesOf: (store: MemoryRegistryStore) => Entries;

/** The entries of in-memory registries. */
export class MemoryRegistryStore {
  readonly #entries: Entries = { records: new Expiring(), names: new Expiring() };

  static {
    entriesOf = (store) => store.#entries;
  }

  /** Removes all entries. */
  clear(): void {
    this.#entries.records.clear();
    this.#entries.names.clear();
  }
}

/** Creates an in-memory registry. */
export function createMemoryRegistry(options: MemoryRegistryOptions): TunnelRegistry {
  return new MemoryRegistry(options);
}

class MemoryRegistry implements TunnelRegistry {
  readonly #entries: Entries;
  readonly #clock: Clock;
  readonly #recordTtlMs: number;
  readonly #nameTtlMs: number;

  constructor({ clock, store, recordTtlMs, nameTtlMs }: MemoryRegistryOptions) {
    this.#entries = entriesOf(store ?? new MemoryRegistryStore());
    this.#clock = clock;
    this.#recordTtlMs = recordTtlMs ?? REGISTRY_RECORD_TTL_MS;
    this.#nameTtlMs = nameTtlMs ?? REGISTRY_NAME_TTL_MS;
  }

  register(record: TunnelRecord): Promise<void> {
    this.#enter(record);
    this.#take(record);
    return Promise.resolve();
  }

  renew(record: TunnelRecord): Promise<"current" | "replaced"> {
    this.#enter(record);
    const holder = this.#holder(record.name);
    if (holder !== undefined && holder.id !== record.id) return Promise.resolve("replaced");
    this.#take(record);
    return Promise.resolve("current");
  }

  remove({ id, name }: TunnelKey): Promise<void> {
    const { records, names } = this.#entries;
    records.delete(id);
    if (names.get(name, this.#clock.nowMs()) === id) names.delete(name);
    return Promise.resolve();
  }

  byId(id: string): Promise<TunnelRecord | undefined> {
    return Promise.resolve(this.#entries.records.get(id, this.#clock.nowMs()));
  }

  byName(name: string): Promise<TunnelRecord | undefined> {
    return Promise.resolve(this.#holder(name));
  }

  #holder(name: string): TunnelRecord | undefined {
    const now = this.#clock.nowMs();
    const id = this.#entries.names.get(name, now);
    return id === undefined ? undefined : this.#entries.records.get(id, now);
  }

  #enter(record: TunnelRecord): void {
    this.#entries.records.set(record.id, record, this.#clock.nowMs(), this.#recordTtlMs);
  }

  #take({ id, name }: TunnelRecord): void {
    this.#entries.names.set(name, id, this.#clock.nowMs(), this.#nameTtlMs);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A map whose entries expire, in insertion order. */
class Expiring<Value> {
  readonly #entries = new Map<string, { readonly value: Value; readonly untilMs: number }>();

  set(key: string, value: Value, nowMs: number, ttlMs: number): void {
    for (const [old, { untilMs }] of this.#entries) {
      if (untilMs > nowMs) break;
      this.#entries.delete(old);
    }
    this.#entries.delete(key);
    this.#entries.set(key, { value, untilMs: nowMs + ttlMs });
  }

  get(key: string, nowMs: number): Value | undefined {
    const entry = this.#entries.get(key);
    return entry === undefined || entry.untilMs <= nowMs ? undefined : entry.value;
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }
}
