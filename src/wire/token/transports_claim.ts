/**
 * Which transports a token may be used with: a member that SniTun doesn't know, and the session master's request for it.
 *
 * @module
 */

/** The member's name, in a token's payload and in the session master's API. */
export const TRANSPORTS_MEMBER = "transports";

/** What a transport's name looks like. */
export const TRANSPORT_NAME: RegExp = /^[a-z][a-z0-9-]{0,31}$/;

/** Transports that a token may name. */
export const TRANSPORTS_MAX = 16;

/** The transports that a token names; undefined where it names none, and then it may be used with any. */
export function tokenTransports(extra: Readonly<Record<string, unknown>>): readonly string[] | undefined {
  const value = extra[TRANSPORTS_MEMBER];
  if (value === undefined) return undefined;
  // A value that isn't understood allows no transport.
  return Array.isArray(value) ? value.filter((name) => typeof name === "string") : [];
}
