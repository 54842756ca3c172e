/**
 * How a session ends whose connection is gone.
 *
 * @module
 */
import { errorMessage, SallyportError } from "../errors.ts";

/** The session's end, for this reason: an error's message, or a text. */
export function lostSession(why: unknown, cause?: unknown): SallyportError {
  return new SallyportError("connection_lost", `Cannot keep session: ${errorMessage(why)}`, {
    side: "network",
    retryable: true,
    cause: cause ?? (why instanceof Error ? why : undefined),
  });
}
