/**
 * IP addresses and networks (CIDR, RFC 4632 and RFC 4291 §2.3). IPv4-mapped IPv6 addresses (RFC 4291 §2.5.5.2), which
 * dual-stack sockets report, are treated as IPv4 addresses.
 *
 * @module
 */
import ipaddr from "ipaddr.js";
import { isIPv4, isIPv6 } from "node:net";
import { SallyportError } from "../../errors.ts";

const DOT = 0x2e;
const DIGIT_0 = 0x30;

interface Network {
  readonly bytes: readonly number[];
  readonly bits: number;
}

/**
 * The 4 or 16 bytes of an IP address; undefined if `text` isn't one. Accepts only the usual notations, no `127.1`, octal
 * or hexadecimal IPv4. A zone (`fe80::1%eth0`) is ignored, a mapped IPv4 address becomes IPv4.
 */
export function parseIp(text: string): number[] | undefined {
  const bytes = parseUnmapped(text);
  return bytes !== undefined && isMapped(bytes) ? bytes.slice(12) : bytes;
}

/**
 * The source that an address is counted under: an IPv4 address, also if it is mapped into IPv6, or an IPv6 /64, the usual
 * allocation to a customer.
 */
export function sourceOf(host: string): string {
  const bytes = host.includes(":") ? parseIp(host) : undefined;
  return bytes?.slice(0, 8).join(".") ?? host;
}

/** Whether a source ({@link sourceOf}) is this machine: local proxies and tests share one address, and are no attack. */
export function isLocalSource(source: string): boolean {
  return source.startsWith("127.") || source === "0.0.0.0.0.0.0.0";
}

/** The IPv6 /48 that contains an address, the usual allocation to a site; undefined for IPv4. */
export function sourceNetworkOf(host: string): string | undefined {
  const bytes = host.includes(":") ? parseIp(host) : undefined;
  return bytes === undefined || bytes.length === 4 ? undefined : bytes.slice(0, 6).join(".");
}

/** The canonical form of an IP address for logs and comparisons; undefined if `text` isn't one. */
export function normalizeIp(text: string): string | undefined {
  const bytes = parseIp(text);
  return bytes === undefined ? undefined : ipaddr.fromByteArray(bytes).toString();
}

/**
 * A set of networks, for access lists and trusted proxies.
 *
 * @example
 * ```ts
 * const trusted = new NetworkSet(["10.0.0.0/8", "fd00::/8", "192.0.2.7"]);
 * trusted.contains("::ffff:10.1.2.3"); // true
 * ```
 */
export class NetworkSet {
  readonly #networks: Network[];

  /**
   * Creates a set.
   *
   * @param cidrs Networks, or single addresses.
   * @throws SallyportError `config_invalid` if one isn't a network, or has bits set after its prefix.
   */
  constructor(cidrs: readonly string[]) {
    this.#networks = cidrs.map(parseNetwork);
  }

  /** Number of networks that the set was created from. */
  get size(): number {
    return this.#networks.length;
  }

  /** Whether the address is in one of the networks; false for text that isn't an IP address. */
  contains(ip: string): boolean {
    if (this.#networks.length === 0) return false;
    const bytes = parseIp(ip);
    return bytes !== undefined && this.#networks.some((network) => covers(network, bytes));
  }
}

function parseUnmapped(text: string): number[] | undefined {
  if (!text.includes(":")) return isIPv4(text) ? bytesOfIpv4(text) : undefined;
  return parseIpv6(text);
}

/** The bytes of a valid address, for each visitor: without a string of each. */
function bytesOfIpv4(text: string): number[] {
  const bytes = [0, 0, 0, 0];
  let index = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === DOT) index++;
    else bytes[index] = 10 * bytes[index]! + code - DIGIT_0;
  }
  return bytes;
}

function parseIpv6(text: string): number[] | undefined {
  const address = text.split("%", 1)[0] as string;
  if (!isIPv6(address)) return undefined;
  // ipaddr.js treats any address with a dotted end as mapped, so the end is converted to hexadecimal.
  const plain = address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...parts: string[]) => {
    const [a = 0, b = 0, c = 0, d = 0] = parts.map(Number);
    return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  });
  return ipaddr.IPv6.parse(plain).toByteArray();
}

function isMapped(bytes: readonly number[]): boolean {
  return bytes.length === 16 && bytes[10] === 255 && bytes[11] === 255 &&
    bytes.slice(0, 10).every((byte) => byte === 0);
}

function parseNetwork(cidr: string): Network {
  const wrong = (why: string) =>
    new SallyportError("config_invalid", `Cannot parse network: ${JSON.stringify(cidr)} ${why}`, {
      side: "config",
    });
  const [address = "", prefix, ...more] = cidr.split("/");
  let bytes = address.includes("%") ? undefined : parseUnmapped(address);
  if (
    bytes === undefined || more.length > 0 || (prefix !== undefined && !/^(0|[1-9]\d{0,2})$/.test(prefix))
  ) {
    throw wrong("is not CIDR, for example 10.0.0.0/8 or fd00::/8");
  }
  let bits = prefix === undefined ? bytes.length * 8 : Number(prefix);
  if (bits > bytes.length * 8) throw wrong(`has a prefix of more than ${bytes.length * 8} bits`);
  if (bits >= 96 && isMapped(bytes)) {
    bytes = bytes.slice(12);
    bits -= 96;
  }
  const masked = bytes.map((byte, index) => byte & mask(bits - index * 8));
  if (masked.some((byte, index) => byte !== bytes[index])) {
    throw wrong(
      `has bits set after its prefix; did you mean ${ipaddr.fromByteArray(masked).toString()}/${bits}?`,
    );
  }
  return { bytes, bits };
}

/** The network of `address/prefix`, as `10.1.0.0/16`; undefined if `text` is invalid. */
export function networkOf(text: string): string | undefined {
  const [address = "", prefix = ""] = text.split("/");
  const bytes = parseUnmapped(address);
  const bits = Number(prefix);
  if (bytes === undefined || !/^\d{1,3}$/.test(prefix) || bits > bytes.length * 8) return undefined;
  const masked = bytes.map((byte, index) => byte & mask(bits - index * 8));
  return `${ipaddr.fromByteArray(masked).toString()}/${bits}`;
}

/** The mask of a byte of which `bits` bits belong to the prefix: none below 1, all from 8 on. */
function mask(bits: number): number {
  return bits <= 0 ? 0 : bits >= 8 ? 255 : (255 << (8 - bits)) & 255;
}

function covers({ bytes, bits }: Network, address: readonly number[]): boolean {
  if (bytes.length !== address.length) return false;
  for (let index = 0; index * 8 < bits; index++) {
    if (((bytes[index] as number) ^ (address[index] as number)) & mask(bits - index * 8)) return false;
  }
  return true;
}

/**
 * The canonical text (RFC 5952) of an address of 4 or 16 bytes; an IPv4-mapped one becomes IPv4, as in `networks.ts`.
 */
export function ipText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const address = ipaddr.fromByteArray([...bytes]);
  const mapped = address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress();
  return (mapped ? (address as ipaddr.IPv6).toIPv4Address() : address).toString();
}
