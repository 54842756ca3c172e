/**
 * The names that an agent asks tokens for.
 *
 * @module
 */
import { keepHostnames } from "../agent/identity.ts";
import type { ServiceTable } from "../agent/services/table.ts";
import type { LoadedConfig } from "../config/config.ts";
import { isWildcard } from "../wire/wildcard.ts";
import type { AgentAccess } from "./identity.ts";

/** The names of an enrolled agent: if the settings give none for `--to`, those that the session master has for it. */
export class EnrolledNames {
  readonly #access: AgentAccess;
  #loaded: LoadedConfig;
  #names: readonly string[];

  constructor(loaded: LoadedConfig, access: AgentAccess) {
    this.#access = access;
    this.#loaded = loaded;
    this.#names = access.identity?.hostnames ?? [];
  }

  /** Whether the session master decides the names. */
  get own(): boolean {
    const { config, services } = this.#loaded;
    return this.#access.identity !== undefined && config.hostname === undefined &&
      config.service.length === 0 &&
      services.length === 0;
  }

  /** The settings, with the session master's names if they have none. */
  get loaded(): LoadedConfig {
    const [hostname, ...alias] = this.#names;
    if (!this.own || hostname === undefined) return this.#loaded;
    return { ...this.#loaded, config: { ...this.#loaded.config, hostname, alias } };
  }

  reload(loaded: LoadedConfig): void {
    this.#loaded = loaded;
  }

  /** Stores a grant's names; returns whether they have changed. */
  async heard(names: readonly string[]): Promise<boolean> {
    const { identity } = this.#access;
    if (identity === undefined || !this.own || names.join() === this.#names.join()) return false;
    this.#names = names;
    await keepHostnames(this.#access.file, identity, names);
    return true;
  }
}

/**
 * The names for tokens: the hostname stays the same as long as it is served, so that a new session replaces the old
 * one.
 */
export class TokenNames {
  readonly #table: ServiceTable;
  #hostname: string | undefined;

  constructor(table: ServiceTable) {
    this.#table = table;
  }

  get hostname(): string {
    const { names } = this.#table;
    if (this.#hostname === undefined || !names.includes(this.#hostname)) {
      this.#hostname = names.find((name) => !isWildcard(name)) ?? names[0];
    }
    return this.#hostname!;
  }

  get aliases(): readonly string[] {
    return this.#table.names.filter((name) => name !== this.hostname);
  }
}
