/**
 * The start of a stream inside a tunnel (docs/protocols/snocat.md, A request): both sides greet, the opener requests an
 * address, the other side answers with one byte. Integers are big-endian.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";
import { SallyportError } from "../../errors.ts";

/** Tunnels: the longest address that a stream may request, in UTF-8 (docs/protocols/snocat.md). */
export const TUNNEL_ADDRESS_MAX_BYTES = 2_048;

/** "NYAN": no TLS record begins with it, which distinguishes a request from a visitor. */
const MAGIC = [0x4e, 0x59, 0x41, 0x4e];
/** The only version. */
export const TUNNEL_VERSION = 0;
/** Bytes of a greeting: the magic and the version. */
export const GREETING_BYTES = 5;
/** The first byte of every request. */
export const REQUEST_FIRST_BYTE: number = MAGIC[0]!;
/** The answer that accepts; anything else refuses. */
export const ANSWER_ACCEPTED = 0;
/** The answer that we use to refuse. */
export const ANSWER_REFUSED = 1;
/** The bytes of an address's length. */
const LENGTH_BYTES = 4;

/** A greeting. */
export function encodeGreeting(): Bytes {
  return new Uint8Array([...MAGIC, TUNNEL_VERSION]);
}

/**
 * The version at the start of `bytes`; undefined while the greeting is incomplete. Throws `request_invalid` at the first
 * byte that doesn't match the magic.
 */
export function decodeGreeting(bytes: Bytes): number | undefined {
  for (let i = 0; i < MAGIC.length && i < bytes.length; i++) {
    if (bytes[i] !== MAGIC[i]) throw invalid("it doesn't begin with the magic bytes");
  }
  return bytes[MAGIC.length];
}

/** The opener's message after its greeting. Throws `address_invalid` if the address is too long. */
export function encodeAddress(address: string): Bytes {
  const text = new TextEncoder().encode(address);
  if (text.length > TUNNEL_ADDRESS_MAX_BYTES) {
    throw new SallyportError(
      "address_invalid",
      `Cannot ask for tunnel address: it has ${text.length} bytes, may have ${TUNNEL_ADDRESS_MAX_BYTES}`,
      { side: "local" },
    );
  }
  const bytes = new Uint8Array(LENGTH_BYTES + text.length);
  new DataView(bytes.buffer).setUint32(0, text.length);
  bytes.set(text, LENGTH_BYTES);
  return bytes;
}

/**
 * The address at the start of `bytes`, and its size; undefined while incomplete. Throws `request_invalid` if it is too
 * long, before any of it is received, or isn't UTF-8.
 */
export function decodeAddress(bytes: Bytes): { readonly address: string; readonly size: number } | undefined {
  if (bytes.length < LENGTH_BYTES) return undefined;
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
  if (length > TUNNEL_ADDRESS_MAX_BYTES) {
    throw invalid(`its address has ${length} bytes, may have ${TUNNEL_ADDRESS_MAX_BYTES}`);
  }
  const size = LENGTH_BYTES + length;
  if (bytes.length < size) return undefined;
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    return { address: text.decode(bytes.subarray(LENGTH_BYTES, size)), size };
  } catch (cause) {
    throw invalid("its address isn't UTF-8", cause);
  }
}

function invalid(why: string, cause?: unknown): SallyportError {
  return new SallyportError("request_invalid", `Cannot read tunnel request: ${why}`, { side: "peer", cause });
}
