/**
 * Members of a token's payload that are unknown to SniTun, and that the session master's API accepts under the same
 * names: public ports, transports, and names shared by several agents.
 *
 * @module
 */

/** Maximum public ports in one token: tokens stay small, and no agent takes a whole range. */
export const PUBLISHED_PORTS_MAX = 16;

/** The member that lists public ports: `tcp` is any port of the edge's range, `tcp:2222` that one. */
export const PUBLISH_MEMBER = "publish";

/** One public port. Defaults to any port of the edge's range. */
export interface PublishClaim {
  readonly port?: number;
}

/** Writes a claim. */
export function formatPublishClaim({ port }: PublishClaim): string {
  return port === undefined ? "tcp" : `tcp:${port}`;
}

/** Reads a claim; undefined for malformed text. Port 0 means any port. */
export function parsePublishClaim(text: unknown): PublishClaim | undefined {
  const match = typeof text === "string" ? /^tcp(?::(0|[1-9]\d{0,4}))?$/.exec(text) : null;
  if (match === null) return undefined;
  const port = Number(match[1] ?? 0);
  if (port > 65_535) return undefined;
  return port === 0 ? {} : { port };
}

/** The claims of a token's extra members; none if they are malformed, so that nothing is allowed by mistake. */
export function publishClaims(extra: Readonly<Record<string, unknown>>): readonly PublishClaim[] {
  const value = extra[PUBLISH_MEMBER];
  if (!Array.isArray(value) || value.length > PUBLISHED_PORTS_MAX) return [];
  return value.map(parsePublishClaim).filter((claim) => claim !== undefined);
}

/** Whether claims allow `port`, or any port if it is undefined. */
export function claimsAllow(claims: readonly PublishClaim[], port: number | undefined): boolean {
  return claims.some((claim) => claim.port === undefined || claim.port === port);
}

/** The member that lists the transports a token may be used with. */
export const TRANSPORTS_MEMBER = "transports";

/** The form of a transport's name. */
export const TRANSPORT_NAME: RegExp = /^[a-z][a-z0-9-]{0,31}$/;

/** Maximum transports in one token. */
export const TRANSPORTS_MAX = 16;

/** The transports that a token names; undefined if it names none: any transport may be used. */
export function tokenTransports(extra: Readonly<Record<string, unknown>>): readonly string[] | undefined {
  const value = extra[TRANSPORTS_MEMBER];
  if (value === undefined) return undefined;
  // A malformed value allows no transport.
  return Array.isArray(value) ? value.filter((name) => typeof name === "string") : [];
}

/**
 * The member by which several agents serve a token's names at the same time. It names the agent: a newer session of the
 * same agent replaces the older one, another agent's does not.
 */
export const SHARED_MEMBER = "shared";

/** The form of its value. */
export const SHARED_INSTANCE = /^[\w-]{8,64}$/;

/** The agent that shares its names; undefined if the token does not share them. */
export function sharedInstance(extra: Readonly<Record<string, unknown>>): string | undefined {
  const value = extra[SHARED_MEMBER];
  return typeof value === "string" && SHARED_INSTANCE.test(value) ? value : undefined;
}
