/**
 * The Fernet keys of a session master: those of its settings or data folder, and those of its store, which change
 * without a restart.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { FernetRing } from "../crypto/fernet.ts";
import type { StoredFernetKey } from "./model.ts";

/** A Fernet key as shown in lists. */
export interface FernetKeyInfo {
  readonly id: string;
  /** Its origin: the settings or the data folder, or the store. */
  readonly origin: "settings" | "store";
  readonly state: "active" | "retired";
  /** Whether it creates tokens. */
  readonly makesTokens: boolean;
  /** When it was added; absent for keys of the settings. */
  readonly createdAtMs?: number;
}

/** Identifies a Fernet key without revealing it. */
export function fernetKeyId(key: string): string {
  return createHash("sha256").update(key).digest("hex").slice(0, 16);
}

/** The Fernet keys in use, from settings and store together. */
export class KeyRing {
  /** Creates and opens tokens; updated with each change of the keys. */
  readonly ring: FernetRing;
  #own: readonly string[];
  #stored: readonly StoredFernetKey[] = [];

  /**
   * @param ring receives the active keys at each change
   * @param own the keys of the settings or the data folder, newest first
   */
  constructor(ring: FernetRing, own: readonly string[]) {
    this.ring = ring;
    this.#own = own;
  }

  /** The active keys, newest first: the store's are newer than those of the settings. */
  get keys(): readonly string[] {
    const retired = new Set(this.#stored.filter(({ state }) => state === "retired").map(({ id }) => id));
    const stored = this.#stored.flatMap(({ key, state }) =>
      key === undefined || state === "retired" ? [] : [key]
    );
    return [...new Set([...stored, ...this.#own.filter((key) => !retired.has(fernetKeyId(key)))])];
  }

  /** Loads the store's keys. A ring is never left empty: the last key stays, whatever the store says. */
  update(stored: readonly StoredFernetKey[]): void {
    this.#stored = stored;
    this.#apply();
  }

  /** Replaces the keys of the settings or the data folder. */
  reload(own: readonly string[]): void {
    this.#own = own;
    this.#apply();
  }

  /** Every key, including retired ones. */
  list(): readonly FernetKeyInfo[] {
    const [first] = this.keys;
    const own = new Set(this.#own.map(fernetKeyId));
    const stored = this.#stored.filter(({ id }) => !own.has(id)).map(({ id, state, createdAtMs }) => ({
      id,
      origin: "store" as const,
      state,
      makesTokens: first !== undefined && id === fernetKeyId(first),
      createdAtMs,
    }));
    const retired = new Set(this.#stored.filter(({ state }) => state === "retired").map(({ id }) => id));
    return [
      ...stored,
      ...this.#own.map((key) => ({
        id: fernetKeyId(key),
        origin: "settings" as const,
        state: retired.has(fernetKeyId(key)) ? "retired" as const : "active" as const,
        makesTokens: key === first,
      })),
    ];
  }

  #apply(): void {
    const { keys } = this;
    if (keys.length > 0) this.ring.replace(keys);
  }
}
