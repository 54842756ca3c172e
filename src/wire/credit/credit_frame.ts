/**
 * Frames of the credit dialect, which the multiplexer uses if both ends are Sallyports and the transport below protects
 * every byte (docs/protocols/sealed.md, Frames). Integers are big-endian.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { type ErrorCode, SallyportError } from "../../errors.ts";
import { ipText, parseIp } from "../ip/networks.ts";
import { HOSTNAME_MAX_LENGTH } from "../hostname.ts";

/** Credit dialect: longest body of a frame; our DATA has at most FRAME_MAX_SEND_BYTES. */
export const CREDIT_FRAME_MAX_BYTES = 64 * 1024;

/** Type u8, length u24, stream u32. */
export const CREDIT_HEADER_BYTES = 8;
/** Bytes of a PING's body, which its PONG repeats. */
export const PING_BYTES = 16;
/** Longest body of a non-DATA frame that is parsed: OPEN with an IPv6 address and a name. */
export const CONTROL_MAX_BYTES = 4 + 2 + 1 + 16 + 1 + HOSTNAME_MAX_LENGTH;

/** Frame types, with their values on the wire. */
export const CreditFrame = {
  OPEN: 1,
  DATA: 2,
  CREDIT: 3,
  FIN: 4,
  RESET: 5,
  GOAWAY: 6,
  PING: 7,
  PONG: 8,
  /** QUIC only: the receiver may use the stream as one of its own. */
  OFFER: 9,
} as const;

/** Reasons of RESET and GOAWAY; the index is the value on the wire. Other codes are sent as `aborted`. */
const REASONS: readonly ErrorCode[] = [
  "aborted",
  "stream_overflow",
  "limit_exceeded",
  "access_denied",
  "endpoint_unreachable",
  "session_idle",
  "shutdown",
  "replaced",
  "token_expired",
  "connection_lost",
  "frame_invalid",
  "unrecognized_name",
];

/** Contents of an OPEN: the caller, and the acceptor's initial credit. */
interface OpenFrame {
  /** The visitor's address in canonical text. */
  readonly address: string;
  readonly port: number;
  readonly serverName: string | undefined;
  readonly creditBytes: number;
}

/** Writes a frame's header at `at`. */
export function writeCreditHeader(
  into: Bytes,
  at: number,
  type: number,
  size: number,
  stream: number,
): void {
  into[at] = type;
  into[at + 1] = size >>> 16;
  into[at + 2] = size >>> 8;
  into[at + 3] = size;
  writeU32(into, at + 4, stream);
}

/** The length of a frame's body, by its header. */
export function creditFrameSize(header: Bytes): number {
  return (header[1]! << 16) | (header[2]! << 8) | header[3]!;
}

/** The stream of a frame, by its header; 0 is the session. */
export function creditFrameStream(header: Bytes): number {
  return readU32(header, 4);
}

/** The number at the start of a CREDIT's body. */
export function decodeCredit(body: Bytes): number {
  return readU32(body, 0);
}

/** The reason in a RESET or a GOAWAY. */
export function decodeReason(body: Bytes): ErrorCode {
  return REASONS[(body[0]! << 8) | body[1]!] ?? "aborted";
}

/** Throws `frame_invalid` if the length is invalid for the frame's type, before any of its body is read. */
export function checkCreditHeader(header: Bytes): void {
  const type = header[0]!;
  const size = creditFrameSize(header);
  if (size > CREDIT_FRAME_MAX_BYTES) throw invalidFrame(`a frame of ${size} bytes is too long`);
  const exact = EXACT[type];
  if (exact !== undefined && size !== exact) {
    throw invalidFrame(`a frame of type ${type} has ${size} bytes, needs ${exact}`);
  }
  if (type === CreditFrame.OPEN && size > CONTROL_MAX_BYTES) {
    throw invalidFrame(`an OPEN of ${size} bytes is too long`);
  }
}

const EXACT: Readonly<Record<number, number>> = {
  [CreditFrame.CREDIT]: 4,
  [CreditFrame.FIN]: 0,
  [CreditFrame.RESET]: 2,
  [CreditFrame.GOAWAY]: 2,
  [CreditFrame.PING]: PING_BYTES,
  [CreditFrame.PONG]: PING_BYTES,
  [CreditFrame.OFFER]: 0,
};

/** A complete frame with this body. */
export function encodeCreditFrame(type: number, stream: number, body: Bytes): Bytes {
  const frame = new Uint8Array(CREDIT_HEADER_BYTES + body.length);
  writeCreditHeader(frame, 0, type, body.length, stream);
  frame.set(body, CREDIT_HEADER_BYTES);
  return frame;
}

/** The body of a RESET or a GOAWAY. */
export function encodeReasonBody(code: ErrorCode): Bytes {
  return new Uint8Array([0, Math.max(0, REASONS.indexOf(code))]);
}

/** A RESET or a GOAWAY. */
export function encodeReason(type: number, stream: number, code: ErrorCode): Bytes {
  return encodeCreditFrame(type, stream, encodeReasonBody(code));
}

/** An OPEN. */
export function encodeOpen(stream: number, open: OpenFrame): Bytes {
  return encodeCreditFrame(CreditFrame.OPEN, stream, encodeOpenBody(open));
}

/** Encodes an OPEN's body. Omits an invalid address, and a name that is too long. */
export function encodeOpenBody(open: OpenFrame): Bytes {
  const address = parseIp(open.address) ?? [];
  const asked = new TextEncoder().encode(open.serverName ?? "");
  const name = asked.length > HOSTNAME_MAX_LENGTH ? new Uint8Array(0) : asked;
  const body = new Uint8Array(8 + address.length + name.length);
  writeU32(body, 0, open.creditBytes);
  body[4] = open.port >>> 8;
  body[5] = open.port;
  body[6] = address.length;
  body.set(address, 7);
  body[7 + address.length] = name.length;
  body.set(name, 8 + address.length);
  return body;
}

/** Decodes an OPEN's body. Throws `frame_invalid`. */
export function decodeOpen(body: Bytes): OpenFrame {
  const addressLength = body[6];
  const nameAt = 8 + (addressLength ?? 0);
  const nameLength = body[nameAt - 1];
  if (addressLength !== 0 && addressLength !== 4 && addressLength !== 16) {
    throw invalidFrame(`an address has ${addressLength} bytes, needs 0, 4 or 16`);
  }
  if (nameLength === undefined || body.length !== nameAt + nameLength) {
    throw invalidFrame("an OPEN's length doesn't match its parts");
  }
  const name = body.subarray(nameAt);
  for (const byte of name) {
    // It is logged, so only printable ASCII without blanks is allowed, as in host names.
    if (byte <= 0x20 || byte >= 0x7f) throw invalidFrame("a server name has an invalid byte");
  }
  return {
    creditBytes: readU32(body, 0),
    port: (body[4]! << 8) | body[5]!,
    address: addressLength === 0 ? "0.0.0.0" : ipText(body.subarray(7, 7 + addressLength)),
    serverName: nameLength === 0 ? undefined : new TextDecoder().decode(name),
  };
}

export function writeU32(into: Bytes, at: number, value: number): void {
  into[at] = value >>> 24;
  into[at + 1] = value >>> 16;
  into[at + 2] = value >>> 8;
  into[at + 3] = value;
}

function readU32(from: Bytes, at: number): number {
  return ((from[at]! << 24) | (from[at + 1]! << 16) | (from[at + 2]! << 8) | from[at + 3]!) >>> 0;
}

/** The error for bytes from the peer that violate the dialect. */
export function invalidFrame(why: string): SallyportError {
  return new SallyportError("frame_invalid", `Cannot read session: ${why}`, { side: "peer" });
}
