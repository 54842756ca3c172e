/**
 * Whom a request to the session master comes from, where proxies stand before it.
 *
 * @module
 */
import { type NetworkSet, normalizeIp } from "../wire/ip/networks.ts";

/** Addresses of X-Forwarded-For that are looked at, from the end: more proxies than that stand before nobody. */
export const FORWARDED_ADDRESSES_MAX = 16;

/**
 * The client's address by the X-Forwarded-For header of trusted proxies: the last one that isn't itself a trusted proxy.
 * From anybody else, or without a usable header, it is the peer's own.
 *
 * Each proxy appends whom its request came from, so only what trusted ones appended, at the end, can be believed.
 *
 * @param peer the connection's other end
 * @param header the header's value
 * @param trusted networks of proxies
 */
export function clientAddress(peer: string, header: string | undefined, trusted: NetworkSet): string {
  let client = peer;
  const hops = header?.split(",").slice(-FORWARDED_ADDRESSES_MAX) ?? [];
  while (trusted.contains(client)) {
    const address = hopAddress(hops.pop() ?? "");
    if (address === undefined) break;
    client = address;
  }
  return client;
}

/** An address as proxies write it: bare, IPv6 also in brackets, either with a port. */
function hopAddress(hop: string): string | undefined {
  const text = hop.trim();
  const [, bracketed, plain] = /^(?:\[([^\]]+)\]|([^:]+))(?::\d{1,5})?$/.exec(text) ?? [];
  return normalizeIp(bracketed ?? plain ?? text);
}
