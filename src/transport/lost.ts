/**
 * The end of a session whose connection is lost.
 *
 * @module
 */
import { errorMessage, InternalError, SallyportError } from "../errors.ts";

/** Builds the error for a lost session from an error or a text. An internal error is kept as such. */
export function lostSession(why: unknown, cause?: unknown): SallyportError {
  if (why instanceof InternalError) return why;
  if (cause instanceof InternalError) return cause;
  return new SallyportError("connection_lost", `Session lost: ${errorMessage(why)}`, {
    side: "network",
    retryable: true,
    cause: cause ?? (why instanceof Error ? why : undefined),
  });
}
