/**
 * The registry port: which tunnels exist, on which node, by id and by name. Entries expire unless renewed, so that a
 * crashed node is forgotten.
 *
 * @module
 */
import type { Bytes } from "../bytes/bytes.ts";

/**
 * Registry of tunnels: lifetime of a record without renewal, after which a crashed node is forgotten
 * (docs/protocols/snocat.md).
 */
export const REGISTRY_RECORD_TTL_MS = 60_000;
/** Registry of tunnels: lifetime of a name, which resolves to nothing without a record. */
export const REGISTRY_NAME_TTL_MS = 600_000;

/** Attributes of a tunnel besides its name. */
export type TunnelAttributes = ReadonlyMap<string, Bytes>;

/** A tunnel's entry in the registry. */
export interface TunnelRecord {
  /** Identifies this tunnel. */
  readonly id: string;
  /** The name of the peer. */
  readonly name: string;
  /** Its location, as set by its node: for example an address where other nodes reach it. */
  readonly node: string;
  /** Its transport. */
  readonly transport: string;
  readonly attributes: TunnelAttributes;
}

/** The identifiers of a tunnel. */
export type TunnelKey = Pick<TunnelRecord, "id" | "name">;

/** Tunnels by id and by name, shared by the nodes that use the same store. All methods reject with `io_failed`. */
export interface TunnelRegistry {
  /** Adds a tunnel. If several have the same name, the last one registered owns it. */
  register(record: TunnelRecord): Promise<void>;
  /**
   * Keeps a tunnel's entry alive, and adds it again if it is missing. "replaced": the name belongs to a later, live
   * tunnel; this one is still found by its id.
   */
  renew(record: TunnelRecord): Promise<"current" | "replaced">;
  /** Removes a tunnel, and its name if it is still this tunnel's. */
  remove(key: TunnelKey): Promise<void>;
  /** The tunnel with this id. */
  byId(id: string): Promise<TunnelRecord | undefined>;
  /** The tunnel that has this name. */
  byName(name: string): Promise<TunnelRecord | undefined>;
  /** Disconnects from the store; entries stay until they expire. */
  close(): Promise<void>;
}

/** How long entries live, in milliseconds. */
export interface RegistryLifetimes {
  /** Lifetime of a tunnel's record, after which a crashed node is forgotten. Defaults to 60 s. */
  readonly recordTtlMs?: number;
  /** Lifetime of a name; without its tunnel's record it resolves to nothing. Defaults to 600 s. */
  readonly nameTtlMs?: number;
}
