/**
 * Identifies addresses of the public internet: requests made on behalf of others must reach no other address.
 *
 * @module
 */
import { NetworkSet, normalizeIp } from "./networks.ts";

/** IANA's special-purpose registries (RFC 6890), multicast, and reserved addresses. */
const SPECIAL_IPV4 = new NetworkSet([
  ...["0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"],
  ...["192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"],
  ...["203.0.113.0/24", "224.0.0.0/3"],
]);
/** All IPv6 space allocated to the public internet (RFC 4291 §2.4). */
const GLOBAL_IPV6 = new NetworkSet(["2000::/3"]);
/** Excluded parts of it: protocol assignments, Teredo and 6to4 (which embed IPv4 addresses), documentation. */
const SPECIAL_IPV6 = new NetworkSet(["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"]);

/** Whether an IP address belongs to the public internet; false for text that isn't an address. */
export function isPublicAddress(host: string): boolean {
  const ip = normalizeIp(host);
  if (ip === undefined) return false;
  return ip.includes(":")
    ? GLOBAL_IPV6.contains(ip) && !SPECIAL_IPV6.contains(ip)
    : !SPECIAL_IPV4.contains(ip);
}
