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

/** The entries of in-memory registries. */
export class MemoryRegistryStore {
  /** Internal. */
  readonly records: Expiring<TunnelRecord> = new Expiring();
  /** Internal. */
  readonly names: Expiring<string> = new Expiring();

  /** Removes all entries. */
  clear(): void {
    this.records.clear();
    this.names.clear();
  }
}

/** Creates an in-memory registry. */
export function createMemoryRegistry(options: MemoryRegistryOptions): TunnelRegistry {
  return new MemoryRegistry(options);
}

class MemoryRegistry implements TunnelRegistry {
  readonly #store: MemoryRegistryStore;
  readonly #clock: Clock;
  readonly #recordTtlMs: number;
  readonly #nameTtlMs: number;

  constructor({ clock, store, recordTtlMs, nameTtlMs }: MemoryRegistryOptions) {
    this.#store = store ?? new MemoryRegistryStore();
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
    const { records, names } = this.#store;
    records.delete(id);
    if (names.get(name, this.#clock.nowMs()) === id) names.delete(name);
    return Promise.resolve();
  }

  byId(id: string): Promise<TunnelRecord | undefined> {
    return Promise.resolve(this.#store.records.get(id, this.#clock.nowMs()));
  }

  byName(name: string): Promise<TunnelRecord | undefined> {
    return Promise.resolve(this.#holder(name));
  }

  #holder(name: string): TunnelRecord | undefined {
    const now = this.#clock.nowMs();
    const id = this.#store.names.get(name, now);
    return id === undefined ? undefined : this.#store.records.get(id, now);
  }

  #enter(record: TunnelRecord): void {
    this.#store.records.set(record.id, record, this.#clock.nowMs(), this.#recordTtlMs);
  }

  #take({ id, name }: TunnelRecord): void {
    this.#store.names.set(name, id, this.#clock.nowMs(), this.#nameTtlMs);
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
