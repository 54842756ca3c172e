/**
 * Admits or refuses an agent's visitors by their address.
 *
 * @module
 */
import { NetworkSet } from "../wire/ip/networks.ts";

/** Options of {@link AccessList}: networks (CIDR) or single addresses, IPv4 and IPv6. */
export interface AccessListOptions {
  /** If given, only these are permitted. */
  readonly allow?: readonly string[];
  /** These are refused, even if `allow` includes them. */
  readonly block?: readonly string[];
}

/**
 * An access list. Without entries every visitor is permitted. Protocol versions 0 and 1 report an IPv6 visitor as
 * `0.0.0.0`.
 *
 * @example
 * ```ts
 * const list = new AccessList({ allow: ["192.0.2.0/24", "2001:db8::/32"], block: ["192.0.2.66"] });
 * list.permits("192.0.2.1"); // true
 * ```
 */
export class AccessList {
  readonly #allow: NetworkSet;
  readonly #block: NetworkSet;

  /** Throws `config_invalid` if an entry isn't a network. */
  constructor(options: AccessListOptions = {}) {
    this.#allow = new NetworkSet(options.allow ?? []);
    this.#block = new NetworkSet(options.block ?? []);
  }

  /** Whether a visitor from `address` is permitted. */
  permits(address: string): boolean {
    if (this.#block.contains(address)) return false;
    return this.#allow.size === 0 || this.#allow.contains(address);
  }
}
