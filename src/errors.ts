/**
 * Typed errors. Every failure that crosses a module boundary is a {@link SallyportError}: logs and metrics group by
 * `code`, `side` says who has to act, `retryable` whether the same attempt may succeed later.
 *
 * @module
 */

/** The origin of an error: the peer, this process, its operator's configuration, or the network. */
export type Side = "peer" | "local" | "config" | "network";

/** Error codes; they are stable, since they appear in logs, metrics and exit messages. */
export type ErrorCode =
  | "aborted"
  | "access_denied"
  | "address_invalid"
  | "address_in_use"
  | "authority_unreachable"
  | "certificate_refused"
  | "certificate_unavailable"
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
  | "endpoint_not_tls"
  | "endpoint_unreachable"
  | "frame_invalid"
  | "hello_invalid"
  | "host_unknown"
  | "internal"
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

/** Options of {@link SallyportError}; `retryable` defaults to false. */
export interface ErrorDetails {
  /** Who has to act. */
  readonly side: Side;
  /** Whether the same attempt may succeed later. */
  readonly retryable?: boolean;
  /** The underlying error. */
  readonly cause?: unknown;
  /** The other side wants no attempt sooner than this. */
  readonly retryAfterMs?: number;
}

/** An error with a stable code. Messages read "Cannot parse token: aes_key has 2 bytes, needs 32". */
export class SallyportError extends Error {
  /** The error's code. */
  readonly code: ErrorCode;
  /** Who has to act. */
  readonly side: Side;
  /** Whether the same attempt may succeed later. */
  readonly retryable: boolean;
  /** Milliseconds before which the other side wants no further attempt; undefined if it doesn't say. */
  readonly retryAfterMs: number | undefined;

  /** `message` is one line, "Cannot do this: why". */
  constructor(code: ErrorCode, message: string, details: ErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "SallyportError";
    this.code = code;
    this.side = details.side;
    this.retryable = details.retryable ?? false;
    this.retryAfterMs = details.retryAfterMs;
  }
}

/** The boundary that caught a fault of this program or of an embedder's callback. */
export type Boundary =
  | "accept"
  | "authorize"
  | "callback"
  | "connection"
  | "connector"
  | "datagram"
  | "handshake"
  | "http_request"
  | "process"
  | "service"
  | "session"
  | "stream"
  | "visitor";

/** A fault of this program or of an embedder's callback, never of the peer: code `internal`, side `local`. */
export class InternalError extends SallyportError {
  /** The boundary that caught it. */
  readonly where: Boundary;
  /** Whether it has been logged and counted; outer boundaries then don't report it again. */
  reported = false;

  /** `cause` is the thrown value; the log shows its stack. */
  constructor(where: Boundary, cause: unknown) {
    super("internal", `Internal error (${where}): ${errorMessage(cause)}`, { side: "local", cause });
    this.name = "InternalError";
    this.where = where;
  }
}

/**
 * Converts any thrown value at a boundary: a {@link SallyportError} is returned unchanged, everything else is a fault
 * of this program. Only boundaries call it (a session, a stream, a callback, the process); if a log and metrics are
 * available, they then pass the error to `reportFault`.
 */
export function internalError(where: Boundary, cause: unknown): SallyportError {
  return cause instanceof SallyportError ? cause : new InternalError(where, cause);
}

/** The code of any thrown value: a {@link SallyportError}'s own, `internal` for everything else. */
export function errorCode(error: unknown): ErrorCode {
  return error instanceof SallyportError ? error.code : "internal";
}

/** The message of any thrown value, on one line. */
export function errorMessage(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/\s+/g, " ");
}
