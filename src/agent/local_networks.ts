/**
 * Lists this machine's networks, so that a transport learned in one isn't assumed in another.
 *
 * @module
 */
import { networkInterfaces } from "node:os";
import { networkOf } from "../wire/ip/networks.ts";

/**
 * The networks of this machine's addresses, sorted, such as `192.168.1.0/24,2001:db8:0:1::/64`; loopback and link-local
 * ones are omitted. "none" if there is none, or if the runtime doesn't reveal them.
 */
export function localNetworks(interfaces: typeof networkInterfaces = networkInterfaces): string {
  const found = new Set<string>();
  try {
    for (const { internal, address, cidr } of Object.values(interfaces()).flatMap((all) => all ?? [])) {
      // fe80::/10 (RFC 4291) and 169.254.0.0/16 (RFC 3927) exist everywhere.
      if (internal || cidr === null || /^(fe[89ab]|169\.254\.)/i.test(address)) continue;
      const network = networkOf(cidr);
      if (network !== undefined) found.add(network);
    }
  } catch {
    // Deno without --allow-sys: all networks then look the same.
  }
  return found.size === 0 ? "none" : [...found].sort().join(",");
}
