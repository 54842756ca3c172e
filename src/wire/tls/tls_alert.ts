/**
 * TLS alerts (RFC 8446 §6): the only TLS messages that the edge sends.
 *
 * @module
 */
import type { Bytes } from "../../bytes/bytes.ts";

/** Descriptions that Sallyport uses. */
export const AlertDescription = {
  unexpected_message: 10,
  record_overflow: 22,
  handshake_failure: 40,
  access_denied: 49,
  decode_error: 50,
  protocol_version: 70,
  internal_error: 80,
  no_application_protocol: 120,
  missing_extension: 109,
  unrecognized_name: 112,
} as const;

const CONTENT_TYPE_ALERT = 21;
const LEVEL_FATAL = 2;
const RECORD_BYTES = 7;

/** A fatal alert in a separate plaintext record, in answer to a ClientHello. */
export function encodeAlert(description: number): Bytes {
  return Uint8Array.of(CONTENT_TYPE_ALERT, 3, 3, 0, 2, LEVEL_FATAL, description);
}

/** The description of a single fatal alert; undefined if `bytes` is anything else. */
export function decodeAlert(bytes: Uint8Array): number | undefined {
  const [type, major, , high, low, level, description] = bytes;
  const isAlert = bytes.length === RECORD_BYTES && type === CONTENT_TYPE_ALERT && major === 3 && high === 0 &&
    low === 2;
  return isAlert && level === LEVEL_FATAL ? description : undefined;
}
