/**
 * Typed errors. Every failure that crosses a room's border is a {@link SallyportError}: its `code` is what logs and
 * metrics count by, `side` says who has to act, `retryable` whether the same attempt may succeed later.
 *
 * @module
 */

/** Whose doing an error is: the peer that sent something, this process, its operator's configuration, or the network. */
export type Side = "peer" | "local" | "config" | "network";

/** What an error is about; the values are stable, they appear in logs, metrics and exit messages. */
export type ErrorCode =
  | "aborted"
  | "access_denied"
  | "address_invalid"
  | "address_in_use"
  | "certificate_refused"
  | "challenge_failed"
  | "cipher_failed"
  | "closed"
  | "config_invalid"
  | "connection_lost"
  | "connection_refused"
  | "credential_refused"
  | "deadline_exceeded"
  | "edge_key_changed"
  | "edge_unreachable"
  | "endpoint_unreachable"
  | "frame_invalid"
  | "hello_invalid"
  | "host_unknown"
  | "io_failed"
  | "key_reused"
  | "limit_exceeded"
  | "master_unreachable"
  | "name_flapping"
  | "name_taken"
  | "no_server_name"
  | "not_supported"
  | "pong_missing"
  | "proxy_header_invalid"
  | "proxy_header_missing"
  | "proxy_header_unexpected"
  | "replaced"
  | "request_invalid"
  | "request_refused"
  | "session_idle"
  | "session_refused"
  | "session_stalled"
  | "shutdown"
  | "stream_overflow"
  | "token_expired"
  | "token_invalid"
  | "token_stale"
  | "unauthorized"
  | "unknown_protocol"
  | "unrecognized_name";

/** Options of {@link SallyportError}; `side` is "peer" and `retryable` false when absent. */
export interface ErrorDetails {
  /** Who has to act. */
  readonly side?: Side;
  /** Whether the same attempt may succeed later. */
  readonly retryable?: boolean;
  /** What it comes from. */
  readonly cause?: unknown;
}

/** An error with a stable code. Messages read "Cannot parse token: aes_key has 2 bytes, needs 32". */
export class SallyportError extends Error {
  /** What it is about. */
  readonly code: ErrorCode;
  /** Who has to act. */
  readonly side: Side;
  /** Whether the same attempt may succeed later. */
  readonly retryable: boolean;

  /** `message` is one line, "Cannot do this: why". */
  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "SallyportError";
    this.code = code;
    this.side = details.side ?? "peer";
    this.retryable = details.retryable ?? false;
  }
}

/** The code of any thrown value: a {@link SallyportError}'s own, `connection_lost` for everything else. */
export function errorCode(error: unknown): ErrorCode {
  return error instanceof SallyportError ? error.code : "connection_lost";
}

/** The message of any thrown value, on one line. */
export function errorMessage(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/\s+/g, " ");
}
