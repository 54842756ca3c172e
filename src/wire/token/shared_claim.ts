/**
 * Whether several agents may serve a token's names at the same time: a member that SniTun doesn't know. It names the
 * agent, so that an edge can tell a newer session of the same agent, which replaces the older, from another agent's.
 *
 * @module
 */

/** The member's name, in a token's payload and in the session master's API. */
export const SHARED_MEMBER = "shared";

/** What may stand in it. */
export const SHARED_INSTANCE = /^[\w-]{8,64}$/;

/** The agent that shares its names; undefined where the token doesn't share. */
export function sharedInstance(extra: Readonly<Record<string, unknown>>): string | undefined {
  const value = extra[SHARED_MEMBER];
  return typeof value === "string" && SHARED_INSTANCE.test(value) ? value : undefined;
}
