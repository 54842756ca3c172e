/**
 * An in-memory directory: for the workers of one machine (behind `remote_directory.ts`), and for tests.
 *
 * @module
 */
import type { Clock } from "../runtime/port.ts";
import {
  type ClaimOutcome,
  decideClaim,
  type Directory,
  type DirectoryChange,
  NODE_LEASE_MS,
  type NodeRecord,
  type RouteClaim,
  type RouteHolder,
} from "./directory.ts";

/** The contents of an in-memory directory; directories with the same store see the same cluster. */
export class DirectoryStore {
  readonly nodes: Map<string, { readonly record: NodeRecord; untilMs: number }> = new Map();
  readonly routes: Map<string, RouteHolder[]> = new Map();
  readonly watchers: Set<(change: DirectoryChange) => void> = new Set();
  fence = 0;
}

/** Options of {@link createMemoryDirectory}. */
interface MemoryDirectoryOptions {
  readonly clock: Clock;
  /** Shared contents. Defaults to a new store. */
  readonly store?: DirectoryStore;
  /** Lifetime of a node without renewal. Defaults to {@link NODE_LEASE_MS}. */
  readonly leaseMs?: number;
}

/** Creates an in-memory directory. */
export function createMemoryDirectory(options: MemoryDirectoryOptions): Directory {
  return new MemoryDirectory(options);
}

class MemoryDirectory implements Directory {
  readonly #clock: Clock;
  readonly #store: DirectoryStore;
  readonly #leaseMs: number;
  readonly #own = new Set<(change: DirectoryChange) => void>();

  constructor({ clock, store = new DirectoryStore(), leaseMs = NODE_LEASE_MS }: MemoryDirectoryOptions) {
    this.#clock = clock;
    this.#store = store;
    this.#leaseMs = leaseMs;
  }

  enter(record: NodeRecord): Promise<"entered" | "renewed"> {
    const known = this.#alive(record.id);
    if (!known) this.#forget(record.id);
    this.#store.nodes.set(record.id, { record, untilMs: this.#clock.nowMs() + this.#leaseMs });
    return Promise.resolve(known ? "renewed" : "entered");
  }

  leave(node: string): Promise<void> {
    this.#forget(node);
    this.#store.nodes.delete(node);
    this.#tell({ kind: "node_left", node });
    return Promise.resolve();
  }

  nodes(): Promise<readonly NodeRecord[]> {
    const living = [...this.#store.nodes.values()].filter(({ record }) => this.#alive(record.id));
    return Promise.resolve(living.map(({ record }) => record));
  }

  claim(claim: RouteClaim): Promise<ClaimOutcome> {
    const living = this.#living(claim.name);
    const { refusal, replaced } = decideClaim(claim, living);
    if (refusal !== undefined) return Promise.resolve(refusal);
    const fence = ++this.#store.fence;
    const holder: RouteHolder = { ...claim, fence };
    const gone = new Set([claim.session, ...replaced.map(({ session }) => session)]);
    this.#store.routes.set(claim.name, [holder, ...living.filter(({ session }) => !gone.has(session))]);
    const known = living.some(({ session }) => session === claim.session);
    if (!known || replaced.length > 0) this.#tell({ kind: "claimed", holder, replaced });
    return Promise.resolve({ kind: "granted", fence, replaced });
  }

  release(name: string, session: string): Promise<void> {
    const holders = this.#store.routes.get(name) ?? [];
    const left = holders.filter((holder) => holder.session !== session);
    if (left.length === holders.length) return Promise.resolve();
    if (left.length === 0) this.#store.routes.delete(name);
    else this.#store.routes.set(name, left);
    this.#tell({ kind: "released", name, session });
    return Promise.resolve();
  }

  lookup(name: string): Promise<readonly RouteHolder[]> {
    return Promise.resolve(this.#living(name));
  }

  watch(listener: (change: DirectoryChange) => void): () => void {
    this.#store.watchers.add(listener);
    this.#own.add(listener);
    return () => {
      this.#store.watchers.delete(listener);
      this.#own.delete(listener);
    };
  }

  close(): Promise<void> {
    for (const listener of this.#own) this.#store.watchers.delete(listener);
    return Promise.resolve();
  }

  #alive(node: string): boolean {
    const lease = this.#store.nodes.get(node);
    return lease !== undefined && lease.untilMs > this.#clock.nowMs();
  }

  #living(name: string): RouteHolder[] {
    return (this.#store.routes.get(name) ?? []).filter(({ node }) => this.#alive(node));
  }

  /** Removes a node's claims. */
  #forget(node: string): void {
    for (const [name, holders] of this.#store.routes) {
      const left = holders.filter((holder) => holder.node !== node);
      if (left.length === 0) this.#store.routes.delete(name);
      else if (left.length < holders.length) this.#store.routes.set(name, left);
    }
  }

  #tell(change: DirectoryChange): void {
    for (const watcher of this.#store.watchers) watcher(change);
  }
}
