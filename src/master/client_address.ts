/**
 * The client address of a request to the session master behind proxies.
 *
 * @module
 */
import { type NetworkSet, normalizeIp } from "../wire/ip/networks.ts";
import { splitHostPort } from "../wire/ip/host_port.ts";

/** Addresses of X-Forwarded-For that are examined, from the end: no deployment has more proxies than this. */
export const FORWARDED_ADDRESSES_MAX = 16;

/**
 * The client's address according to the X-Forwarded-For header of trusted proxies: the last one that isn't itself a
 * trusted proxy. If the peer isn't trusted, or the header is missing or invalid, it is the peer's own address.
 *
 * Each proxy appends the address of its client, so only the last entries, added by trusted proxies, are reliable.
 *
 * @param peer the address of the connection's peer
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

/** An address as proxies write it: bare, or IPv6 in brackets, optionally with a port. */
function hopAddress(hop: string): string | undefined {
  const text = hop.trim();
  return normalizeIp(splitHostPort(text)?.host ?? text);
}
