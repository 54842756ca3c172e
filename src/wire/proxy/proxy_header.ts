/**
 * The PROXY protocol header of a connection, versions 1 and 2 (HAProxy, "The PROXY protocol", 2020-03-05).
 *
 * @module
 */
import { isIPv4, isIPv6 } from "node:net";
import type { Bytes } from "../../bytes/bytes.ts";
import { ByteReader } from "../../bytes/reader.ts";
import { ByteWriter } from "../../bytes/writer.ts";
import { SallyportError } from "../../errors.ts";
import { ipText, normalizeIp, parseIp } from "../ip/networks.ts";

/** The longest PROXY v2 header accepted: its TLVs may contain names and certificate subjects. */
export const PROXY_V2_MAX_BYTES = 4 * 1024;

/** An address from the header; `host` is canonical text. */
export interface ProxyAddress {
  readonly host: string;
  readonly port: number;
}

/** The outcome of parsing the start of a connection. */
export type ProxyOutcome =
  | { readonly kind: "incomplete" }
  /** A header of `length` bytes; without `source` the peer's own address applies (UNKNOWN, LOCAL, other families). */
  | {
    readonly kind: "header";
    readonly source: ProxyAddress | undefined;
    readonly destination: ProxyAddress | undefined;
    readonly length: number;
  }
  | { readonly kind: "refused"; readonly detail: string };

const V1_PREFIX = "PROXY ";
/** The longest line, with CRLF (§2.1). */
const V1_MAX_BYTES = 107;
const V2_SIGNATURE = Uint8Array.of(0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a);
const V2_HEADER_BYTES = 16;
const PORT_MAX = 65_535;
const PP2_TYPE_AUTHORITY = 0x02;
const PP2_TYPE_CRC32C = 0x03;
const CRC32C_BYTES = 4;
/** Address families: unspecified, IPv4, IPv6, unix. The nibble after them: unspecified, stream, datagram. */
const V2_ADDRESS_BYTES = [0, 2 * 4 + 4, 2 * 16 + 4, 2 * 108];
const V2_TRANSPORT_MAX = 2;
const TLV_HEADER_BYTES = 3;
const CR = 0x0d;
const LF = 0x0a;
const INCOMPLETE: ProxyOutcome = { kind: "incomplete" };

/** Parses the header at the start of `bytes`, which may be incomplete or followed by more. */
export function parseProxyHeader(bytes: Bytes): ProxyOutcome {
  if (bytes.length === 0) return INCOMPLETE;
  return bytes[0] === V2_SIGNATURE[0] ? parseV2(bytes) : parseV1(bytes);
}

/** Whether a connection that begins with this byte may begin with a PROXY header. */
export function beginsProxyHeader(first: number): boolean {
  return first === V1_PREFIX.charCodeAt(0) || first === V2_SIGNATURE[0];
}

/**
 * Reads the header with which a trusted proxy's connection must begin; undefined while it is incomplete. Throws
 * `proxy_header_missing` or `proxy_header_invalid`.
 */
export function readProxyHeader(
  received: Bytes,
): { readonly source: ProxyAddress | undefined; readonly length: number } | undefined {
  if (received.length > 0 && !beginsProxyHeader(received[0]!)) {
    const why = "Cannot accept connection: it comes from a trusted proxy but has no PROXY header";
    throw new SallyportError("proxy_header_missing", why, { side: "peer" });
  }
  const outcome = parseProxyHeader(received);
  if (outcome.kind === "refused") {
    const why = `Cannot parse PROXY header: ${outcome.detail}`;
    throw new SallyportError("proxy_header_invalid", why, { side: "peer" });
  }
  return outcome.kind === "incomplete" ? undefined : outcome;
}

function parseV1(bytes: Bytes): ProxyOutcome {
  const end = bytes.subarray(0, V1_MAX_BYTES).indexOf(LF);
  const seen = latin1(bytes.subarray(0, end < 0 ? V1_MAX_BYTES : end + 1));
  const prefix = seen.slice(0, V1_PREFIX.length);
  if (!V1_PREFIX.startsWith(prefix)) return refused("it starts with neither version's signature");
  if (end < 0) {
    return bytes.length < V1_MAX_BYTES ? INCOMPLETE : refused(`no line end in ${V1_MAX_BYTES} bytes`);
  }
  if (bytes[end - 1] !== CR) return refused("its line doesn't end with CRLF");
  const length = end + 1;
  const fields = seen.slice(0, -2).split(" ");
  const [, family, source, destination, sourcePort, destinationPort] = fields;
  if (family === "UNKNOWN") return { kind: "header", source: undefined, destination: undefined, length };
  if (family !== "TCP4" && family !== "TCP6") return refused("its family is neither TCP4, TCP6 nor UNKNOWN");
  if (fields.length !== 6) return refused(`it has ${fields.length} fields, needs 6`);
  const isAddress = family === "TCP4" ? isIPv4 : isIPv6;
  if (!isAddress(source) || !isAddress(destination) || source.includes("%") || destination.includes("%")) {
    return refused(`its addresses aren't both ${family === "TCP4" ? "IPv4" : "IPv6"}`);
  }
  const ports = [parsePort(sourcePort), parsePort(destinationPort)];
  if (ports[0] === undefined || ports[1] === undefined) {
    return refused("its ports aren't numbers from 0 to 65535");
  }
  return {
    kind: "header",
    source: { host: normalizeIp(source) ?? source, port: ports[0] },
    destination: { host: normalizeIp(destination) ?? destination, port: ports[1] },
    length,
  };
}

function parseV2(bytes: Bytes): ProxyOutcome {
  const compared = Math.min(bytes.length, V2_SIGNATURE.length);
  for (let i = 0; i < compared; i++) {
    if (bytes[i] !== V2_SIGNATURE[i]) return refused("it starts with neither version's signature");
  }
  if (bytes.length > 12 && bytes[12] >>> 4 !== 2) {
    return refused(`its version is ${bytes[12] >>> 4}, expected 2`);
  }
  const command = bytes[12] & 0x0f;
  if (bytes.length > 12 && command > 1) return refused(`its command is ${command}, expected 0 or 1`);
  if (bytes.length < V2_HEADER_BYTES) return INCOMPLETE;
  const reader = new ByteReader(bytes);
  reader.bytes(13);
  const family = reader.u8();
  const size = reader.u16();
  const length = V2_HEADER_BYTES + size;
  if (length > PROXY_V2_MAX_BYTES) {
    return refused(`it announces ${length} bytes, at most ${PROXY_V2_MAX_BYTES} are allowed`);
  }
  const addressesBytes = V2_ADDRESS_BYTES[family >>> 4];
  // LOCAL's addresses and family must be ignored.
  if (command === 1) {
    if (addressesBytes === undefined || (family & 0x0f) > V2_TRANSPORT_MAX) {
      return refused(
        `its family and transport are 0x${family.toString(16).padStart(2, "0")}, which is unassigned`,
      );
    }
    if (size < addressesBytes) return refused(`it announces ${size} bytes, too few for its addresses`);
  }
  if (bytes.length < length) return INCOMPLETE;
  if (command === 0) return { kind: "header", source: undefined, destination: undefined, length };
  // After an unspecified family there is no known layout.
  if (addressesBytes! > 0) {
    const fault = tlvFault(bytes.subarray(0, length), V2_HEADER_BYTES + addressesBytes!);
    if (fault !== undefined) return refused(fault);
  }
  const addressBytes = family === 0x11 ? 4 : family === 0x21 ? 16 : 0;
  // Families other than TCP over IP carry no visitor address.
  if (addressBytes === 0) return { kind: "header", source: undefined, destination: undefined, length };
  const source = ipText(reader.bytes(addressBytes));
  const destination = ipText(reader.bytes(addressBytes));
  return {
    kind: "header",
    source: { host: source, port: reader.u16() },
    destination: { host: destination, port: reader.u16() },
    length,
  };
}

/** The fault in the TLVs of a complete header from `at` on: bad lengths, or a wrong checksum, if there is one. */
function tlvFault(header: Bytes, at: number): string | undefined {
  while (at < header.length) {
    if (header.length - at < TLV_HEADER_BYTES) return "its last TLV is cut short";
    const type = header[at]!;
    const size = header[at + 1]! << 8 | header[at + 2]!;
    const value = at + TLV_HEADER_BYTES;
    at = value + size;
    if (at > header.length) return "its last TLV is cut short";
    if (type !== PP2_TYPE_CRC32C) continue;
    if (size !== CRC32C_BYTES) return `its checksum has ${size} bytes, needs ${CRC32C_BYTES}`;
    const claimed = new ByteReader(header.subarray(value, at)).u32();
    const judged = header.slice();
    judged.fill(0, value, at);
    if (crc32c(judged) !== claimed) return "its checksum is wrong";
  }
  return undefined;
}

/** CRC-32C (Castagnoli), as in RFC 9260 appendix A. */
function crc32c(bytes: Bytes): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** Optional TLVs of a version 2 header. */
interface ProxyExtras {
  /** The host name requested by the client, in ASCII (PP2_TYPE_AUTHORITY, §2.2.2). */
  readonly authority?: string;
}

/**
 * Encodes a header of version 1 (text) or 2 (binary); without addresses `UNKNOWN` or LOCAL, which carry no extras.
 *
 * @throws SallyportError `proxy_header_invalid`, side "local": an address isn't IP, one is IPv4 and the other IPv6
 * (a mapped IPv4 address is IPv4), or a port isn't one.
 */
export function encodeProxyHeader(
  version: 1 | 2,
  source?: ProxyAddress,
  destination?: ProxyAddress,
  { authority }: ProxyExtras = {},
): Bytes {
  if (source === undefined || destination === undefined) {
    if (version === 1) return fromLatin1("PROXY UNKNOWN\r\n");
    return v2Writer(0x20, 0, 0).finish();
  }
  const from = addressBytes(source);
  const to = addressBytes(destination);
  if (from.length !== to.length) throw unwritable("one address is IPv4, the other IPv6");
  if (version === 1) {
    const family = from.length === 4 ? "TCP4" : "TCP6";
    const hosts = `${ipText(Uint8Array.from(from))} ${ipText(Uint8Array.from(to))}`;
    return fromLatin1(`PROXY ${family} ${hosts} ${source.port} ${destination.port}\r\n`);
  }
  const name = authority === undefined ? undefined : fromLatin1(authority);
  const extraBytes = name === undefined ? 0 : TLV_HEADER_BYTES + name.length;
  const writer = v2Writer(0x21, from.length === 4 ? 0x11 : 0x21, 2 * from.length + 4 + extraBytes)
    .bytes(from).bytes(to).u16(source.port).u16(destination.port);
  if (name !== undefined) writer.u8(PP2_TYPE_AUTHORITY).u16(name.length).bytes(name);
  return writer.finish();
}

function v2Writer(versionAndCommand: number, family: number, size: number): ByteWriter {
  return new ByteWriter(V2_HEADER_BYTES + size).bytes(V2_SIGNATURE).u8(versionAndCommand).u8(family).u16(
    size,
  );
}

function addressBytes({ host, port }: ProxyAddress): number[] {
  const bytes = parseIp(host);
  if (bytes === undefined) throw unwritable(`${JSON.stringify(host)} is not an IP address`);
  if (!Number.isInteger(port) || port < 0 || port > PORT_MAX) throw unwritable(`${port} is not a port`);
  return bytes;
}

function unwritable(why: string): SallyportError {
  return new SallyportError("proxy_header_invalid", `Cannot write PROXY header: ${why}`, { side: "local" });
}

function refused(detail: string): ProxyOutcome {
  return { kind: "refused", detail };
}

function parsePort(text: string): number | undefined {
  if (!/^(0|[1-9][0-9]{0,4})$/.test(text)) return undefined;
  const port = Number(text);
  return port <= PORT_MAX ? port : undefined;
}

function latin1(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}

function fromLatin1(text: string): Bytes {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
