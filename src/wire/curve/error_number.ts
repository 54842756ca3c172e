/**
 * Numbers for error codes on the wire, in RESET and CLOSE. A number is never reused for another code.
 *
 * @module
 */
import type { ErrorCode } from "../../errors.ts";

/** Index: the number on the wire. */
const CODES: readonly ErrorCode[] = [
  "closed",
  "aborted",
  "access_denied",
  "challenge_failed",
  "connection_lost",
  "connection_refused",
  "credential_refused",
  "deadline_exceeded",
  "endpoint_unreachable",
  "frame_invalid",
  "key_reused",
  "limit_exceeded",
  "name_flapping",
  "name_taken",
  "replaced",
  "session_idle",
  "session_refused",
  "session_stalled",
  "shutdown",
  "stream_overflow",
  "token_expired",
  "token_invalid",
  "unauthorized",
  "unrecognized_name",
  "host_unknown",
  "token_stale",
];

/** The wire number of a code; codes without one are sent as 0, "closed". */
export function wireCode(code: ErrorCode): number {
  // Internal faults are not revealed to the peer.
  return Math.max(0, CODES.indexOf(code === "internal" ? "aborted" : code));
}

/** The code of a number; "closed" for unknown ones. */
export function codeOfWire(number: number): ErrorCode {
  return CODES[number] ?? "closed";
}
