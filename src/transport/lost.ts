/**
 * How a session ends whose connection is gone.
 *
 * @module
 */
import { errorMessage, InternalError, SallyportError } from "../errors.ts";

/** The session's end, for this reason: an error's message, or a text. A fault of our own stays one. */
export function lostSession(why: unknown, cause?: unknown): SallyportError {
  if (why instanceof InternalError) return why;
  if (cause instanceof InternalError) return cause;
  return new SallyportError("connection_lost", `Session lost: ${errorMessage(why)}`, {
    side: "network",
    retryable: true,
    cause: cause ?? (why instanceof Error ? why : undefined),
  });
}
