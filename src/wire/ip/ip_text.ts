/**
 * IP addresses from bytes, as headers carry them.
 *
 * @module
 */
import ipaddr from "ipaddr.js";

/**
 * The canonical text (RFC 5952) of an address of 4 or 16 bytes; an IPv4-mapped one becomes IPv4, as in `networks.ts`.
 */
export function ipText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const address = ipaddr.fromByteArray([...bytes]);
  const mapped = address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress();
  return (mapped ? (address as ipaddr.IPv6).toIPv4Address() : address).toString();
}
