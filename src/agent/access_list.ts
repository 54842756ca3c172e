/**
 * Which visitors an agent lets through, by their address.
 *
 * @module
 */
import { NetworkSet } from "../wire/ip/networks.ts";

/** What {@link AccessList} is made of: networks (CIDR) or single addresses, IPv4 and IPv6. */
export interface AccessListOptions {
  /** Where given, only these may come. */
  readonly allow?: readonly string[];
  /** These may not, even where `allow` names them. */
  readonly block?: readonly string[];
}

/**
 * An access list. Without entries everybody may come. Protocol versions 0 and 1 name an IPv6 visitor as `0.0.0.0`.
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

  /** Throws `config_invalid` where an entry is no network. */
  constructor(options: AccessListOptions = {}) {
    this.#allow = new NetworkSet(options.allow ?? []);
    this.#block = new NetworkSet(options.block ?? []);
  }

  /** Whether a visitor from `address` may come. */
  permits(address: string): boolean {
    if (this.#block.contains(address)) return false;
    return this.#allow.size === 0 || this.#allow.contains(address);
  }
}
