/**
 * The registry port: which tunnels there are, on which node, by id and by name. Entries live for a while and are
 * renewed, so that a node that crashes is forgotten.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";

/** Registry of tunnels: a record lives so long unless it's renewed: a crash is forgotten by then (docs/protocols/snocat.md). */
export const REGISTRY_RECORD_TTL_MS = 60_000;
/** Registry of tunnels: the same for names, which find nobody without a record. */
export const REGISTRY_NAME_TTL_MS = 600_000;

/** What is known of a tunnel besides its name. */
export type TunnelAttributes = ReadonlyMap<string, Bytes>;

/** A tunnel, as the registry has it. */
export interface TunnelRecord {
  /** Names this one tunnel. */
  readonly id: string;
  /** Who is at its other side. */
  readonly name: string;
  /** Where it is, as its node chose to say: for example an address where other nodes reach it. */
  readonly node: string;
  /** How it crosses the network. */
  readonly transport: string;
  readonly attributes: TunnelAttributes;
}

/** What names a tunnel. */
export type TunnelKey = Pick<TunnelRecord, "id" | "name">;

/** Tunnels by id and by name, shared by the nodes that use the same store. All of it rejects with `io_failed`. */
export interface TunnelRegistry {
  /** Enters a tunnel. Of several with one name the last that was registered has it. */
  register(record: TunnelRecord): Promise<void>;
  /**
   * Keeps a tunnel's entry alive, and enters it again where it is gone. "replaced": the name belongs to a later one,
   * which is alive; the tunnel is still found by its id.
   */
  renew(record: TunnelRecord): Promise<"current" | "replaced">;
  /** Takes a tunnel out; its name only where it is still this tunnel's. */
  remove(key: TunnelKey): Promise<void>;
  /** The tunnel with this id. */
  byId(id: string): Promise<TunnelRecord | undefined>;
  /** The tunnel that has this name. */
  byName(name: string): Promise<TunnelRecord | undefined>;
  /** Lets go of the store; entries stay until they expire. */
  close(): Promise<void>;
}

/** How long entries live, in milliseconds. */
export interface RegistryLifetimes {
  /** A tunnel's record, 60 s when absent: a node that crashed is forgotten by then. */
  readonly recordTtlMs?: number;
  /** A name, 600 s when absent; without its tunnel's record it finds nobody. */
  readonly nameTtlMs?: number;
}
