/**
 * Which public ports an agent may have: a member of its token that SniTun doesn't know, and the session master's request
 * for it. Each entry is one port: `tcp` is any of the edge's range, `tcp:2222` that one.
 *
 * @module
 */

/** Public ports of one agent's token; a token stays small, and nobody takes a whole range. */
export const PUBLISHED_PORTS_MAX = 16;

/** The member's name, in a token's payload and in the session master's API. */
export const PUBLISH_MEMBER = "publish";

/** One public port; no port is any one of the edge's range. */
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

/** The claims of a token's extra members; none where they aren't understood, so that nothing is allowed by mistake. */
export function publishClaims(extra: Readonly<Record<string, unknown>>): readonly PublishClaim[] {
  const value = extra[PUBLISH_MEMBER];
  if (!Array.isArray(value) || value.length > PUBLISHED_PORTS_MAX) return [];
  return value.map(parsePublishClaim).filter((claim) => claim !== undefined);
}

/** Whether claims allow a port, or any one where `port` is undefined. */
export function claimsAllow(claims: readonly PublishClaim[], port: number | undefined): boolean {
  return claims.some((claim) => claim.port === undefined || claim.port === port);
}
